"""How wide a converted network is, and what it starts from.

Only the standard library is used here, nothing that is slow to import.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import NamedTuple

from symmetric_layers.errors import SymmetryError, one_of, whole_number
from symmetric_layers.letters import orbit_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Sequence


class Start(NamedTuple):
    """How wide new layers are, and what they start from.

    Attributes:
        width: how many times as many channels are orbits.
        size: the size of one orbit.
        average: whether the network starts as the mirror average of the old one (one orbit for every channel).
    """

    width: Fraction = Fraction(1)
    size: int = 1
    average: bool = False

    @property
    def is_fresh(self) -> bool:
        """Whether filters are drawn anew: there are other ones than before."""
        return self.width != 1 and not self.average

    def wide(self, channels: int) -> int:
        """How many channels there are now."""
        return int(channels * self.width)

    def chosen(self, channels: int) -> list[int]:
        """The old channel whose numbers each orbit starts from."""
        return [int(orbit * self.size / self.width) for orbit in range(self.wide(channels) // self.size)]

    def whole(self, name: str, channels: int, kind: str, groups: int = 1) -> dict[str, int]:
        """The orbits of a layer that had so many channels; refused where these make no whole ones in every group."""
        size = self.width.denominator * orbit_size(kind)
        size = size // math.gcd(size, self.width.numerator) * groups
        if channels % size:
            seen = f"{channels} output channels" if groups == 1 else f"{channels} output channels in {groups} groups"
            raise SymmetryError(
                f"model: {name!r} has {seen}, which are no whole orbits of {kind!r}. "
                f"Expected a multiple of {size}. Use such a number, or keep that part ordinary with keep."
            )
        return {kind: self.wide(channels)}


def check_start(width: Any, init: Any, kind: str) -> None:
    """Refuses what is no width, no start, or no width for that start."""
    init, size = one_of("init", init, ("own", "average")), orbit_size(kind)
    if width != "parameters":
        whole_number("width", width, 1)
    if init == "average" and width != size:
        raise SymmetryError(
            f"width: {width!r} has no room for the average over the mirrors of {kind!r}. Expected {size}, one orbit "
            "for every channel (averages do not pass through nonlinearities otherwise). Use that width, or init='own'."
        )


def equal_width(
    wanted: int, channels: int, size: int, base: Fraction, sizes_at: Callable[[Fraction], Sequence[int]]
) -> Fraction:
    """The width that brings the number of weights nearest to the one that is wanted, of those that make whole orbits.

    Args:
        wanted: how many weights.
        channels: the largest number of channels that all banks of orbits consist of, over and over.
        size: the size of one orbit.
        base: a width that makes whole orbits everywhere, as does twice as much.
        sizes_at: the sizes of all weights of a network so wide.
    """
    # Every weight grows with a power of the width: two widths say with which.
    once, twice = sizes_at(base), sizes_at(2 * base)
    powers = [round(math.log2(more / fewer)) if fewer else 0 for fewer, more in zip(once, twice)]

    def distance(width: Fraction) -> Fraction:
        grown = [count * (width / base) ** power for count, power in zip(once, powers)]
        return abs(sum(map(Fraction, grown), Fraction(0)) - wanted)

    for width in sorted((Fraction(size * times, channels) for times in range(1, channels + 1)), key=distance):
        try:
            sizes_at(width)
        except SymmetryError:  # groups of channels that would be torn apart
            continue
        return width
    return base


def too_wide(width: Any, reason: str) -> SymmetryError:
    """The refusal of a width that a model has written its own numbers of channels against."""
    return SymmetryError(
        f"width: {width!r} makes other channels than the model's own code expects ({reason}). Expected a "
        "forward that takes channels as they come. Use width=1."
    )


def no_average(worst: float) -> SymmetryError:
    """The refusal to start as an average where that is none."""
    return SymmetryError(
        f"init: 'average' is off by {worst:.1e} in this network. Expected nothing nonlinear after the last layers, "
        "no strides there, and no norm over several channels, at any width. Use init='own'."
    )
