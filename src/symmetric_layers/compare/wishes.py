"""What the options of the command ask for, checked before anything slow is loaded; and the task that follows."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from symmetric_layers import SymmetryError
from symmetric_layers.compare.data import NAMES, load
from symmetric_layers.compare.labels import Pairs, read_pairs
from symmetric_layers.errors import whole_number
from symmetric_layers.letters import canonical_kind

if TYPE_CHECKING:
    from symmetric_layers.compare.data import Task

_TABLES = (".csv", ".json")


@dataclass(frozen=True)
class Wishes:
    """The options about data and networks, as they were written; None where nothing was said."""

    data: str
    model: str | None = None
    model_args: str | None = None
    axes: str | None = None
    symmetry: str | None = None
    size: str | None = None
    batch: str | None = None
    workers: str = "0"
    cache: str = "1024"
    train_sizes: str | None = None
    left_right_labels: str | None = None

    @property
    def own(self) -> bool:
        """Whether these are somebody's own data."""
        return self.data not in NAMES

    def check(self) -> "Wishes":
        """The same, if they can be meant."""
        path = Path(self.data)
        if self.own and not (path.is_dir() or (path.is_file() and path.suffix.lower() in _TABLES)):
            raise SymmetryError(
                f"--data: {self.data!r} is no choice here. Expected {', '.join(map(repr, NAMES))}, a folder with one "
                "subfolder per class, or a table (.csv, .json). Use one of these."
            )
        for name in ("size", "batch", "left_right_labels") if not self.own else ():
            if getattr(self, name) is not None:
                raise SymmetryError(
                    f"--{name.replace('_', '-')}: the data set {self.data!r} has its own. Expected this option with a "
                    "folder or a table. Leave it out."
                )
        if self.axes is not None:
            canonical_kind(self.axes, 3, "--axes")
        for name in ("model_args", "symmetry"):
            _object(f"--{name.replace('_', '-')}", getattr(self, name))
        self._pairs()
        number("--workers", self.workers, 0)
        number("--cache", self.cache, 0)
        return self

    def _pairs(self) -> Pairs:
        """The values of the masks that a mirror exchanges."""
        pairs = () if self.left_right_labels is None else read_pairs(self.left_right_labels)
        if pairs and "h" not in (self.axes or "h"):
            raise SymmetryError(
                f"--left-right-labels: {self.left_right_labels!r} is exchanged by mirrors along 'h', and --axes is "
                f"{self.axes!r}. Expected an 'h' among the letters. Add it, or leave the labels out."
            )
        return pairs

    def spoken(self) -> dict[str, str]:
        """The options that differ from what is usual, by name."""
        usual = {field.name: field.default for field in fields(self)}
        said = {name: getattr(self, name) for name in usual if name != "data" and getattr(self, name) != usual[name]}
        return {name.replace("_", "-"): value for name, value in said.items()}

    def task(self) -> "Task":
        """The task, with the network and the mirrors that are asked for."""
        if self.own:
            from symmetric_layers.compare.data import own

            kind = canonical_kind(self.axes or "h", 3, "--axes")
            size = None if self.size is None else tuple(number("--size", part) for part in self.size.split("x"))
            batch = None if self.batch is None else number("--batch", self.batch)
            workers, cache = number("", self.workers, 0), number("", self.cache, 0)
            task = own.load(Path(self.data), own.Reading(kind, size, batch, workers, cache, self._pairs()))
        else:
            task = load(self.data)
        return self._networks(task)

    def _networks(self, task: "Task") -> "Task":
        kind = canonical_kind(self.axes or task.kind, len(task.shape) - 1, "--axes")
        arguments, model = _object("--model-args", self.model_args), self.model or "small"
        widths = task.widths
        if model == "unet":
            widths = (16, 32, 64, 128)
            if not task.maps:
                raise SymmetryError(
                    "--model: 'unet' gives a class to every pixel. Expected a network that gives one to the picture. "
                    "Use --model=small, or name another."
                )
        if model in ("small", "unet") and arguments:
            widths = _widths(arguments)
        samples = _sizes(self.train_sizes, max(task.samples)) if self.train_sizes else task.samples
        json_of = lambda value: json.dumps(value, sort_keys=True)  # noqa: E731
        return replace(
            task, kind=kind, model=model, arguments=json_of(arguments), widths=widths, samples=samples,
            symmetry=json_of(_object("--symmetry", self.symmetry)) if self.symmetry else "",
        )  # fmt: skip


def number(option: str, text: str, least: int = 1) -> int:
    """The whole number that a text says."""
    return whole_number(option, int(text) if text.isascii() and text.isdigit() else text, least)


def _object(option: str, text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise SymmetryError(f'{option}: {text!r} is no JSON object. Expected {{"name": value, ...}}. Write it so.')
    return found


def _widths(arguments: Mapping[str, Any]) -> tuple[int, ...]:
    if set(arguments) != {"widths"} or not isinstance(arguments["widths"], list) or not arguments["widths"]:
        raise SymmetryError(
            f'--model-args: {json.dumps(arguments)} is nothing that this model takes. Expected {{"widths": '
            "[8, 16, 32]}, the channels of each level. Give that, or nothing."
        )
    return tuple(whole_number("--model-args", width, 1) for width in arguments["widths"])


def _sizes(text: str, most: int) -> tuple[int, ...]:
    """Numbers of training pictures, largest first: `'25,50,100%'` are percentages, `'50,200'` numbers."""
    parts = [part.strip() for part in text.split(",")]
    share = parts[-1].endswith("%")
    found = [number("--train-sizes", part.removesuffix("%")) for part in parts]
    sizes = {max(1, round(size * most / 100)) if share else size for size in found}
    if max(sizes) > most:
        raise SymmetryError(
            f"--train-sizes: {text!r} asks for {max(sizes)} pictures. Expected at most {most}, those for training. "
            "Ask for fewer."
        )
    return tuple(sorted(sizes, reverse=True))
