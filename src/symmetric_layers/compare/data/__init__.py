"""The data sets: what one is, and which there are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

NAMES = ("brain", "digits", "faces", "textures")
THREADS = 1  # numbers that do not depend on the cores; and on shared cores threads wait longer than they work
IGNORE = -100  # the target of pixels that have no label: losses and scores leave them out


@dataclass(frozen=True)
class Exam:
    """What is predicted, and what is right.

    Attributes:
        pictures: `(N, 1, H, W)`, in which disagreement with the mirrored picture is measured.
        truth: the whole truth about them, `(N, H, W)` for maps, `(N,)` for classes.
        sides: two pairs of pictures and targets: like the training data, and their mirrors.
        region: `(N, H, W)`, the pixels that count; None for classes.
    """

    pictures: Tensor
    truth: Tensor
    sides: tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]
    region: Tensor | None = None


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
        widths: the channels of each level of the plain network.
        batches: how many batches an epoch has, however many pictures there are.
        training: from samples, seed and how many: the pictures and targets in the order in which they are trained on.
        testing: from a seed: the test pictures.
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
    widths: tuple[int, ...]
    batch: int
    batches: int
    epochs: int
    rate: float
    training: Callable[[int, int, int], tuple[Tensor, Tensor]]
    testing: Callable[[int], Exam]
    decay: float = 1e-3

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
        }


def load(name: str) -> Task:
    """The data set of this name."""
    task: Task = import_module(f"symmetric_layers.compare.data.{name}").TASK
    return task
