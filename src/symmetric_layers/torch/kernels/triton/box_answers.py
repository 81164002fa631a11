"""The answers of orbits, pictures read in boxes: the same sums as `answers.py`, without a mask or an address."""

import triton
import triton.language as tl

from symmetric_layers.torch.kernels.triton.box_launch import for_answers
from symmetric_layers.torch.kernels.triton.boxes import corner, placed, reach, tile
from symmetric_layers.torch.kernels.triton.places import portions
from symmetric_layers.torch.kernels.triton.standing import before, number, place_of, slots, tap_of
from symmetric_layers.torch.kernels.triton.tuples import butterfly, count, put, spread, weighted, zeros
from symmetric_layers.torch.kernels.triton.writing import mirrored, write


@for_answers
@triton.jit(do_not_specialize=["bucket"])
def box_answers(
    x, packed, bias, y, pictures, orbits, channels, answer, into, bucket, kernel: tl.constexpr, padding: tl.constexpr,
    dilation: tl.constexpr, kind: tl.constexpr, deep: tl.constexpr, biased: tl.constexpr, precision: tl.constexpr,
    exact: tl.constexpr, wide: tl.constexpr, rows: tl.constexpr, columns: tl.constexpr, depth: tl.constexpr,
    chunks: tl.constexpr, shape: tl.constexpr, counts, x_boxes, packed_runs,
):  # fmt: skip
    """The convolution with the orbits of one kind.

    Args:
        x: `(pictures, three axes, channels)`, read through `x_boxes`; members follow each other where `deep`.
        packed: the parts of the filters, `(pieces, slots, orbits, channels)`, read through `packed_runs`.
        bias: one number per orbit, read where `biased`.
        y: the answers; `into` are their strides: of pictures, channels and axes.
        pictures, orbits, channels: how many there are, of the bank, of one member.
        answer, kernel, padding, dilation: three numbers each.
        bucket: about how many pixels, for the tuner.
        kind: the letters in bits; `deep` whether channels are exchanged.
        precision, exact, wide: of the products, whether they are interpreted, whether memory needs 64 bits.
        rows, columns, depth, chunks: the tile, in pixels, orbits and channels, and how many make all channels.
        shape, counts: of boxes.
    """
    letters: tl.constexpr = count(kind)
    first = tl.program_id(0) % portions(orbits, columns) * columns
    begins = corner(tl.program_id(0) // portions(orbits, columns), counts, shape)
    sums = zeros(2**letters, rows, columns)
    for pattern in tl.static_range(2**letters):
        if (not deep) or pattern == 2**letters - 1:
            taps = number(kernel, kind, spread(pattern, kind), deep)
            for turn in range(taps * chunks):
                sums = _turn(
                    sums, x_boxes, packed_runs, begins, turn // chunks, turn % chunks * depth, first, pictures, orbits,
                    kernel, padding, dilation, kind, spread(pattern, kind), deep, precision, exact, rows, depth,
                )  # fmt: skip
    place, there = placed(begins, pictures, answer, into, wide, rows, shape)
    laid = mirrored(sums, bias, first, orbits, letters, biased, rows, columns)
    write(y, laid, place, there, first * 2**letters, orbits * 2**letters, into[1], columns * 2**letters)


@triton.jit
def _turn(
    sums, x, packed, begins, entry, channel, first, pictures, orbits, kernel: tl.constexpr, padding: tl.constexpr,
    dilation: tl.constexpr, kind: tl.constexpr, moved: tl.constexpr, deep: tl.constexpr, precision: tl.constexpr,
    exact: tl.constexpr, rows: tl.constexpr, depth: tl.constexpr,
):  # fmt: skip
    """Adds the products of all parts of one tap, for a run of channels."""
    where = tap_of(entry, kernel, kind, moved, deep)
    tiles = ()
    for member in tl.static_range(2 ** count(moved)):
        own = reach(begins, where, kernel, padding, dilation, spread(member, moved))
        tiles = tiles + (tile(x, begins[0] + member * pictures * deep, own, channel, rows, depth),)
    tiles = butterfly(tiles, count(moved))
    slot = before(kernel, kind, moved, deep) + entry * 2 ** count(moved)
    for part in tl.static_range(2 ** count(moved)):
        total = weighted(
            tiles[part], packed, (slot + part) * orbits + first, slots(kernel, kind, deep) * orbits, channel,
            sums[place_of(part, moved, kind)], precision, exact,
        )  # fmt: skip
        sums = put(sums, place_of(part, moved, kind), total)
    return sums
