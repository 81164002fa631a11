"""What the kernels are told: where numbers lie in memory, how many there are, and how the work is shared out."""

import math
from collections.abc import Callable
from functools import lru_cache
from itertools import chain

import torch
from torch import Tensor

from symmetric_layers.torch.kernels.bank import Part
from symmetric_layers.torch.kernels.geometry import Geometry
from symmetric_layers.torch.kernels.triton.answers import answers
from symmetric_layers.torch.kernels.triton.filters import filters
from symmetric_layers.torch.kernels.triton.launch import INTERPRETED, bucket, is_wide, lies, precision, start, three
from symmetric_layers.torch.kernels.triton.members import members
from symmetric_layers.torch.kernels.triton.packing import kept, number_of_slots, pack, slots, unpack
from symmetric_layers.torch.kernels.triton.pictures import pictures

_PROGRAMS = 512  # that the gradient of the weight is shared out over, to keep all of a GPU busy
_SHARES = 64  # of the pixels, at most


def to_answers(x: Tensor, weight: Tensor, bias: Tensor | None, y: Tensor, geometry: Geometry, part: Part) -> None:
    """The answers of one block of a bank, into y."""
    _run_answers(_Members(x, part, geometry), pack(weight, part, False), bias, y, geometry, part)


def to_orbits(gradient: Tensor, weight: Tensor, x: Tensor, geometry: Geometry, part: Part) -> None:
    """The gradient of channels that are orbits, into x: a deep layer again, whose geometry is given."""
    seen = _Members(gradient, part._replace(in_order=part.out_order, inputs=part.orbits), geometry)
    packed = pack(weight, part, True, backwards=True)
    gather = _gather(part.in_order, part.inputs)
    y = x if gather is None else torch.empty_like(x)
    _run_answers(seen, packed, None, y, geometry, part)
    if gather is not None:
        x.index_copy_(1, gather.to(x.device, non_blocking=True), y)


def to_pictures(gradient: Tensor, weight: Tensor, x: Tensor, geometry: Geometry, part: Part) -> None:
    """The gradient of channels that are pictures, into x; the geometry is that of the convolution backwards."""
    parts, packed = _sorted(gradient, part, True), pack(weight, part, True)
    pixels = x.shape[0] * math.prod(geometry.answer)
    start(
        pictures, _tiles(pixels, x.shape[1]), parts, packed, x, pixels, x.shape[1], part.orbits, *_shape(geometry),
        _lies_sorted(parts), lies(x), bucket(pixels), kind=part.kind, precision=precision(x.dtype), exact=INTERPRETED,
        wide=is_wide(parts, x, packed),
    )  # fmt: skip


def to_filters(gradient: Tensor, x: Tensor, weight: Tensor, geometry: Geometry, part: Part) -> None:
    """The gradient of the stored filters of one block, into weight."""
    parts, seen = _sorted(gradient, part, True), _Members(x, part, geometry)
    channels, orbits, number = part.inputs, part.orbits, number_of_slots(part, geometry.kernel_size)
    pixels = x.shape[0] * math.prod(geometry.answer)
    programs = number * -(-channels // 64) * -(-orbits // 64)
    shares = max(1, min(_PROGRAMS // programs, _SHARES, pixels // 256))
    sums = x.new_empty((shares, number, channels, orbits), dtype=torch.float32)
    first = 0
    for pattern, taps in slots(part, geometry.kernel_size):
        if taps:
            start(
                filters, _blocks(channels, orbits, len(taps), shares), seen.tensor, parts, sums, first, number, shares,
                pixels, channels, orbits, *_shape(geometry), seen.lies, _lies_sorted(parts), bucket(pixels),
                kind=part.kind, pattern=pattern, deep=part.deep, precision=precision(x.dtype), exact=INTERPRETED,
                wide=is_wide(seen.tensor, parts, sums),
            )  # fmt: skip
        first += len(taps) * 2 ** pattern.bit_count()
    weight.copy_(unpack(sums.sum(0), part, geometry.kernel_size))


class _Members:
    """Pictures, as their members.

    Attributes:
        tensor: the pictures; channels that are orbits are brought in order.
        lies: its strides of pictures, members, channels and axes.
        together: whether all members are read in the same place and lie side by side.
    """

    def __init__(self, x: Tensor, part: Part, geometry: Geometry) -> None:
        self.tensor, self.together = x, False
        self.lies = (x.stride(0), 0, *lies(x)[1:])
        if not part.deep:
            return
        gather = _gather(part.in_order, part.inputs)
        if gather is not None:
            self.tensor = x = x.index_select(1, gather.to(x.device, non_blocking=True))
        first, step, *rest = lies(x)
        self.lies = (first, step, step * part.members, *rest)
        alone = math.prod(geometry.kernel_size) == 1 and not any(geometry.padding)
        self.together = alone and step == 1
        if step == 1 and not alone:
            self.tensor = _sorted(x, part, False)
            self.lies = _lies_sorted(self.tensor)


@lru_cache(maxsize=None)  # as the tables of packing.py
def _gather(order: tuple[int, ...], inputs: int) -> Tensor | None:
    """Orbit after orbit: the channels that belong together, None where they are neighbours already."""
    found = list(chain.from_iterable(order[orbit::inputs] for orbit in range(inputs)))
    return None if found == list(range(len(order))) else kept(found, torch.int64)


def _sorted(x: Tensor, part: Part, folding: bool) -> Tensor:
    """`(members, N, *positions, orbits)` of pictures whose channels are orbits; their parts, where `folding`."""
    orbits, positions = x.shape[1] // part.members, x.shape[2:]
    y = x.new_empty((part.members, x.shape[0], *positions, orbits))
    pixels = x.shape[0] * math.prod(positions)
    start(
        members, _rows_and_columns(pixels, orbits), x, y, pixels, orbits, three(positions, 1), lies(x), bucket(pixels),
        letters=part.kind.bit_count(), folding=folding, wide=is_wide(x, y),
    )  # fmt: skip
    return y


def _lies_sorted(x: Tensor) -> tuple[int, ...]:
    """The strides of pictures, members, orbits and axes of `(members, N, *positions, orbits)`."""
    return (x.stride(1), x.stride(0), 1, *three(x.stride()[2:-1], 0))


def _run_answers(x: _Members, packed: Tensor, bias: Tensor | None, y: Tensor, geometry: Geometry, part: Part) -> None:
    pixels, (_, channels, orbits) = y.shape[0] * math.prod(geometry.answer), packed.shape
    start(
        answers, _tiles(pixels, orbits), x.tensor, packed, packed if bias is None else bias, y, pixels, channels,
        orbits, *_shape(geometry), x.lies, lies(y), bucket(pixels), kind=part.kind, deep=part.deep,
        together=x.together, biased=bias is not None, precision=precision(y.dtype), exact=INTERPRETED,
        wide=is_wide(x.tensor, y, packed),
    )  # fmt: skip


def _shape(geometry: Geometry) -> tuple[tuple[int, ...], ...]:
    """Sizes, answer, kernel, stride, padding and dilation, for always three axes."""
    ones = (geometry.sizes, geometry.answer, geometry.kernel_size, geometry.stride)
    return (*(three(numbers, 1) for numbers in ones), three(geometry.padding, 0), three(geometry.dilation, 1))


_Grid = Callable[[dict[str, int]], tuple[int, ...]]


def _tiles(pixels: int, columns: int) -> _Grid:
    return lambda tile: (-(-pixels // tile["rows"]) * -(-columns // tile["columns"]),)


def _rows_and_columns(pixels: int, columns: int) -> _Grid:
    return lambda tile: (-(-pixels // tile["rows"]), -(-columns // tile["columns"]))


def _blocks(channels: int, orbits: int, taps: int, shares: int) -> _Grid:
    return lambda tile: (-(-channels // tile["rows"]) * -(-orbits // tile["columns"]), taps, shares)
