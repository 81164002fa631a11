"""Where the filters read a picture: pixels, taps, and the places that mirror each other; always with three axes."""

import triton
import triton.language as tl

from symmetric_layers.torch.kernels.triton.standing import CENTRE, HALF, chosen, has


@triton.jit
def portions(number, size):
    """How many portions of this size so many need."""
    return (number + size - 1) // size


@triton.jit
def pixel(index, answer):
    """The picture, and the place in it, of a pixel of the answers that has this number."""
    rest = index // answer[2]
    rows = rest // answer[1]
    return rows // answer[0], rows % answer[0], rest % answer[1], index % answer[2]


@triton.jit
def along(size, which: tl.constexpr):
    """How many taps of an axis stand for all."""
    number = size
    if which == HALF:
        number = size // 2
    if which == CENTRE:
        number = size % 2
    return number


@triton.jit
def entries(kernel, kind: tl.constexpr, moved: tl.constexpr, deep: tl.constexpr):
    """How many taps stand for all that the same letters move."""
    deeper = along(kernel[0], chosen(0, kind, moved, deep))
    return deeper * along(kernel[1], chosen(1, kind, moved, deep)) * along(kernel[2], chosen(2, kind, moved, deep))


@triton.jit
def tap(entry, kernel, kind: tl.constexpr, moved: tl.constexpr, deep: tl.constexpr):
    """The tap that has this number among those."""
    wide = along(kernel[2], chosen(2, kind, moved, deep))
    high = along(kernel[1], chosen(1, kind, moved, deep))
    x = entry % wide
    y = entry // wide % high
    z = entry // (wide * high)
    if chosen(2, kind, moved, deep) == CENTRE:
        x = kernel[2] // 2
    if chosen(1, kind, moved, deep) == CENTRE:
        y = kernel[1] // 2
    if chosen(0, kind, moved, deep) == CENTRE:
        z = kernel[0] // 2
    return z, y, x


@triton.jit
def turned(tap, size, backwards: tl.constexpr):
    """The tap, or its mirror along this axis."""
    if backwards:
        tap = size - 1 - tap
    return tap


@triton.jit
def read(places, tap, kernel, dilation, sizes, strides, letters: tl.constexpr):
    """Where pixels find a tap that is mirrored along the letters, and whether that is in the picture.

    Args:
        places: three tensors, where the filters begin.
        tap: three numbers.
        kernel, dilation, sizes: of the filters and the picture.
        strides: in memory, of the picture's axes.
        letters: in bits.
    """
    z = places[0] + turned(tap[0], kernel[0], has(letters, 0)) * dilation[0]
    y = places[1] + turned(tap[1], kernel[1], has(letters, 1)) * dilation[1]
    x = places[2] + turned(tap[2], kernel[2], has(letters, 2)) * dilation[2]
    inside = (z >= 0) & (z < sizes[0]) & (y >= 0) & (y < sizes[1]) & (x >= 0) & (x < sizes[2])
    return z * strides[0] + y * strides[1] + x * strides[2], inside
