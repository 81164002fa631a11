"""Scikit-learn's handwritten digits: trained as written, asked for as written and mirrored."""

from functools import lru_cache

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from symmetric_layers.compare.data import Exam, Task
from symmetric_layers.compare.data.memory import exam, lesson

TESTED = 797


@lru_cache(maxsize=1)
def digits() -> tuple[Tensor, Tensor]:
    """All 1797 pictures, 8 by 8 pixels from 0 to 1, and what they are."""
    pictures, classes = load_digits(return_X_y=True)
    return torch.from_numpy(pictures.reshape(-1, 1, 8, 8).astype(np.float32) / 16), torch.from_numpy(classes).long()


def training(samples: int, seed: int, count: int) -> tuple[Tensor, Tensor]:
    """`count` pictures: the first few of a shuffled set, over and over, in a new order each time."""
    pictures, classes = digits()
    random = np.random.RandomState(seed)
    chosen = random.permutation(len(pictures))[TESTED:][:samples]
    rounds = -(-count // samples)
    order = np.concatenate([random.permutation(chosen) for _ in range(rounds)])[:count]
    return pictures[order], classes[order]


def testing(seed: int) -> Exam:
    """The pictures that training never sees."""
    pictures, classes = digits()
    chosen = np.random.RandomState(seed).permutation(len(pictures))[:TESTED]
    seen, truth = pictures[chosen], classes[chosen]
    return exam((seen, truth), (seen, truth), (seen.flip(-1), truth))


TASK = Task(
    name="digits",
    title="Digits as written, and mirrored",
    about=(
        "Scikit-learn's digits: 1797 handwritten digits of 8 by 8 pixels.",
        "Networks are trained on digits as they are written and tested on 797 others, as written and mirrored.",
        "Mirrored digits are no task anybody has: they show what a mirror-symmetric network knows without having "
        "seen it. Ordinary digits show what that costs, since a 2 and its mirror become one and the same.",
    ),
    kind="h",
    maps=False,
    score="accuracy",
    unit="pictures",
    sides=("as written", "mirrored"),
    classes=tuple("0123456789"),
    samples=(1000, 100),
    shape=(1, 8, 8),
    widths=(8, 16, 32),
    batch=50,
    batches=20,
    epochs=8,
    rate=1e-2,
    training=lesson(training, 10),
    testing=testing,
)
