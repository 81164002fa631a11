"""Stored filters as the kernels want them, and gradients on their way back.

A filter is packed as its parts: what is even or odd along every letter. The parts of a tap are signed means over what
its mirrors hold; they are worked out in float32, and rounded once. Both directions are one pass.
"""

import triton
import triton.language as tl

from symmetric_layers.torch.kernels.triton.launch import INTERPRETED
from symmetric_layers.torch.kernels.triton.standing import along, before, chosen, last, number, slots, tap_of, turned
from symmetric_layers.torch.kernels.triton.tuples import coarse, count, sign, spread, spread_out

SIDE = 64 if INTERPRETED else 32  # of a tile of filters


@triton.jit
def packing(
    weight, packed, orbits, channels, lies, kernel: tl.constexpr, kind: tl.constexpr, deep: tl.constexpr,
    backwards: tl.constexpr, by_channel: tl.constexpr, pieces: tl.constexpr, side: tl.constexpr,
):  # fmt: skip
    """Writes the parts of filters, `(pieces, slots, orbits, channels of a member)`.

    Args:
        weight: the stored filters of one block; `lies` are their strides: of orbits, channels and three axes.
        packed: dense; channels come before orbits where `by_channel`.
        orbits, channels: how many there are, of the bank and of one member.
        kernel: the sizes of the filters, three numbers.
        kind, deep: the letters in bits, and whether they exchange channels.
        backwards: for the gradient of orbits: filters are read backwards, and by the other member.
        pieces: two where float32 is multiplied as TF32 thrice: what TF32 keeps of a number, and what it drops.
    """
    slot = tl.program_id(0)
    for pattern in tl.static_range(2 ** count(kind)):
        if (not deep) or pattern == 2 ** count(kind) - 1:
            within = slot - before(kernel, kind, spread(pattern, kind), deep)
            if (within >= 0) & (within < number(kernel, kind, spread(pattern, kind), deep) * 2 ** count(pattern)):
                _pack(
                    weight, packed, slot, within, orbits, channels, lies, kernel, kind, pattern, deep, backwards,
                    by_channel, pieces, side,
                )  # fmt: skip


@triton.jit
def _pack(
    weight, packed, slot, within, orbits, channels, lies, kernel: tl.constexpr, kind: tl.constexpr,
    pattern: tl.constexpr, deep: tl.constexpr, backwards: tl.constexpr, by_channel: tl.constexpr,
    pieces: tl.constexpr, side: tl.constexpr,
):  # fmt: skip
    """One part of one tap."""
    members: tl.constexpr = 2 ** count(kind)
    where = tap_of(within // 2 ** count(pattern), kernel, kind, spread(pattern, kind), deep)
    odd = spread_out(within % 2 ** count(pattern), pattern)
    orbit = tl.program_id(1) * side + tl.arange(0, side)
    channel = tl.program_id(2) * side + tl.arange(0, side)
    wanted = (orbit < orbits)[:, None] & (channel < channels)[None, :]
    total = tl.full([side, side], 0.0, tl.float32)
    for member in tl.static_range(members):
        z, y, x = turned(where, kernel, 7 if backwards else spread(member, kind))
        own = channel
        if deep:
            own = channel * members + member
        place = orbit[:, None] * lies[0] + own[None, :] * lies[1] + (z * lies[2] + y * lies[3] + x * lies[4])
        total += tl.load(weight + place, mask=wanted, other=0.0).to(tl.float32) * sign(odd & member)
    total = total / members
    place = (slot * orbits + orbit[:, None]) * channels + channel[None, :]
    if by_channel:
        place = (slot * channels + channel[None, :]) * orbits + orbit[:, None]
    if pieces == 2:
        rest = slots(kernel, kind, deep) * orbits * channels
        tl.store(packed + place + rest, total - coarse(total), mask=wanted)
        total = coarse(total)
    tl.store(packed + place, total.to(packed.dtype.element_ty), mask=wanted)


@triton.jit
def unpacking(
    sums, gradient, splits, orbits, channels, lies, kernel: tl.constexpr, kind: tl.constexpr, deep: tl.constexpr,
    side: tl.constexpr,
):  # fmt: skip
    """Writes the gradient of stored filters, from shares of the gradients of their parts; these are added in order.

    Args:
        sums: `(splits, slots, channels of a member, orbits)`.
        gradient: of the filters of one block; `lies` are its strides: of orbits, channels and three axes.
    """
    letters: tl.constexpr = count(kind)
    flat = tl.program_id(0)
    member = 0
    if deep:
        member = flat % 2**letters
        flat = flat // 2**letters
    here = (flat // (kernel[1] * kernel[2]), flat // kernel[2] % kernel[1], flat % kernel[2])
    moved = 0
    where = ()
    for axis in tl.static_range(3):
        tap = here[axis]
        if (kind >> (2 - axis)) % 2 == 1:
            if deep:
                tap = tl.where(member // bit_of(kind, axis) % 2 == 1, last(kernel, axis) - tap, tap)
            else:
                beyond = tap > last(kernel, axis) - tap
                moved += tl.where(tap == last(kernel, axis) - tap, 0, bit_of(kind, axis))
                member += tl.where(beyond, bit_of(kind, axis), 0)
                tap = tl.where(beyond, last(kernel, axis) - tap, tap)
        where = where + (tap,)
    total = tl.full([side, side], 0.0, tl.float32)
    for pattern in tl.static_range(2**letters):
        if (not deep) or pattern == 2**letters - 1:  # noqa: SIM102 - the first is known when this is compiled
            if deep or moved == pattern:
                total = _parts(sums, where, member, splits, orbits, channels, kernel, kind, pattern, deep, side)
    channel = tl.program_id(1) * side + tl.arange(0, side)
    orbit = tl.program_id(2) * side + tl.arange(0, side)
    own = channel
    if deep:
        own = channel * 2**letters + member
    place = (
        orbit[None, :] * lies[0] + own[:, None] * lies[1] + here[0] * lies[2] + here[1] * lies[3] + here[2] * lies[4]
    )
    wanted = (channel < channels)[:, None] & (orbit < orbits)[None, :]
    tl.store(gradient + place, total.to(gradient.dtype.element_ty), mask=wanted)


@triton.constexpr_function
def bit_of(kind, axis):
    """The bit of an axis' letter among those of the kind."""
    return 1 << bin(kind & ((1 << (2 - axis)) - 1)).count("1")


@triton.jit
def _parts(
    sums, where, member, splits, orbits, channels, kernel: tl.constexpr, kind: tl.constexpr, pattern: tl.constexpr,
    deep: tl.constexpr, side: tl.constexpr,
):  # fmt: skip
    """The mean of the parts of a tap, with the signs that one of its mirrors has."""
    moved: tl.constexpr = spread(pattern, kind)
    entry = 0
    for axis in tl.static_range(3):
        place = where[axis]
        if chosen(axis, kind, moved, deep) == 2:
            place = 0
        entry = entry * along(kernel, axis, kind, moved, deep) + place
    slot = before(kernel, kind, moved, deep) + entry * 2 ** count(pattern)
    channel = tl.program_id(1) * side + tl.arange(0, side)
    orbit = tl.program_id(2) * side + tl.arange(0, side)
    wanted = (channel < channels)[:, None] & (orbit < orbits)[None, :]
    own = sums + channel[:, None] * orbits + orbit[None, :]
    total = tl.full([side, side], 0.0, tl.float32)
    for split in tl.range(0, splits, loop_unroll_factor=4):  # their numbers are on their way together
        for part in tl.static_range(2 ** count(pattern)):
            run = (split * slots(kernel, kind, deep) + slot + part).to(tl.int64) * channels * orbits
            total += tl.load(own + run, mask=wanted, other=0.0) * sign(spread(part, pattern) & member)
    return total / 2 ** count(pattern)
