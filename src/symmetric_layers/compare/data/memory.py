"""Data sets that fit into memory: the built-in ones."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from symmetric_layers.compare.data import IGNORE, Exam, Lesson

Pair = tuple[Tensor, Tensor]


def lesson(training: Callable[[int, int, int], Pair], classes: int) -> Callable[[int, int, int], Lesson]:
    """What is trained on, from a function that makes all pictures and targets of a training."""

    def made(samples: int, seed: int, count: int) -> Lesson:
        pictures, targets = training(samples, seed, count)
        return Lesson(TensorDataset(pictures, targets), torch.bincount(targets[targets != IGNORE], minlength=classes))

    return made


def exam(pictures: Pair, one: Pair, other: Pair) -> Exam:
    """What is tested: all test pictures with the truth, then those of both sides."""
    return Exam(TensorDataset(*pictures), (TensorDataset(*one), TensorDataset(*other)))
