"""Gradients of the input of strided layers, as convolutions without strides.

With stride s, the same taps reach every s-th pixel. These pixels are one **phase**, and their gradient is a convolution
of the gradient of the answer with these taps alone. A mirror leads from a phase to a phase. Where that is another one,
the two are the members of an orbit, as if they were channels of one picture: a deep layer. Where it is the same, the
gradient of that phase is like that of a layer without strides.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import product
from typing import NamedTuple

from symmetric_layers.letters import axes, mirrors
from symmetric_layers.torch.kernels.bank import Part, kind_of
from symmetric_layers.torch.kernels.geometry import Geometry

_Numbers = tuple[int, ...]

_MOST = 16  # phases; filters are read for each of them, so that large patches take longer than the host does


class Phase(NamedTuple):
    """What one convolution without strides gives of such a gradient.

    Attributes:
        first: of every member, the first tap along every axis that reaches it; the next one is a stride further.
        geometry: of the convolution of the gradient of the answer.
        margin: how far before the place of a member's first tap its first pixel lies, along every axis.
        channels: of every member, the channels of the input that belong together; of the only one, if mirrors of a
            pixel are itself.
        deep: whether members are other pixels or other channels, so that mirrors exchange them.
    """

    first: tuple[_Numbers, ...]
    geometry: Geometry
    margin: _Numbers
    channels: tuple[_Numbers, ...]
    deep: bool

    @property
    def outputs(self) -> int:
        """How many channels one member has."""
        return len(self.channels[0])


def phases(geometry: Geometry, blocks: Sequence[Part]) -> list[tuple[Phase, ...]] | None:
    """All phases of the gradient of the input, block after block of a bank.

    None where they are no convolutions of orbits: dilated taps, and mirrors some of which lead to other pixels and some
    to the same, if channels are no orbits. Nor where they are so many that the host is faster.

    Args:
        geometry: of the layer.
        blocks: of the bank.
    """
    if max(geometry.stride) == 1:
        return [(_only(geometry, part),) for part in blocks]
    numbers = map(tuple, (geometry.sizes, geometry.kernel_size, geometry.stride, geometry.padding))
    sizes, kernel, stride, padding = numbers
    found = []
    for part in blocks if max(geometry.dilation) == 1 else ():
        some = _phases(sizes, kernel, stride, padding, part)
        if some is not None:
            found.append(some)
    return found if len(found) == len(blocks) else None


def _only(geometry: Geometry, part: Part) -> Phase:
    """All pixels are one phase where there are no strides."""
    members = range(part.members if part.deep else 1)
    channels = tuple(part.in_order[member * part.inputs :][: part.inputs] for member in members)
    none = (0,) * len(geometry.sizes)
    return Phase((none,) * len(members), geometry.backwards(), none, channels, part.deep)


@lru_cache(maxsize=256)
def _phases(
    sizes: _Numbers, kernel: _Numbers, stride: _Numbers, padding: _Numbers, part: Part
) -> tuple[Phase, ...] | None:
    letters = mirrors(kind_of(part.kind))
    found = []
    for first in product(*map(range, map(min, stride, kernel))):
        orbit = [_mirrored(first, kernel, stride, mirror) for mirror in letters]
        if first != min(orbit):
            continue
        still = [member for member, seen in enumerate(orbit) if seen == first]  # they lead to the same pixels
        if not part.deep and 1 < len(still) < len(orbit):
            return None
        deep = bool(part.kind) and (part.deep or len(still) == 1)
        members = tuple(orbit) if deep else (first,)
        channels = _channels(part, still) if part.deep else (tuple(range(part.inputs)),) * len(members)
        place = _place(sizes, kernel, stride, padding, members)
        if place is not None:
            found.append(Phase(members, *place, channels, deep))
    return tuple(found) if len(found) <= _MOST else None


def _mirrored(first: _Numbers, kernel: _Numbers, stride: _Numbers, letters: str) -> _Numbers:
    """The phase that mirrors lead to."""
    turned = [axis + len(first) for axis in axes(letters)]
    return tuple(
        (k - 1 - at) % s if axis in turned else at
        for axis, (at, k, s) in enumerate(zip(first, kernel, stride, strict=True))
    )


def _channels(part: Part, still: Sequence[int]) -> tuple[_Numbers, ...]:
    """Member after member, the channels that are exchanged; `still` are the mirrors that lead to the same pixels."""
    table = [part.in_order[member * part.inputs :][: part.inputs] for member in range(part.members)]
    own = [member for member in range(part.members) if not member & max(still)]  # the others are their mirrors
    first = sorted((table[member][orbit], member, orbit) for member in own for orbit in range(part.inputs))
    return tuple(tuple(table[member ^ mirror][orbit] for _, member, orbit in first) for mirror in range(part.members))


def _place(
    sizes: _Numbers, kernel: _Numbers, stride: _Numbers, padding: _Numbers, members: Sequence[_Numbers]
) -> tuple[Geometry, _Numbers] | None:
    """Which pixels all members have, some of which may lie beyond the picture of others; None where there are none."""
    axes_of = list(zip(sizes, kernel, stride, padding, *members, strict=True))
    starts = [min(-((at - p) // s) for at in firsts) for _, _, s, p, *firsts in axes_of]
    ends = [max((n - 1 + p - at) // s for at in firsts) for n, _, s, p, *firsts in axes_of]
    counts = [end - start + 1 for start, end in zip(starts, ends, strict=True)]
    if min(counts) < 1:
        return None
    taps = [-((first - k) // s) for first, k, s in zip(members[0], kernel, stride, strict=True)]
    before = [tap - 1 - start for tap, start in zip(taps, starts, strict=True)]
    ones = [1] * len(sizes)
    answers = Geometry(sizes, kernel, stride, padding, ones).answer
    margin = tuple(p - s * start for p, s, start in zip(padding, stride, starts, strict=True))
    return Geometry(answers, taps, ones, before, ones, counts), margin


def are_covered(geometry: Geometry) -> bool:
    """Whether every pixel is reached by a tap: otherwise there are such whose gradient is zero."""
    return all(k >= s for k, s in zip(geometry.kernel_size, geometry.stride, strict=True))
