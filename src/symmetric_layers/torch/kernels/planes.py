"""Pictures and filters, folded along the axes of a kind: what is even and what is odd under each of its mirrors.

Filters and pictures are folded alike, so that a sum over the pixels that a filter reads becomes a sum over planes: the
sums and differences of pixels that mirror each other, one plane for each two of them.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from symmetric_layers.orbits import Block
from symmetric_layers.torch.kernels.job import Job

Parts = dict[str, Tensor]  # by the letters along which they are odd
_Split = Callable[[Tensor, str], tuple[Tensor, Tensor | None]]


class Axis(NamedTuple):
    """Where along one axis the filters read the padded picture.

    Attributes:
        dim: which one, counted from the last.
        size: how many positions the answer has.
        stride: the step between two of them.
        margins: how many pixels the picture is padded by, before and after.
        places: the pixels that a representative reads for the first position.
        centre: two pixels are mirrors of each other for the first position where their places sum up to this.
        fits: whether a mirrored picture has the mirrored answer.
    """

    dim: int
    size: int
    stride: int
    margins: tuple[int, int]
    places: list[int]
    centre: int
    fits: bool

    @property
    def half(self) -> int:
        """How many positions are made from the picture itself; the others are made from its mirror image."""
        return (self.size + 1) // 2 if self.fits else self.size

    @property
    def read(self) -> list[int]:
        """All pixels that a representative or its mirror reads for the first position."""
        return sorted({*self.places, *(self.centre - place for place in self.places)})


def axis_of(job: Job, dim: int) -> Axis:
    """The geometry of a job along one axis, counted from the first."""
    n, k, s, d = job.case.sizes[dim], job.case.kernel_size[dim], job.case.stride[dim], job.case.dilation[dim]
    before, after = job.case.pads[dim]
    reach = d * (k - 1)
    room = n + before + after - reach - 1
    rest = 0 if s == 1 else int(room % s)
    if job.case.grid == "mirrored":  # a mirror is padded the other way round, and starts from the other side
        margin = max(before, after)
        margins, centre, fits = (margin, margin), 2 * margin - before - after + reach + rest, True
    else:
        margins, centre, fits = (before, after), reach, before == after and rest == 0
    start = margins[0] - before
    return Axis(dim - job.plan.ndim, room // s + 1, s, margins, [start + d * tap for tap in range(k)], centre, fits)


def fold_pictures(x: Tensor, kind: str, block: Block, frame: dict[str, Axis]) -> Parts:
    """The planes of padded pictures, for the first half of the positions along the letters of a kind.

    Args:
        x: `(N, banks, channels, *positions)`, the channels all of one block.
        kind: the letters along which the filters are mirrored.
        block: how the channels are arranged.
        frame: the geometry along each letter.

    Returns:
        Per set of letters `(N, banks, planes, *positions)`, without those that no filter reads.
    """
    for letter, axis in frame.items():
        if letter not in kind:
            reach = axis.places[-1] - axis.places[0] + 1
            x = x.narrow(axis.dim, axis.places[0], axis.stride * (axis.size - 1) + reach)

    def split(part: Tensor, letter: str) -> tuple[Tensor, Tensor | None]:
        axis = frame[letter]

        def pixels(part: Tensor, place: int) -> Tensor:
            seen = part.narrow(axis.dim, place, axis.stride * (axis.half - 1) + 1)
            return seen if axis.stride == 1 else seen.movedim(axis.dim, -1)[..., :: axis.stride].movedim(-1, axis.dim)

        return _split(part, letter, axis, block, len(frame), pixels, 1)

    return _fold(x, kind, block, len(frame), split)


def fold_filters(weight: Tensor, kind: str, block: Block, frame: dict[str, Axis]) -> Parts:
    """The numbers by which the planes are multiplied.

    Args:
        weight: the stored filters `(banks, filters, channels, *kernel)`, the channels all of one block.
        kind: the letters along which they are mirrored.
        block: how the channels are arranged.
        frame: the geometry along each letter.

    Returns:
        Per set of letters `(banks, filters, planes, *kernel)`, in the order of `fold_pictures`.
    """

    def split(part: Tensor, letter: str) -> tuple[Tensor, Tensor | None]:
        axis = frame[letter]

        def taps(part: Tensor, place: int) -> Tensor:
            if place in axis.places:
                return part.narrow(axis.dim, axis.places.index(place), 1)
            return torch.zeros_like(part.narrow(axis.dim, 0, 1))

        return _split(part, letter, axis, block, len(frame), taps, 2)

    return _fold(weight * 0.5 ** len(kind), kind, block, len(frame), split)


def _fold(x: Tensor, kind: str, block: Block, ndim: int, split: _Split) -> Parts:
    """Folds letter after letter; every letter of the channels' own kind has an axis of its own meanwhile."""
    parts = {"": x.unflatten(2, (block.orbits, *[2] * len(block.kind))).unsqueeze(-ndim - 1)}
    for letter in kind:
        halves = {odd: split(part, letter) for odd, part in parts.items()}
        parts = {odd: even for odd, (even, _) in halves.items()}
        parts |= {odd + letter: uneven for odd, (_, uneven) in halves.items() if uneven is not None}
    return {odd: part.flatten(2, -ndim - 1) for odd, part in parts.items()}


def _split(
    part: Tensor, letter: str, axis: Axis, block: Block, ndim: int, read: Callable[[Tensor, int], Tensor], middle: int
) -> tuple[Tensor, Tensor | None]:
    """The sums and the differences of what mirrors each other; `middle` says how often its own mirror counts."""
    one = other = part
    exchanged = letter in block.kind
    if exchanged:
        one, other = part.split(1, -ndim - 2 - block.kind.index(letter))
    even, odd = [], []
    for place in axis.read:
        twin = axis.centre - place
        if exchanged or place < twin:
            first, second = read(one, place), read(other, twin)
            even.append(first + second)
            odd.append(first - second)
        elif place == twin:
            even.append(read(part, place) * middle)
    return torch.cat(even, -ndim - 1), torch.cat(odd, -ndim - 1) if odd else None
