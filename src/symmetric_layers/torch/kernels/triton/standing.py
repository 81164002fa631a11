"""Which taps stand for their mirrors, and where their parts are among the slots; the compiler works all of it out.

Taps are numbered group by group: those that the same letters move. Of a group those are numbered that stand for all.
Letters are bits; a **slot** is one part of one tap that stands for its mirrors.
"""

import triton
import triton.language as tl

from symmetric_layers.torch.kernels.triton.tuples import spread

HALF = tl.constexpr(1)  # which taps of an axis stand for all (0: all): the first half, the others are their mirrors
CENTRE = tl.constexpr(2)  # or the one in the middle, which is its own mirror


@triton.constexpr_function
def has(letters, axis):
    """Whether the letters read this axis backwards; axis 0 is the depth, 2 the width."""
    return bool(letters >> (2 - axis) & 1)


@triton.constexpr_function
def gathered(bits, mask):
    """The bits of a number that are set in a mask, side by side: the opposite of `spread`."""
    laid = 0
    place = 0
    for bit in range(3):
        if mask >> bit & 1:
            laid |= (bits >> bit & 1) << place
            place += 1
    return laid


@triton.constexpr_function
def chosen(axis, kind, moved, deep):
    """Which taps along an axis stand for all.

    Args:
        axis: the axis.
        kind: the letters of the orbits.
        moved: those that move a tap; on the centre line of an axis its letter moves nothing.
        deep: whether the channels are exchanged; then every tap is read for itself.
    """
    if deep or not kind >> (2 - axis) & 1:
        return 0
    return 1 if moved >> (2 - axis) & 1 else 2


@triton.constexpr_function
def along(kernel, axis, kind, moved, deep):
    """How many taps of an axis stand for all."""
    which = chosen(axis, kind, moved, deep)
    if which == 0:
        return kernel[axis]
    return kernel[axis] // 2 if which == 1 else kernel[axis] % 2


@triton.constexpr_function
def number(kernel, kind, moved, deep):
    """How many taps stand for all that the same letters move."""
    found = 1
    for axis in range(3):
        found *= along(kernel, axis, kind, moved, deep)
    return found


@triton.constexpr_function
def entries_before(kernel, kind, moved, deep):
    """How many taps of earlier groups stand for all."""
    found = 0
    for pattern in range(0 if deep else gathered(moved, kind)):
        found += number(kernel, kind, spread(pattern, kind), deep)
    return found


@triton.constexpr_function
def before(kernel, kind, moved, deep):
    """The first slot of the taps that these letters move."""
    found = 0
    for pattern in range(0 if deep else gathered(moved, kind)):
        found += number(kernel, kind, spread(pattern, kind), deep) * 2 ** bin(pattern).count("1")
    return found


@triton.constexpr_function
def slots(kernel, kind, deep):
    """How many slots there are."""
    return before(kernel, kind, kind, deep) + number(kernel, kind, kind, deep) * 2 ** bin(kind).count("1")


@triton.constexpr_function
def groups(kind, deep):
    """The letters that move the taps of a group, group by group."""
    members = 2 ** bin(kind).count("1")
    return [spread(pattern, kind) for pattern in range(members - 1 if deep else 0, members)]


@triton.constexpr_function
def place_of(part, moved, kind):
    """The number of a part of the moved letters among all parts of the kind."""
    return gathered(spread(part, moved), kind)


@triton.constexpr_function
def middle(kernel, axis):
    """The tap in the middle of an axis."""
    return kernel[axis] // 2


@triton.constexpr_function
def last(kernel, axis):
    """The last tap of an axis."""
    return kernel[axis] - 1


@triton.jit
def tap_of(entry, kernel: tl.constexpr, kind: tl.constexpr, moved: tl.constexpr, deep: tl.constexpr):
    """The tap that has this number among those that stand for all of a group."""
    wide: tl.constexpr = along(kernel, 2, kind, moved, deep)
    high: tl.constexpr = along(kernel, 1, kind, moved, deep)
    x = entry % wide
    y = entry // wide % high
    z = entry // (wide * high)
    if chosen(2, kind, moved, deep) == CENTRE:
        x = middle(kernel, 2)
    if chosen(1, kind, moved, deep) == CENTRE:
        y = middle(kernel, 1)
    if chosen(0, kind, moved, deep) == CENTRE:
        z = middle(kernel, 0)
    return z, y, x


@triton.jit
def turned(tap, kernel: tl.constexpr, letters: tl.constexpr):
    """The tap that mirrors a tap along these letters."""
    z, y, x = tap
    if has(letters, 0):
        z = last(kernel, 0) - z
    if has(letters, 1):
        y = last(kernel, 1) - y
    if has(letters, 2):
        x = last(kernel, 2) - x
    return z, y, x
