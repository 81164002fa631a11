"""What all kernels do with their sums: members are laced into channels, and tiles written where they belong."""

import triton
import triton.language as tl

from symmetric_layers.torch.kernels.triton.lacing import laced
from symmetric_layers.torch.kernels.triton.tuples import butterfly, put


@triton.jit
def mirrored(
    sums, bias, first, orbits, letters: tl.constexpr, biased: tl.constexpr, rows: tl.constexpr, columns: tl.constexpr
):
    """The answers of orbits from the sums of their parts, with the bias, the members of an orbit side by side."""
    added = tl.full([columns], 0.0, tl.float32)
    if biased:
        orbit = first + tl.arange(0, columns)
        added += tl.load(bias + orbit, mask=orbit < orbits, other=0.0).to(tl.float32)
    sums = put(sums, 0, sums[0] + added[None, :])  # no sum is a negative zero then
    return laced(butterfly(sums, letters), letters, rows, columns)


@triton.jit
def write(y, tile, place, there, first, channels, step, columns: tl.constexpr):
    """Writes pixels times channels.

    Args:
        y: where to; channels are `step` apart.
        place, there: where pixels begin in memory, and which of them there are.
        first, channels: the first one of the tile, and how many there are in all.
    """
    channel = first + tl.arange(0, columns)
    wanted = there[:, None] & (channel < channels)[None, :]
    tl.store(y + place[:, None] + channel[None, :].to(place.dtype) * step, tile.to(y.dtype.element_ty), mask=wanted)


@triton.jit
def write_parts(sums, totals, slot, channel, orbit, channels, orbits, parts: tl.constexpr):
    """Writes the gradients of so many parts of one tap, channels times orbits, into `(slots, channels, orbits)`."""
    wanted = (channel < channels)[:, None] & (orbit < orbits)[None, :]
    for part in tl.static_range(parts):
        target = sums + ((slot + part).to(tl.int64) * channels + channel[:, None]) * orbits + orbit[None, :]
        tl.store(target, totals[part], mask=wanted)
