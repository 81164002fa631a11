"""The MNI152 brain inside nilearn: tissue labels on the left, asked for on the right."""

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from monai.transforms import AdjustContrast, NormalizeIntensity, RandBiasField, RandGaussianNoise
from nilearn import datasets
from torch import Tensor

from symmetric_layers.compare.data import IGNORE, Exam, Task
from symmetric_layers.compare.data.memory import exam, lesson

ROWS, COLUMNS = 93, 77  # both one more than a multiple of four: pooling twice keeps the midline in the middle
MIDLINE = COLUMNS // 2
LEAST = 1500  # brain pixels of a usable slice
BLOCK = 5  # neighbouring slices look alike, so training and testing take turns in blocks
TESTED = 12


@lru_cache(maxsize=1)
def slices() -> tuple[Tensor, Tensor, np.ndarray]:
    """Axial slices that show enough brain, their tissues, and their places along the body.

    Rows run from the front to the back, columns from the patient's left to the right. Pixels outside the brain have
    no tissue (`IGNORE`).
    """
    grey, white = (
        load(resolution=2).get_fdata() for load in (datasets.load_mni152_gm_template, datasets.load_mni152_wm_template)
    )
    intensity = datasets.load_mni152_template(resolution=2).get_fdata()
    brain = datasets.load_mni152_brain_mask(resolution=2).get_fdata() > 0
    tissue = np.where(brain, np.stack([1 - grey - white, grey, white]).argmax(0), IGNORE)
    places = np.flatnonzero(_crop(brain).sum((1, 2)) > LEAST)
    pictures = torch.from_numpy(_crop(intensity)[places].astype(np.float32))
    return pictures, torch.from_numpy(_crop(tissue)[places]), places


def _crop(volume: np.ndarray) -> np.ndarray:
    """The middle of each axial slice, front up, the patient's left on the left."""
    across, along = (volume.shape[0] - COLUMNS) // 2, 12  # 12: as much air before the brain as behind it
    middle = volume[across : across + COLUMNS, along : along + ROWS]
    return np.ascontiguousarray(middle.transpose(2, 1, 0)[:, ::-1])


def perturb(picture: Tensor, random: np.random.RandomState) -> Tensor:
    """A contrast, a bias field and noise of its own: brightness alone no longer tells the tissue."""
    steps = (
        AdjustContrast(float(np.exp(random.uniform(-0.3, 0.3)))),
        RandBiasField(prob=1.0, degree=3, coeff_range=(-0.3, 0.3)),
        RandGaussianNoise(prob=1.0, std=0.05, sample_std=False),
        NormalizeIntensity(),
    )
    value: Any = picture[None]
    for step in steps:
        if isinstance(step, RandBiasField | RandGaussianNoise):
            step.set_random_state(seed=int(random.randint(2**31)))
        value = step(value)
    return torch.from_numpy(np.asarray(value, np.float32))


def _only(side: slice, tissue: Tensor) -> Tensor:
    """The labels on one side of the midline."""
    seen = torch.full_like(tissue, IGNORE)
    seen[..., side] = tissue[..., side]
    return seen


def left(tissue: Tensor) -> Tensor:
    """The labels left of the midline, all others ignored."""
    return _only(slice(None, MIDLINE), tissue)


def right(tissue: Tensor) -> Tensor:
    """The labels right of the midline, all others ignored."""
    return _only(slice(MIDLINE + 1, None), tissue)


def training(samples: int, seed: int, count: int) -> tuple[Tensor, Tensor]:
    """`count` perturbed pictures of a few random slices, labelled on the left only."""
    pictures, tissue, places = slices()
    random = np.random.RandomState(seed)
    chosen = random.choice(np.flatnonzero(places // BLOCK % 2 == 0), samples, replace=False)
    order = chosen[random.randint(samples, size=count)]
    return torch.stack([perturb(pictures[index], random) for index in order]), left(tissue[order])


def testing(seed: int) -> Exam:
    """Twelve perturbed slices from the blocks that training never sees."""
    pictures, tissue, places = slices()
    odd = np.flatnonzero(places // BLOCK % 2 == 1)
    chosen = odd[np.linspace(0, len(odd) - 1, TESTED).round().astype(int)]
    random = np.random.RandomState(seed + 10_000)
    seen = torch.stack([perturb(pictures[index], random) for index in chosen])
    truth = tissue[chosen]
    return exam((seen, truth), (seen, left(truth)), (seen, right(truth)))


TASK = Task(
    name="brain",
    title="Brain tissue, labelled on the left half only",
    about=(
        "One brain: the MNI152 template that ships with nilearn (an average of 152 people), T1-weighted, with its "
        "maps of grey and white matter, at 2 mm.",
        "The template is mirror-symmetric by construction, so what is right on the left is right on the right. "
        "Real brains are only nearly so.",
        "Six axial slices are trained on, with tissue labels in the left hemisphere only; twelve slices from other "
        "blocks of the same brain are tested on. Noise, bias field and contrast are synthetic.",
        "This says nothing about new patients.",
    ),
    kind="h",
    maps=True,
    score="Dice",
    unit="brain pixels",
    sides=("left, labelled", "right, unlabelled"),
    classes=("other", "grey matter", "white matter"),
    samples=(6,),
    shape=(1, ROWS, COLUMNS),
    widths=(8, 16, 32),
    batch=4,
    batches=15,
    epochs=10,
    rate=2e-2,
    training=lesson(training, 3),
    testing=testing,
)
