"""The data sets: what one is, and which there are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor
    from torch.utils.data import Dataset

    from symmetric_layers.compare.labels import Pairs

NAMES = ("brain", "digits", "faces", "textures")
THREADS = 1  # numbers that do not depend on the cores; and on shared cores threads wait longer than they work
IGNORE = -100  # the target of pixels that have no label: losses and scores leave them out


class Lesson(NamedTuple):
    """What is trained on.

    Attributes:
        pictures: pairs of a picture and its target, in the order in which they are trained on.
        counts: how often each class has a label among them.
    """

    pictures: Dataset
    counts: Tensor


class Exam(NamedTuple):
    """What is predicted, and what is right.

    Attributes:
        pictures: pairs of a picture `(C, *positions)` and the whole truth about it: a map, or a class. Disagreement
            with the mirrored picture is measured here.
        sides: two sets of pictures and targets: like the training data, and their mirrors.
    """

    pictures: Dataset
    sides: tuple[Dataset, Dataset]


@dataclass(frozen=True)
class Told:
    """What a report says of a task; see there."""

    title: str
    about: tuple[str, ...]
    kind: str
    maps: bool
    score: str
    unit: str
    sides: tuple[str, str]
    classes: tuple[str, ...]
    samples: tuple[int, ...]
    asked: int


@dataclass(frozen=True)
class Task:
    """One data set, and how networks are trained on it.

    Attributes:
        about: what the data are, in honest sentences.
        kind: the mirrors of the twins.
        maps: whether every pixel gets a class (a U-Net) or the picture one (a classifier).
        unit: what `changed` counts.
        sides: names of the two test sides, in the order of `Exam.sides`.
        samples: numbers of training pictures; each is a comparison of its own.
        shape: of one picture: its channels, then its positions.
        widths: the channels of each level of the plain network.
        batches: how many batches an epoch has, however many pictures there are.
        training: from samples, seed and how many: what is trained on.
        testing: from a seed: the test pictures.
        validation: from a seed: the pictures that choose the best epoch; None where the last one is taken.
        scored: the first class that counts in Dice: 1 where class 0 is background.
        asked: which of the two sides the closing sentence is about.
        facts: what else shapes a run: names and values for the settings.
        workers: how many processes read pictures.
        model: the plain network: 'small', 'unet', 'monai:NAME' or 'package.module:function'.
        arguments: for the model, in JSON.
        symmetry: of the drop-in banks, in JSON; half of each layer's filters where nothing is said.
        pairs: classes, by number, that a mirror between left and right exchanges.
    """

    name: str
    title: str
    about: tuple[str, ...]
    kind: str
    maps: bool
    score: str
    unit: str
    sides: tuple[str, str]
    classes: tuple[str, ...]
    samples: tuple[int, ...]
    shape: tuple[int, ...]
    widths: tuple[int, ...]
    batch: int
    batches: int
    epochs: int
    rate: float
    training: Callable[[int, int, int], Lesson]
    testing: Callable[[int], Exam]
    decay: float = 1e-3
    validation: Callable[[int], Dataset] | None = None
    scored: int = 0
    asked: int = 1
    facts: tuple[tuple[str, Any], ...] = ()
    workers: int = 0
    model: str = "small"
    arguments: str = "{}"
    symmetry: str = ""
    pairs: Pairs = ()

    def told(self) -> dict[str, Any]:
        """What a report says of the task."""
        return {name: getattr(self, name) for name in Told.__annotations__}

    def settings(self, epochs: int | None = None) -> dict[str, Any]:
        """What shapes a run; runs with the same settings and seed are the same run."""
        return {
            "data": self.name,
            "kind": self.kind,
            "samples": list(self.samples),
            "widths": list(self.widths),
            "epochs": epochs or self.epochs,
            "batches_per_epoch": self.batches,
            "batch": self.batch,
            "threads": THREADS,
            "optimizer": "AdamW, one-cycle",
            "learning_rate": self.rate,
            "weight_decay": self.decay,
            "model": self.model,
            "model_arguments": self.arguments,
            "symmetry": self.symmetry or None,
            **dict(self.facts),
        }


def load(name: str) -> Task:
    """The data set of this name."""
    task: Task = import_module(f"symmetric_layers.compare.data.{name}").TASK
    return task


def length(pictures: Dataset) -> int:
    """How many pictures there are."""
    return len(pictures)  # type: ignore[arg-type]
