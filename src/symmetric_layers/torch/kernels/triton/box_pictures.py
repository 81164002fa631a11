"""The gradient of pictures, gradients read in boxes: the same sum as `pictures.py`, without a mask or an address."""

import triton
import triton.language as tl

from symmetric_layers.torch.kernels.triton.box_launch import for_pictures
from symmetric_layers.torch.kernels.triton.boxes import corner, placed, reach, tile
from symmetric_layers.torch.kernels.triton.places import portions
from symmetric_layers.torch.kernels.triton.standing import before, number, slots, tap_of, turned
from symmetric_layers.torch.kernels.triton.tuples import count, sign, spread, spread_out, weighted
from symmetric_layers.torch.kernels.triton.writing import write


@for_pictures
@triton.jit(do_not_specialize=["bucket"])
def box_pictures(
    x, packed, y, pictures, orbits, channels, answer, into, bucket, kernel: tl.constexpr, padding: tl.constexpr,
    dilation: tl.constexpr, kind: tl.constexpr, precision: tl.constexpr, exact: tl.constexpr, wide: tl.constexpr,
    rows: tl.constexpr, columns: tl.constexpr, depth: tl.constexpr, chunks: tl.constexpr,
    shape: tl.constexpr, counts, x_boxes, packed_runs,
):  # fmt: skip
    """A convolution of the parts of gradients, filters read backwards, without mirrors in the answer.

    Args:
        x: the parts of the gradients, `(parts times pictures, three axes, orbits)`, read through `x_boxes`.
        packed: the parts of the filters, `(pieces, slots, channels, orbits)`, read through `packed_runs`.
        y: the gradients of the pictures; `into` are their strides: of pictures, channels and axes.

    The other arguments are those of `box_answers`.
    """
    first = tl.program_id(0) % portions(channels, columns) * columns
    begins = corner(tl.program_id(0) // portions(channels, columns), counts, shape)
    total = tl.full([rows, columns], 0.0, tl.float32)
    for pattern in tl.static_range(2 ** count(kind)):
        tiles = number(kernel, kind, spread(pattern, kind), False) * 2 ** count(pattern) * chunks
        for turn in range(tiles):
            total = _turn(
                total, x_boxes, packed_runs, begins, turn // chunks, turn % chunks * depth, first, pictures, channels,
                kernel, padding, dilation, kind, pattern, precision, exact, rows, depth,
            )  # fmt: skip
    place, there = placed(begins, pictures, answer, into, wide, rows, shape)
    write(y, total, place, there, first, channels, into[1], columns)


@triton.jit
def _turn(
    total, parts, packed, begins, number, orbit, first, pictures, channels, kernel: tl.constexpr,
    padding: tl.constexpr, dilation: tl.constexpr, kind: tl.constexpr, pattern: tl.constexpr, precision: tl.constexpr,
    exact: tl.constexpr, rows: tl.constexpr, depth: tl.constexpr,
):  # fmt: skip
    """Adds the products of one part of one tap, which is read backwards, for a run of orbits."""
    moved: tl.constexpr = spread(pattern, kind)
    part = number % 2 ** count(pattern)
    where = turned(tap_of(number // 2 ** count(pattern), kernel, kind, moved, False), kernel, 7)
    picture = begins[0] + spread_out(part, pattern) * pictures
    own = reach(begins, where, kernel, padding, dilation, 0)
    plane = tile(parts, picture, own, orbit, rows, depth)
    for member in tl.static_range(1, 2 ** count(pattern)):
        own = reach(begins, where, kernel, padding, dilation, spread(spread(member, pattern), kind))
        seen = tile(parts, picture, own, orbit, rows, depth)
        plane = (plane.to(tl.float32) + seen.to(tl.float32) * sign(part & member)).to(seen.dtype)
    row = (before(kernel, kind, moved, False) + number) * channels + first
    return weighted(plane, packed, row, slots(kernel, kind, False) * channels, orbit, total, precision, exact)
