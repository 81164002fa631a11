"""On how many processors or machines networks are trained: the options, before anything slow is loaded."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from symmetric_layers import SymmetryError
from symmetric_layers.errors import one_of

STRATEGIES = ("ddp", "fsdp")
PRECISIONS = ("32-true", "64-true", "bf16-mixed")
ACCELERATORS = ("cpu", "gpu", "auto")


class Share(NamedTuple):
    """Which pictures of every batch belong to this process: every `of`-th one, from `rank` on."""

    rank: int
    of: int


ALONE = Share(0, 1)


@dataclass(frozen=True)
class Scale:
    """How a training is spread, in Lightning's words.

    Attributes:
        devices: processes on each machine, one per device.
        num_nodes: machines.
        strategy: `'ddp'`: every process holds the network; `'fsdp'`: each holds a part of it.
        precision: in which a training computes; predictions are always computed in float32.
    """

    devices: int = 1
    num_nodes: int = 1
    strategy: str = "ddp"
    precision: str = "32-true"
    accelerator: str = "cpu"

    def __post_init__(self) -> None:
        """Refuses what cannot be meant."""
        one_of("--strategy", self.strategy, STRATEGIES)
        one_of("--precision", self.precision, PRECISIONS)
        one_of("--accelerator", self.accelerator, ACCELERATORS)
        if self.strategy == "fsdp" and self.processes == 1:
            raise SymmetryError(
                "--strategy: 'fsdp' shares a network among devices, and there is 1. Expected at least 2. Use "
                "--devices=2, or leave it out."
            )
        if self.strategy == "fsdp" and self.precision == "64-true":
            raise SymmetryError(
                "--precision: '64-true' is nothing for 'fsdp'. Expected '32-true' or 'bf16-mixed'. Use one "
                "of these, or --strategy=ddp."
            )
        self.check_strategy(self.accelerator)

    @property
    def processes(self) -> int:
        """On all machines together."""
        return self.devices * self.num_nodes

    def spoken(self) -> dict[str, Any]:
        """The options that differ from what is usual, by name."""
        said = {field.name: getattr(self, field.name) for field in fields(self)}
        usual = {field.name: field.default for field in fields(self)}
        return {name.replace("_", "-"): value for name, value in said.items() if value != usual[name]}

    def settings(self) -> dict[str, Any]:
        """What shapes the numbers, if only by rounding, and the seconds: what differs from one process here."""
        names = {"processes": (self.processes, 1), "precision": (self.precision, "32-true")}
        names |= {"accelerator": (self.accelerator, "cpu"), "strategy": (self.strategy, "ddp")}
        return {name: value for name, (value, usual) in names.items() if value != usual}

    def check_strategy(self, accelerator: str) -> None:
        """Refuses what Lightning has for graphics cards only."""
        if self.strategy == "fsdp" and accelerator == "cpu":
            raise SymmetryError(
                "--strategy: 'fsdp' shares a network among graphics cards, and the accelerator is 'cpu'. Expected "
                "'ddp' there. Use --strategy=ddp, or --accelerator=gpu."
            )

    def check_batch(self, batch: int) -> None:
        """Refuses batches of which processes would get unequal shares."""
        if batch % self.processes:
            fits = ", ".join(str(count) for count in range(1, batch + 1) if batch % count == 0)
            raise SymmetryError(
                f"--devices: {self.processes} processes do not share a batch of {batch} pictures evenly. Expected one "
                f"of {fits} processes. Use as many, or another --batch if these are your own data."
            )

    def check_started(self, started: Mapping[str, int]) -> None:
        """Refuses numbers that contradict what has started the processes: names of starters, and how many each says."""
        for name, count in started.items():
            if count != self.processes:
                raise SymmetryError(
                    f"--devices: {self.devices} times --num-nodes {self.num_nodes} is {self.processes}, but {name} "
                    f"started {count} processes. Expected the same number. Use --devices for those of one machine, "
                    "and --num-nodes for the machines."
                )
