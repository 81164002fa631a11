"""The gradient of pictures, where filters are orbits and channels are not: all parts of all taps add to one sum."""

import triton
import triton.language as tl

from symmetric_layers.torch.kernels.triton.launch import tuned
from symmetric_layers.torch.kernels.triton.places import entries, pixel, portions, read, tap
from symmetric_layers.torch.kernels.triton.tuples import count, product, sign, spread, spread_out
from symmetric_layers.torch.kernels.triton.writing import write


@tuned(
    "bucket channels orbits kernel kind precision",
    lambda said: (0, said["channels"], said["orbits"]),
    rows=512, depth=16,
)  # fmt: skip
@triton.jit(do_not_specialize=["pixels", "bucket"])
def pictures(
    parts, packed, y, pixels, channels, orbits, sizes, answer, kernel, stride, padding, dilation, lies, into, bucket,
    kind: tl.constexpr, precision: tl.constexpr, exact: tl.constexpr, wide: tl.constexpr, rows: tl.constexpr,
    columns: tl.constexpr, depth: tl.constexpr,
):  # fmt: skip
    """A convolution of the parts of gradients, filters read backwards, without mirrors in the answer.

    Args:
        parts: of the gradients, see `members.py`; `lies` are their strides: of pictures, parts, orbits and axes.
        packed: the parts of the filters, `(slots, orbits, channels)`.
        y: the gradients of the pictures; `into` are their strides: of pictures, channels and axes.
        pixels, channels, orbits: how many there are; the other arguments are those of `answers`.
    """
    blocks = portions(channels, columns)
    block = tl.program_id(0) // blocks
    first = tl.program_id(0) % blocks * columns
    if wide:
        block = block.to(tl.int64)
    index = block * rows + tl.arange(0, rows)
    picture, z, high, across = pixel(index, answer)
    places = (z * stride[0] - padding[0], high * stride[1] - padding[1], across * stride[2] - padding[2])
    channel = first + tl.arange(0, columns)
    total = tl.full([rows, columns], 0.0, tl.float32)
    for pattern in tl.static_range(2 ** count(kind)):
        total = _summed(
            total, parts + (picture * lies[0])[:, None], packed, places, index < pixels, channel, channels, orbits,
            sizes, kernel, dilation, lies, kind, pattern, precision, exact, depth,
        )  # fmt: skip
        taps = entries(kernel, kind, spread(pattern, kind), False)
        packed += taps * 2 ** count(pattern) * channels * orbits
    place = picture * into[0] + z * into[2] + high * into[3] + across * into[4]
    write(y, total, place, index < pixels, first, channels, into[1], columns)


@triton.jit
def _summed(
    total, parts, packed, places, there, channel, channels, orbits, sizes, kernel, dilation, lies, kind: tl.constexpr,
    pattern: tl.constexpr, precision: tl.constexpr, exact: tl.constexpr, depth: tl.constexpr,
):  # fmt: skip
    """Adds the products of all taps that the same letters move, part after part."""
    chunks = portions(orbits, depth)
    for turn in range(entries(kernel, kind, spread(pattern, kind), False) * 2 ** count(pattern) * chunks):
        slot = turn // chunks
        part = slot % 2 ** count(pattern)
        orbit = turn % chunks * depth + tl.arange(0, depth)
        where = tap(slot // 2 ** count(pattern), kernel, kind, spread(pattern, kind), False)
        own = parts + spread_out(part, pattern) * tl.cast(lies[1], tl.int64)
        plane = _plane(own, places, where, there, orbit, orbits, part, sizes, kernel, dilation, lies, kind, pattern)
        filters = packed + (slot * orbits + orbit[:, None]) * channels + channel[None, :]
        weights = tl.load(filters, mask=(orbit < orbits)[:, None] & (channel < channels)[None, :], other=0.0)
        total = product(plane, weights, total, precision, exact)
    return total


@triton.jit
def _plane(
    parts, places, where, there, orbit, orbits, part, sizes, kernel, dilation, lies, kind: tl.constexpr,
    pattern: tl.constexpr,
):  # fmt: skip
    """One part of the gradients, folded: a signed sum over the mirrors of a tap, which is read backwards."""
    backwards = (kernel[0] - 1 - where[0], kernel[1] - 1 - where[1], kernel[2] - 1 - where[2])
    plane = 0.0
    for member in tl.static_range(2 ** count(pattern)):
        offset, inside = read(
            places, backwards, kernel, dilation, sizes, (lies[3], lies[4], lies[5]),
            spread(spread(member, pattern), kind),
        )  # fmt: skip
        wanted = (inside & there)[:, None] & (orbit < orbits)[None, :]
        pointers = parts + offset[:, None] + (orbit.to(offset.dtype) * lies[2])[None, :]
        seen = tl.load(pointers, mask=wanted, other=0.0).to(tl.float32)
        plane += seen * sign(part & member)
    return plane
