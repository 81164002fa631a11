"""Somebody's own data set, as a task like the built-in ones."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from monai.data import CacheDataset
from monai.transforms import Compose
from torch.utils.data import Dataset, Subset

from symmetric_layers import SymmetryError
from symmetric_layers.compare.data import Exam, Lesson, Task
from symmetric_layers.compare.data.items import Fit, Mirrored, Ready
from symmetric_layers.compare.data.listing import entries, is_volume
from symmetric_layers.compare.data.scan import Facts, mask_values, scan
from symmetric_layers.compare.data.splits import Split, in_turn
from symmetric_layers.compare.labels import Pairs, about_sides, places, written

BATCH = {(False, 2): 32, (True, 2): 4, (True, 3): 2, (False, 3): 4}  # maps?, axes


@dataclass(frozen=True)
class Reading:
    """How somebody's own data are read.

    Attributes:
        axes: the letters along which the twins mirror.
        size: of the pictures, if not their own.
        cache: megabytes of pictures that are kept in memory.
        pairs: values of the masks that a mirror between left and right exchanges.
    """

    axes: str = "h"
    size: tuple[int, ...] | None = None
    batch: int | None = None
    workers: int = 0
    cache: int = 1024
    pairs: Pairs = ()


class Own:
    """The pictures of a folder or a table, read when they are asked for."""

    def __init__(self, path: Path, reading: Reading) -> None:
        self.path, self.reading = path, reading
        self.entries, self.facts = scan(entries(path), reading.workers)
        self.maps = self.entries[0].mask is not None
        self.values = mask_values(self.facts) if self.maps else []
        self.labels = sorted({str(entry.label) for entry in self.entries}, key=_by_number) if not self.maps else []
        self.split = Split(self.entries)
        self.spacing = self._spacing()
        self.size = reading.size or self._size()
        self.rank = len(self.facts[0].shape) - 1
        if len(self.size) != self.rank:
            raise SymmetryError(
                f"--size: {'x'.join(map(str, self.size))} has {len(self.size)} numbers. Expected {self.rank}, one for "
                "every axis of the pictures. Give as many."
            )
        self._check_axes()
        self.pairs = places(reading.pairs, self.values)

    @cached_property
    def pictures(self) -> Dataset:
        """All pictures, some of them kept in memory."""
        known = [self.facts[number] for number in self.split.rest]  # test pictures decide nothing
        if is_volume(self.entries[0].image):
            scale = None
        else:
            mean = sum(fact.mean for fact in known) / len(known)
            scale = mean, max(sum(fact.square for fact in known) / len(known) - mean**2, 1e-12) ** 0.5
        fit = Fit(self.size, self.spacing, tuple(self.values), tuple(self.labels))
        kept = int(self.reading.cache * 2**20 / max(fact.bytes for fact in self.facts))
        steps = Compose([fit, Ready(scale)], map_items=False)
        workers = max(self.reading.workers, 1)
        return CacheDataset(self.entries, steps, kept, num_workers=workers, progress=False, copy_cache=False)

    def _spacing(self) -> tuple[float, ...] | None:
        """The middle one of all spacings, rounded: pictures of other spacings are resampled."""
        known = [fact.spacing for fact in self.facts if fact.spacing is not None]
        return tuple(round(median(steps), 4) for steps in zip(*known, strict=True)) if known else None

    def _size(self) -> tuple[int, ...]:
        """The largest size of maps, which are padded; the middle one of pictures with one class, which are resized."""
        sizes = list(zip(*(self._spaced(fact) for fact in self.facts), strict=True))
        return tuple(max(each) if self.maps else int(median(each)) for each in sizes)

    def _spaced(self, fact: Facts) -> tuple[int, ...]:
        if fact.spacing is None or self.spacing is None:
            return fact.shape[1:]
        steps = zip(fact.shape[1:], fact.spacing, self.spacing, strict=True)
        return tuple(max(1, round(size * old / new)) for size, old, new in steps)

    def _check_axes(self) -> None:
        for entry, fact in zip(self.entries, self.facts, strict=True):
            if fact.across is False and "h" in self.reading.axes:
                raise SymmetryError(
                    f"--axes: {self.reading.axes!r} does not fit {str(entry.image)!r}, whose header says that its "
                    "columns are not the patient's left and right. Expected letters of other axes. Use such."
                )

    def counts(self, numbers: Sequence[int]) -> torch.Tensor:
        """How often each class has a label in these pictures."""
        if not self.maps:
            names = [self.labels.index(str(self.entries[number].label)) for number in numbers]
            return torch.bincount(torch.tensor(names), minlength=len(self.labels))
        return torch.tensor(
            [sum(self.facts[number].values.get(value, 0) for number in numbers) for value in self.values]
        )

    def training(self, samples: int, seed: int, count: int) -> Lesson:
        """`count` pictures: the first few of a shuffled set, over and over, in a new order each time."""
        random, numbers = np.random.RandomState(seed), self.split.parts(seed)[0]
        chosen = numbers[in_turn([self.entries[number].label for number in numbers], random)][:samples]
        order = np.concatenate([random.permutation(chosen) for _ in range(ceil(count / len(chosen)))])[:count]
        return Lesson(Subset(self.pictures, order.tolist()), self.counts(chosen.tolist()))

    def validation(self, seed: int) -> Dataset:
        """The pictures that choose the best epoch."""
        return Subset(self.pictures, self.split.parts(seed)[1].tolist())

    def testing(self, seed: int) -> Exam:
        """The same test pictures for every seed, as they are and mirrored."""
        straight = Subset(self.pictures, self.split.test.tolist())
        return Exam(straight, (straight, Mirrored(straight, self.reading.axes, self.pairs)))

    def about(self) -> tuple[str, ...]:
        """What the data are, in honest sentences."""
        train, choose = self.split.parts(0)
        what = "a class for every pixel" if self.maps else f"one of {len(self.labels)} classes each"
        size = " x ".join(map(str, self.size))
        given = f"The table gives the parts {', '.join(self.split.given)}. " if self.split.given else ""
        told = "padded or cropped" if self.maps else "resized"
        return (
            f"{len(self.entries)} pictures from {self.path.name!r}, with {what}, {told} to {size} where they differ.",
            f"{given}{len(train)} pictures are for training, {len(choose)} choose the best epoch, "
            f"{len(self.split.test)} are tested. The test pictures are the same for every seed, and nothing was chosen "
            "by them.",
            "The spread over seeds is that of training and of the choice of training pictures; other test pictures "
            "would spread more.",
            *about_sides(self.reading.pairs),
        )

    def facts_of_runs(self) -> dict[str, Any]:
        """What shapes a run, for the settings."""
        told = [(str(entry.image), entry.label, str(entry.mask), entry.part, entry.group) for entry in self.entries]
        train, choose = self.split.parts(0)
        parts = {"training": len(train), "validation": len(choose), "test": len(self.split.test)}
        listing = hashlib.sha256(repr(told).encode()).hexdigest()[:16]
        sides = {"left_right_labels": written(self.reading.pairs)} if self.pairs else {}
        return {"pictures": parts, "listing": listing, "size": list(self.size), "spacing": self.spacing, **sides}


def load(path: Path, reading: Reading) -> Task:
    """The task that a folder or a table is."""
    own = Own(path, reading)
    train = len(own.split.parts(0)[0])
    batch = min(reading.batch or BATCH[own.maps, own.rank], train)
    return Task(
        name=str(path),
        title=f"{path.name}: {'maps' if own.maps else 'classes'} of {len(own.entries)} pictures",
        about=own.about(),
        kind=reading.axes,
        maps=own.maps,
        score="Dice" if own.maps else "accuracy",
        unit=("pixels" if own.rank == 2 else "voxels") if own.maps else "pictures",
        sides=("test", "test, mirrored"),
        classes=tuple(map(str, own.values)) if own.maps else tuple(own.labels),
        samples=(train,),
        shape=(own.facts[0].shape[0], *own.size),
        widths=(8, 16, 32),
        batch=batch,
        batches=max(10, ceil(train / batch)),
        epochs=20,
        rate=1e-2,
        training=own.training,
        testing=own.testing,
        validation=own.validation,
        scored=int(own.maps and own.values[0] == 0),
        asked=0,
        facts=tuple(own.facts_of_runs().items()),
        workers=reading.workers,
        pairs=own.pairs,
    )


def _by_number(text: str) -> tuple[Any, ...]:
    return (0, int(text), text) if text.isdigit() else (1, 0, text)
