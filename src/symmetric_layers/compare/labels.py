"""Labels of the left and of the right: what a mirror makes of maps and of answers. Loads no framework."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from symmetric_layers.errors import SymmetryError
from symmetric_layers.letters import axes

if TYPE_CHECKING:
    from torch import Tensor

Pairs = tuple[tuple[int, int], ...]
OPTION = "--left-right-labels"


def read_pairs(text: str) -> Pairs:
    """The pairs of values that a text names: `'3:4,7:8'`."""
    parts = [part.strip() for part in text.split(",")]
    if not all(re.fullmatch(r"\d+:\d+", part, re.ASCII) for part in parts):
        raise SymmetryError(
            f"{OPTION}: {text!r} is no list of pairs. Expected two values of the masks with a colon in between, and "
            "commas between pairs: 3:4,7:8. Write it so."
        )
    named = [[int(value) for value in part.split(":")] for part in parts]
    for value, times in sorted(Counter(value for pair in named for value in pair).items()):
        if times > 1:
            raise SymmetryError(
                f"{OPTION}: {text!r} names {value} more than once. Expected each value in one pair, with another one. "
                "Write every pair once."
            )
    return tuple(sorted((min(pair), max(pair)) for pair in named))


def places(pairs: Pairs, values: Sequence[int]) -> Pairs:
    """Where the values of the pairs stand among those of the masks; there are none where pictures have one class."""
    if pairs and not values:
        raise SymmetryError(
            f"{OPTION}: {written(pairs)!r} names values of masks, and these pictures have one class each. Expected a "
            "table with the column mask. Leave it out."
        )
    for value in sorted(value for pair in pairs for value in pair):
        if value not in values:
            raise SymmetryError(
                f"{OPTION}: {value} is no class of these masks. Expected values out of "
                f"{', '.join(map(str, values))}. Use those that stand in the masks."
            )
    return tuple((values.index(one), values.index(other)) for one, other in pairs)


def written(pairs: Pairs) -> str:
    """The pairs as the option takes them."""
    return ",".join(f"{one}:{other}" for one, other in pairs)


def about_sides(pairs: Pairs) -> tuple[str, ...]:
    """What a report says of them."""
    named = ", ".join(f"{one} and {other}" for one, other in pairs)
    said = (
        f"Left and right have labels of their own ({named}): wherever something is mirrored along 'h', these are "
        "exchanged, in the truth, in averages and in what counts as changed. The twins exchange them, too."
    )
    return (said,) if pairs else ()


def exchange(pairs: Pairs, classes: int) -> list[int]:
    """The class that stands for each one in a mirror between left and right."""
    found = list(range(classes))
    for one, other in pairs:
        found[one], found[other] = other, one
    return found


def map_seen(targets: Tensor, letters: str, pairs: Pairs) -> Tensor:
    """Maps of classes `(..., *positions)` in a mirror; what is below 0 is no class and stays what it is."""
    seen = targets.flip(axes(letters))
    if not pairs or "h" not in letters:
        return seen
    classes = max(int(targets.max()), *(place for pair in pairs for place in pair)) + 1
    partners = seen.new_tensor(exchange(pairs, classes))
    return partners[seen.clamp(min=0)].where(seen >= 0, seen)


def answers_seen(answers: Tensor, letters: str, pairs: Pairs) -> Tensor:
    """Answers `(N, classes, *positions)` in a mirror; those to whole pictures, without positions, stay as they are."""
    if answers.dim() == 2:
        return answers
    seen = answers.flip(axes(letters))
    return seen[:, exchange(pairs, seen.shape[1])] if pairs and "h" in letters else seen
