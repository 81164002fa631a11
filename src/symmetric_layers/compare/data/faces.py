"""Scikit-image's faces with one half covered: trained with the left half, asked for with the right half."""

from functools import lru_cache

import numpy as np
import torch
from skimage.data import lfw_subset
from torch import Tensor

from symmetric_layers.compare.data import Exam, Task
from symmetric_layers.compare.data.memory import exam, lesson

SIZE = 25
MIDDLE = SIZE // 2


@lru_cache(maxsize=1)
def patches() -> tuple[Tensor, Tensor]:
    """200 pictures of 25 by 25 pixels with mean 0 and deviation 1; class 1 is a face, class 0 is none."""
    pictures = torch.from_numpy(lfw_subset().astype(np.float32))[:, None]
    deviation, mean = torch.std_mean(pictures, (2, 3), keepdim=True)
    return (pictures - mean) / (deviation + 1e-6), (torch.arange(200) < 100).long()


def cover(pictures: Tensor, side: str) -> Tensor:
    """The pictures with their left or right half grey; the middle column stays."""
    covered = pictures.clone()
    covered[..., slice(None, MIDDLE) if side == "left" else slice(MIDDLE + 1, None)] = 0
    return covered


def training(samples: int, seed: int, count: int) -> tuple[Tensor, Tensor]:
    """`count` pictures with their right half covered, in a new order each time round."""
    pictures, classes = patches()
    random = np.random.RandomState(seed)
    chosen = random.permutation(len(pictures))[:samples]
    rounds = -(-count // samples)
    order = np.concatenate([random.permutation(chosen) for _ in range(rounds)])[:count]
    return cover(pictures[order], "right"), classes[order]


def testing(seed: int) -> Exam:
    """The other pictures, with the right half covered and with the left half covered."""
    pictures, classes = patches()
    chosen = np.random.RandomState(seed).permutation(len(pictures))[TASK.samples[0] :]
    seen, truth = cover(pictures[chosen], "right"), classes[chosen]
    return exam((seen, truth), (seen, truth), (cover(pictures[chosen], "left"), truth))


TASK = Task(
    name="faces",
    title="Half faces, trained on one side only",
    about=(
        "Scikit-image's lfw_subset: 100 faces and 100 patches that are none, 25 by 25 pixels.",
        "Networks are trained on 100 pictures with the right half covered, and tested on the other 100 with the right "
        "half covered, as in training, and with the left half covered.",
        "Faces are only nearly mirror-symmetric: the half that is seen in one test is not the mirror of the other, so "
        "even a mirror-symmetric network scores differently on them. With so few pictures, one of them is 0.01.",
    ),
    kind="h",
    maps=False,
    score="accuracy",
    unit="pictures",
    sides=("left half seen", "right half seen"),
    classes=("no face", "face"),
    samples=(100,),
    shape=(1, SIZE, SIZE),
    widths=(8, 16, 32),
    batch=20,
    batches=10,
    epochs=8,
    rate=1e-2,
    training=lesson(training, 2),
    testing=testing,
)
