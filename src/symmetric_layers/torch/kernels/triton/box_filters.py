"""The gradient of filters, everything read in boxes: the same sums as `filters.py`, without a mask or an address."""

import triton
import triton.language as tl

from symmetric_layers.torch.kernels.triton.box_launch import for_filters
from symmetric_layers.torch.kernels.triton.boxes import NOWHERE, corner, pixels_of, reach, tile
from symmetric_layers.torch.kernels.triton.places import portions
from symmetric_layers.torch.kernels.triton.standing import before, entries_before, number, place_of, slots, tap_of
from symmetric_layers.torch.kernels.triton.tuples import butterfly, count, product, put, spread, weighted, zeros
from symmetric_layers.torch.kernels.triton.writing import write_parts


@for_filters
@triton.jit(do_not_specialize=["pixels", "splits", "bucket"])
def box_filters(
    x, parts, sums, pictures, pixels, orbits, channels, answer, splits, bucket, kernel: tl.constexpr,
    padding: tl.constexpr, dilation: tl.constexpr, kind: tl.constexpr, deep: tl.constexpr, across: tl.constexpr,
    precision: tl.constexpr, exact: tl.constexpr, rows: tl.constexpr, columns: tl.constexpr, depth: tl.constexpr,
    shape: tl.constexpr, counts, boxes, share, overhangs: tl.constexpr, x_boxes, parts_boxes,
):  # fmt: skip
    """The gradients of the parts of filters.

    Every program has a tap, some channels, some orbits and a share of the boxes; it writes sums of its own, which are
    added up afterwards, so that their order is always the same.

    Args:
        x: `(pictures, three axes, channels)`, read through `x_boxes`; members follow each other where `deep`.
        parts: of the gradients, `(parts times pictures, three axes, orbits)`; `across`, because TF32 wants neighbours
            in memory to be pixels, `(pieces, parts, boxes, orbits, depth)`. Read through `parts_boxes`.
        sums: `(splits, slots, channels, orbits)`.
        pixels, splits: how many there are, and how many programs share them; only the tuner asks.
        boxes, share: how many there are in all, and for a program.
        overhangs: whether boxes reach beyond the answer, where gradients are zeros.

    The other arguments are those of `box_answers`, but that rows are channels and depth is pixels.
    """
    tap = tl.num_programs(1) - 1 - tl.program_id(1)  # those that more letters move take longer, and come first
    for pattern in tl.static_range(2 ** count(kind)):
        if (not deep) or pattern == 2 ** count(kind) - 1:
            entry = tap - entries_before(kernel, kind, spread(pattern, kind), deep)
            if (entry >= 0) & (entry < number(kernel, kind, spread(pattern, kind), deep)):
                _tap(
                    x_boxes, parts_boxes, sums, entry, pictures, boxes, share, orbits, channels, answer, counts,
                    kernel, padding, dilation, kind, spread(pattern, kind), deep, across, precision, exact, rows,
                    columns, depth, shape, overhangs,
                )  # fmt: skip


@triton.jit
def _tap(
    x, parts, sums, entry, pictures, boxes, share, orbits, channels, answer, counts, kernel: tl.constexpr,
    padding: tl.constexpr, dilation: tl.constexpr, kind: tl.constexpr, moved: tl.constexpr, deep: tl.constexpr,
    across: tl.constexpr, precision: tl.constexpr, exact: tl.constexpr, rows: tl.constexpr, columns: tl.constexpr,
    depth: tl.constexpr, shape: tl.constexpr, overhangs: tl.constexpr,
):  # fmt: skip
    """All parts of one tap."""
    letters: tl.constexpr = count(moved)
    channel = tl.program_id(0) // portions(orbits, columns) * rows
    orbit = tl.program_id(0) % portions(orbits, columns) * columns
    where = tap_of(entry, kernel, kind, moved, deep)
    totals = zeros(2**letters, rows, columns)
    for turn in range(share):
        box = tl.program_id(2) * share + turn
        begins = corner(box, counts, shape)
        picture = tl.where(box < boxes, begins[0], NOWHERE)
        _, z, high, wide = pixels_of(begins, depth, shape)
        there = (z < answer[0]) & (high < answer[1]) & (wide < answer[2])
        planes = ()
        for member in tl.static_range(2**letters):
            own = reach(begins, where, kernel, padding, dilation, spread(member, moved))
            seen = tile(x, picture + member * pictures * deep, own, channel, depth, rows)
            if overhangs:  # what is infinite there would be NaN
                seen = tl.where(there[:, None], seen.to(tl.float32), 0.0).to(seen.dtype)
            planes = planes + (seen,)
        planes = butterfly(planes, letters)
        for part in tl.static_range(2**letters):
            total = _with_gradients(
                planes[part].T, parts, totals[part], place_of(part, moved, kind), begins, picture, box, orbit,
                pictures, boxes, orbits, kind, across, precision, exact, columns, depth,
            )  # fmt: skip
            totals = put(totals, part, total)
    slot = tl.program_id(2) * slots(kernel, kind, deep) + before(kernel, kind, moved, deep) + entry * 2**letters
    write_parts(
        sums, totals, slot, channel + tl.arange(0, rows), orbit + tl.arange(0, columns), channels, orbits, 2**letters
    )  # fmt: skip


@triton.jit
def _with_gradients(
    plane, parts, total, part: tl.constexpr, begins, picture, box, orbit, pictures, boxes, orbits, kind: tl.constexpr,
    across: tl.constexpr, precision: tl.constexpr, exact: tl.constexpr, columns: tl.constexpr, depth: tl.constexpr,
):  # fmt: skip
    """Adds the products of a folded picture with one part of the gradients, over the pixels of a box."""
    if across:
        row = tl.where(box < boxes, (part * boxes + box) * orbits + orbit, NOWHERE)
        total = weighted(plane, parts, row, 2 ** count(kind) * boxes * orbits, 0, total, precision, exact)
    else:
        own = (begins[1], begins[2], begins[3])
        gradients = tile(parts, picture + part * pictures, own, orbit, depth, columns)
        total = product(plane, gradients, total, precision, exact)
    return total
