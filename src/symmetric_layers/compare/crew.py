"""The processes that train together: started, told apart and kept in step by Lightning."""

import logging
import sys
import warnings
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import lightning.pytorch as pl
import torch
from lightning.fabric import Fabric
from lightning.fabric.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
from lightning.fabric.strategies import DDPStrategy

from symmetric_layers import SymmetryError
from symmetric_layers.compare.data import THREADS
from symmetric_layers.compare.scale import Scale, Share

_Value = TypeVar("_Value")
_PATIENCE = timedelta(days=7)  # the others wait while the first one tests


class Crew:
    """All processes of one command; one of them, the first, tests and writes files."""

    def __init__(self, scale: Scale | None = None) -> None:
        self.scale = scale or Scale()
        gpu = self.scale.accelerator == "gpu" or (self.scale.accelerator == "auto" and torch.cuda.is_available())
        self.accelerator = "gpu" if gpu else "cpu"
        self._check()
        for package in ("lightning.fabric", "lightning.pytorch"):
            logging.getLogger(package).setLevel(logging.ERROR)
        several = self.scale.processes > 1
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            self.fabric = Fabric(
                accelerator=self.accelerator,
                devices=self.scale.devices,
                num_nodes=self.scale.num_nodes,
                strategy=DDPStrategy(timeout=_PATIENCE) if several else "auto",
            )

    def _check(self) -> None:
        environments: dict[str, Any] = {"torchrun": TorchElasticEnvironment, "SLURM": SLURMEnvironment}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            found = {name: kind for name, kind in environments.items() if kind.detect()}
        self.scale.check_started({name: kind().world_size() for name, kind in found.items()})
        cards = torch.cuda.device_count()
        if self.accelerator == "gpu" and cards < self.scale.devices:
            raise SymmetryError(
                f"--accelerator: 'gpu' with --devices {self.scale.devices} is more than the {cards} graphics cards of "
                "this machine. Expected at most as many devices. Use fewer, or --accelerator=cpu."
            )
        self.scale.check_strategy(self.accelerator)
        if self.scale.devices > 1 and not found and (sys.argv[0] == "-c" or sys.argv[1:2] != ["compare"]):
            raise SymmetryError(
                f"--devices: {self.scale.devices} processes are started by running this command again, and this "
                "program is another one. Expected symmetric-layers, or python -m symmetric_layers. Run it from a shell."
            )

    def start(self) -> None:
        """Starts the other processes, or joins them."""
        self.fabric.launch()
        torch.set_num_threads(THREADS)

    def end(self) -> None:
        """Ends the processes that this one started."""
        for process in getattr(self.fabric.strategy.launcher, "procs", ()):
            process.terminate()

    @property
    def share(self) -> Share:
        """Which of the processes this one is."""
        return Share(self.fabric.global_rank, self.scale.processes)

    @property
    def first(self) -> bool:
        """Whether this is the process that tests and writes."""
        return self.share.rank == 0

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        return self.fabric.device

    def agree(self, ask: Callable[[], _Value]) -> _Value:
        """The first process's answer, in all of them: what one finds on a disk, another may not see yet."""
        return self.fabric.broadcast(ask() if self.first else None)  # type: ignore[return-value]

    def wait(self) -> None:
        """Until the device has done what it was told to do."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def trainer(self, **arguments: Any) -> pl.Trainer:
        """A trainer on the devices of the crew. What is not deterministic on graphics cards is allowed there."""
        several, cpu = self.scale.processes > 1, self.accelerator == "cpu"
        return pl.Trainer(
            accelerator=self.accelerator,
            devices=self.scale.devices,
            num_nodes=self.scale.num_nodes,
            strategy=self.scale.strategy if several else "auto",
            precision=self.scale.precision,  # type: ignore[arg-type]
            sync_batchnorm=several and not cpu,  # on processors the host has none: see joined.py
            use_distributed_sampler=False,
            deterministic=cpu,
            **arguments,
        )
