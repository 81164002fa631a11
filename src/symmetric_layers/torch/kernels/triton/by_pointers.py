"""What the kernels are told that read by pointers, whatever lies where: strides, any number of channels."""

import math

import torch
from torch import Tensor

from symmetric_layers.torch.kernels.bank import Part
from symmetric_layers.torch.kernels.geometry import Geometry
from symmetric_layers.torch.kernels.triton.answers import answers
from symmetric_layers.torch.kernels.triton.filters import filters
from symmetric_layers.torch.kernels.triton.launch import (
    INTERPRETED,
    Grid,
    bucket,
    is_wide,
    lies,
    precision,
    start,
    three,
)
from symmetric_layers.torch.kernels.triton.order import sorted_members
from symmetric_layers.torch.kernels.triton.pictures import pictures
from symmetric_layers.torch.kernels.triton.standing import gathered, groups, number, slots

_PROGRAMS = 512  # that the gradient of the weight is shared out over, to keep all of a GPU busy
_SHARES = 64  # of the pixels, at most


def are_side_by_side(x: Tensor, geometry: Geometry, part: Part) -> bool:
    """Whether all members are read in the same place and lie side by side: nothing has to be sorted."""
    return part.deep and x.stride(1) == 1 and math.prod(geometry.kernel_size) == 1 and not any(geometry.padding)


def run_answers(x: Tensor, packed: Tensor, bias: Tensor | None, y: Tensor, geometry: Geometry, part: Part) -> None:
    """The answers of pictures, or of gradients whose channels are orbits, into y."""
    together = are_side_by_side(x, geometry, part)
    seen, steps = _members(x, part, together)
    pixels, (channels, orbits) = y.shape[0] * math.prod(geometry.answer), packed.shape[-2:]
    start(
        answers, _tiles(pixels, orbits), seen, packed, packed if bias is None else bias, y, pixels, channels, orbits,
        *_shape(geometry), steps, lies(y), bucket(pixels), kind=part.kind, deep=part.deep, together=together,
        biased=bias is not None, precision=precision(y.dtype), exact=INTERPRETED, wide=is_wide(seen, y, packed),
    )  # fmt: skip


def run_pictures(gradient: Tensor, packed: Tensor, y: Tensor, geometry: Geometry, part: Part) -> None:
    """The gradient of pictures, into y."""
    parts, pixels = sorted_members(gradient, part, True), y.shape[0] * math.prod(geometry.answer)
    start(
        pictures, _tiles(pixels, y.shape[1]), parts, packed, y, pixels, y.shape[1], part.orbits, *_shape(geometry),
        _lies_sorted(parts), lies(y), bucket(pixels), kind=part.kind, precision=precision(y.dtype), exact=INTERPRETED,
        wide=is_wide(parts, y, packed),
    )  # fmt: skip


def run_filters(x: Tensor, gradient: Tensor, geometry: Geometry, part: Part) -> Tensor:
    """Shares of the gradients of the parts of filters, `(splits, slots, channels, orbits)`."""
    parts = sorted_members(gradient, part, True)
    seen, steps = _members(x, part, are_side_by_side(x, geometry, part))
    channels, orbits, kernel = part.inputs, part.orbits, three(geometry.kernel_size, 1)
    every = slots(kernel, part.kind, part.deep)
    pixels = x.shape[0] * math.prod(geometry.answer)
    programs = every * -(-channels // 64) * -(-orbits // 64)
    shares = max(1, min(_PROGRAMS // programs, _SHARES, pixels // 256))
    sums = x.new_empty((shares, every, channels, orbits), dtype=torch.float32)
    first = 0
    for moved in groups(part.kind, part.deep):
        taps = number(kernel, part.kind, moved, part.deep)
        if taps:
            start(
                filters, _blocks(channels, orbits, taps, shares), seen, parts, sums, first, every, shares, pixels,
                channels, orbits, *_shape(geometry), steps, _lies_sorted(parts), bucket(pixels), kind=part.kind,
                pattern=gathered(moved, part.kind), deep=part.deep, precision=precision(x.dtype), exact=INTERPRETED,
                wide=is_wide(seen, parts, sums),
            )  # fmt: skip
        first += taps * 2 ** moved.bit_count()
    return sums


def _members(x: Tensor, part: Part, together: bool) -> tuple[Tensor, tuple[int, ...]]:
    """Pictures, and their strides of pictures, members, channels and axes; sorted where members lie side by side."""
    first, step, *rest = lies(x)
    if not part.deep:
        return x, (first, 0, step, *rest)
    if step > 1 or together:
        return x, (first, step, step * part.members, *rest)
    seen = sorted_members(x, part, False)
    return seen, _lies_sorted(seen)


def _lies_sorted(x: Tensor) -> tuple[int, ...]:
    """The strides of pictures, members, orbits and axes of `(members, N, *positions, orbits)`."""
    return (x.stride(1), x.stride(0), 1, *three(x.stride()[2:-1], 0))


def _shape(geometry: Geometry) -> tuple[tuple[int, ...], ...]:
    """Sizes, answer, kernel, stride, padding and dilation, for always three axes."""
    ones = (geometry.sizes, geometry.answer, geometry.kernel_size, geometry.stride)
    return (*(three(numbers, 1) for numbers in ones), three(geometry.padding, 0), three(geometry.dilation, 1))


def _tiles(pixels: int, columns: int) -> Grid:
    return lambda tile: (-(-pixels // tile["rows"]) * -(-columns // tile["columns"]),)


def _blocks(channels: int, orbits: int, taps: int, shares: int) -> Grid:
    return lambda tile: (-(-channels // tile["rows"]) * -(-orbits // tile["columns"]), taps, shares)
