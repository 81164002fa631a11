"""The gradient of filters: products of folded pictures with the parts of gradients, summed over pixels."""

import triton
import triton.language as tl

from symmetric_layers.torch.kernels.triton.launch import tuned
from symmetric_layers.torch.kernels.triton.places import pixel, portions, read, tap
from symmetric_layers.torch.kernels.triton.tuples import add_product, butterfly, count, spread, zeros
from symmetric_layers.torch.kernels.triton.writing import write_parts


@tuned(
    "bucket channels orbits kernel stride kind pattern deep precision",
    lambda said: (said["pattern"].bit_count(), said["orbits"], said["pixels"]),
    rows=16, depth=512,
)  # fmt: skip
@triton.jit(do_not_specialize=["first", "slots", "splits", "pixels", "bucket"])
def filters(
    x, parts, sums, first, slots, splits, pixels, channels, orbits, sizes, answer, kernel, stride, padding, dilation,
    lies, gives, bucket, kind: tl.constexpr, pattern: tl.constexpr, deep: tl.constexpr, precision: tl.constexpr,
    exact: tl.constexpr, wide: tl.constexpr, rows: tl.constexpr, columns: tl.constexpr, depth: tl.constexpr,
):  # fmt: skip
    """The gradients of the parts of filters, for all taps that the same letters move.

    Every program has a tap, some channels, some orbits and a share of the pixels; it writes sums of its own, which are
    added up afterwards, so that their order is always the same.

    Args:
        x: pictures; `lies` are their strides: of pictures, members, channels and axes.
        parts: of the gradients; `gives` are their strides: of pictures, parts, orbits and axes.
        sums: `(splits, slots, channels, orbits)`.
        first: the first slot of these taps.
        pattern: numbers the letters that move the taps among those of the kind; the other arguments are those of
            `answers`, but that rows are channels and depth is pixels.
    """
    letters: tl.constexpr = count(pattern)
    blocks = portions(orbits, columns)
    channel = tl.program_id(0) // blocks * rows + tl.arange(0, rows)
    orbit = tl.program_id(0) % blocks * columns + tl.arange(0, columns)
    where = tap(tl.program_id(1), kernel, kind, spread(pattern, kind), deep)
    share = portions(portions(pixels, splits), depth) * depth
    begin = tl.program_id(2)
    if wide:
        begin = begin.to(tl.int64)
    begin = begin * share
    totals = zeros(2**letters, rows, columns)
    for turn in range(portions(share, depth)):
        index = begin + turn * depth + tl.arange(0, depth)
        there = (index < pixels) & (index < begin + share)
        picture, z, high, across = pixel(index, answer)
        places = (z * stride[0] - padding[0], high * stride[1] - padding[1], across * stride[2] - padding[2])
        planes = ()
        for member in tl.static_range(2**letters):
            planes = planes + (
                _mirror(x + (picture * lies[0])[None, :], places, where, there, channel, channels, kernel, dilation,
                        sizes, lies, kind, spread(member, pattern)),
            )  # fmt: skip
        planes = butterfly(planes, letters)
        place = picture * gives[0] + z * gives[3] + high * gives[4] + across * gives[5]
        for part in tl.static_range(2**letters):
            own = parts + spread(part, pattern) * tl.cast(gives[1], tl.int64)
            pointers = own + place[:, None] + (orbit.to(place.dtype) * gives[2])[None, :]
            gradients = tl.load(pointers, mask=there[:, None] & (orbit < orbits)[None, :], other=0.0)
            totals = add_product(totals, part, planes[part], gradients, precision, exact)
    slot = tl.program_id(2) * slots + first + tl.program_id(1) * 2**letters
    write_parts(sums, totals, slot, channel, orbit, channels, orbits, 2**letters)


@triton.jit
def _mirror(
    x, places, where, there, channel, channels, kernel, dilation, sizes, lies, kind: tl.constexpr, member: tl.constexpr
):  # fmt: skip
    """What one mirror of a tap reads, channels times pixels."""
    offset, inside = read(places, where, kernel, dilation, sizes, (lies[3], lies[4], lies[5]), spread(member, kind))
    own = x + member * tl.cast(lies[1], tl.int64)
    pointers = own + offset[None, :] + (channel.to(offset.dtype) * lies[2])[:, None]
    wanted = (inside & there)[None, :] & (channel < channels)[:, None]
    return tl.load(pointers, mask=wanted, other=0.0).to(tl.float32)
