"""Scikit-image's photographs of brick, grass and gravel, from few noisy patches."""

from functools import lru_cache

import numpy as np
import torch
from skimage.data import brick, grass, gravel
from torch import Tensor

from symmetric_layers.compare.data import Exam, Task
from symmetric_layers.compare.data.memory import exam, lesson

SIZE = 32
NOISE = 1.0  # in deviations of the patch
TESTED = 100  # patches of each texture


@lru_cache(maxsize=1)
def photographs() -> np.ndarray:
    """The three photographs, `(3, 512, 512)`, from 0 to 1."""
    return np.stack([brick(), grass(), gravel()]).astype(np.float32) / 255


def patches(each: int, columns: tuple[int, int], random: np.random.RandomState) -> tuple[Tensor, Tensor]:
    """Random patches of each texture from these columns, with mean 0, deviation 1, and noise on top."""
    found = []
    for photograph in photographs():
        for _ in range(each):
            top, left = random.randint(512 - SIZE), random.randint(columns[0], columns[1] - SIZE)
            patch = photograph[top : top + SIZE, left : left + SIZE]
            patch = (patch - patch.mean()) / (patch.std() + 1e-6)
            found.append(patch + NOISE * random.randn(SIZE, SIZE).astype(np.float32))
    return torch.from_numpy(np.stack(found))[:, None], torch.arange(3).repeat_interleave(each)


def training(samples: int, seed: int, count: int) -> tuple[Tensor, Tensor]:
    """`count` pictures: a few patches from the left halves of the photographs, over and over in a new order."""
    random = np.random.RandomState(seed)
    pictures, classes = patches(samples // 3, (0, 256), random)
    order = np.concatenate([random.permutation(samples) for _ in range(-(-count // samples))])[:count]
    return pictures[order], classes[order]


def testing(seed: int) -> Exam:
    """Patches from the right halves, as photographed and mirrored along both axes."""
    seen, truth = patches(TESTED, (256, 512), np.random.RandomState(seed + 10_000))
    return exam((seen, truth), (seen, truth), (seen.flip((-1, -2)), truth))


TASK = Task(
    name="textures",
    title="Three textures from few noisy patches",
    about=(
        "Scikit-image's photographs of brick, grass and gravel: one photograph each.",
        "Networks are trained on 24 noisy patches of 32 by 32 pixels from the left halves and tested on 300 from the "
        "right halves, as photographed and mirrored along both axes.",
        "One photograph is not a material: the light, for one, always falls from the same side.",
    ),
    kind="hv",
    maps=False,
    score="accuracy",
    unit="pictures",
    sides=("as photographed", "mirrored"),
    classes=("brick", "grass", "gravel"),
    samples=(24,),
    shape=(1, SIZE, SIZE),
    widths=(8, 16, 32),
    batch=12,
    batches=10,
    epochs=10,
    rate=1e-2,
    training=lesson(training, 3),
    testing=testing,
)
