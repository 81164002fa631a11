"""A first look at every file: what is broken is named, what does not fit is refused before anything is trained."""

import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from symmetric_layers import SymmetryError
from symmetric_layers.compare.data.files import read
from symmetric_layers.compare.data.listing import Entry

MOST_BROKEN = 0.01  # of all files; more is no accident
UNLABELLED = 255  # what masks write where there is no label, beside at least two other values


@dataclass(frozen=True)
class Facts:
    """What one picture tells about itself.

    Attributes:
        shape: channels, then positions.
        mean: of its numbers; `square` of their squares.
        values: how often each number occurs in its mask.
        across: whether its last axis is the patient's left and right, where its header says.
    """

    shape: tuple[int, ...]
    bytes: int
    mean: float
    square: float
    values: dict[int, int] = field(default_factory=dict)
    spacing: tuple[float, ...] | None = None
    across: bool | None = None


def scan(entries: Sequence[Entry], workers: int) -> tuple[list[Entry], list[Facts]]:
    """The pictures that can be read, and what they tell; warns of the others by name."""
    with ThreadPoolExecutor(max(workers, 1)) as pool:
        looks = list(pool.map(_look, entries))
    broken = [(entry, look) for entry, look in zip(entries, looks, strict=True) if isinstance(look, str)]
    named = "; ".join(f"{str(entry.image)!r} ({reason})" for entry, reason in broken[:10])
    if len(broken) > MOST_BROKEN * len(entries):
        raise SymmetryError(
            f"--data: {len(broken)} of {len(entries)} pictures cannot be read: {named}. Expected at most 1%. "
            "Mend or remove them."
        )
    if broken:
        warnings.warn(f"Skipped {len(broken)} of {len(entries)} pictures: {named}.", UserWarning, stacklevel=2)
    whole = [(entry, look) for entry, look in zip(entries, looks, strict=True) if isinstance(look, Facts)]
    facts = [look for _, look in whole]
    _alike(whole)
    return [entry for entry, _ in whole], facts


def _look(entry: Entry) -> Facts | str:
    try:
        found = read(entry)
    except SymmetryError:
        raise
    except Exception as error:  # whatever a reader makes of a broken file
        return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
    numbers = found.image.astype(np.float64)
    values: dict[int, int] = {}
    if found.mask is not None:
        kinds, counts = np.unique(found.mask, return_counts=True)
        values = dict(zip(kinds.tolist(), counts.tolist(), strict=True))
    return Facts(
        found.image.shape, found.image.nbytes, float(numbers.mean()), float((numbers**2).mean()), values,
        found.spacing, found.across,
    )  # fmt: skip


def _alike(whole: Sequence[tuple[Entry, Facts]]) -> None:
    """The same number of channels and axes everywhere."""
    first_entry, first = whole[0]
    for entry, facts in whole:
        if facts.shape[0] != first.shape[0] or len(facts.shape) != len(first.shape):
            counts = [f"{one.shape[0]} channels and {len(one.shape) - 1} axes" for one in (facts, first)]
            raise SymmetryError(
                f"--data: {str(entry.image)!r} has {counts[0]}. Expected {counts[1]}, as "
                f"{str(first_entry.image)!r}. Make them alike."
            )


def mask_values(facts: Sequence[Facts]) -> list[int]:
    """The values that are classes, in order."""
    found = sorted({value for one in facts for value in one.values})
    if len(found) > 2 and found[-1] == UNLABELLED:
        found.pop()
    if len(found) < 2:
        raise SymmetryError(
            f"--data: the masks hold {len(found)} value. Expected at least two classes. Look at the masks."
        )
    return found
