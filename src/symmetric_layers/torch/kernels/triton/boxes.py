"""Boxes of pixels, brought by the GPU's copy engine: which box a program has, and where a tap finds it.

Channels lie side by side. A box is a few pixels along every axis, each a power of two, and a run of channels; what lies
outside of the picture arrives as zeros, so there are no masks and hardly any addresses.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from symmetric_layers.torch.kernels.triton.standing import turned

NOWHERE = tl.constexpr(2**30)  # a picture, or a row, that is not there: zeros
_Box = tuple[int, int, int, int]


@lru_cache(maxsize=4096)
def box(rows: int, pictures: int, sizes: tuple[int, ...]) -> _Box:
    """How many pictures and positions along three axes a box of so many pixels has: those that leave the least empty.

    Of pictures there are as many as divide all of them, because the next member may follow in memory.
    """
    shapes = [
        (number, deep, high, rows // number // deep // high)
        for number in _powers(min(rows, pictures & -pictures))
        for deep in _powers(rows // number)
        for high in _powers(rows // number // deep)
    ]

    def cost(shape: _Box) -> tuple[int, ...]:
        filled = 1
        for side, size in zip(shape[1:], sizes, strict=True):
            filled *= -(-size // side) * side
        return filled, abs(shape[3] - shape[2]), shape[0]  # of equal ones the one whose sides are

    return min(shapes, key=cost)


def _powers(most: int) -> list[int]:
    return [1 << power for power in range(most.bit_length())]


def counts(shape: _Box, pictures: int, sizes: Sequence[int]) -> _Box:
    """How many boxes there are of pictures, and along three axes."""
    number, deep, high, wide = (-(-size // side) for side, size in zip(shape, (pictures, *sizes), strict=True))
    return number, deep, high, wide


def read_in(tensor: Tensor, shape: Sequence[int]) -> Any:
    """A tensor as the copy engine is told about it, to be read in blocks of this shape."""
    return TensorDescriptor(tensor, list(tensor.shape), list(tensor.stride()), list(shape))


def can_be_read(tensor: Tensor) -> bool:
    """Whether the copy engine can read it: the last axis dense, all others in steps of 16 bytes, but not of none."""
    steps = [stride * tensor.element_size() for stride in tensor.stride()[:-1]]
    return tensor.stride(-1) == 1 and tensor.data_ptr() % 16 == 0 and not any(step % 16 or step == 0 for step in steps)


@triton.jit
def corner(box, counts, shape: tl.constexpr):
    """Where the box of this number begins: a picture and three positions."""
    rest = box // counts[3]
    rows = rest // counts[2]
    z = rows % counts[1] * shape[1]
    return rows // counts[1] * shape[0], z, rest % counts[2] * shape[2], box % counts[3] * shape[3]


@triton.jit
def pixels_of(begins, rows: tl.constexpr, shape: tl.constexpr):
    """The pictures and positions of all pixels of a box."""
    index = tl.arange(0, rows)
    rest = index // shape[3]
    deep = rest // shape[2]
    z = begins[1] + deep % shape[1]
    return begins[0] + deep // shape[1], z, begins[2] + rest % shape[2], begins[3] + index % shape[3]


@triton.jit
def placed(begins, pictures, answer, lies, wide: tl.constexpr, rows: tl.constexpr, shape: tl.constexpr):
    """Where in memory the pixels of a box lie, by the strides of pictures, channels and axes, and which there are."""
    picture, z, y, x = pixels_of(begins, rows, shape)
    there = (picture < pictures) & (z < answer[0]) & (y < answer[1]) & (x < answer[2])
    if wide:
        picture = picture.to(tl.int64)
        z = z.to(tl.int64)
        y = y.to(tl.int64)
        x = x.to(tl.int64)
    return picture * lies[0] + z * lies[2] + y * lies[3] + x * lies[4], there


@triton.jit
def reach(
    begins, tap, kernel: tl.constexpr, padding: tl.constexpr, dilation: tl.constexpr, letters: tl.constexpr
):  # fmt: skip
    """Where the box lies that pixels find at a tap which is mirrored along the letters."""
    z, y, x = turned(tap, kernel, letters)
    z = begins[1] + z * dilation[0] - padding[0]
    return z, begins[2] + y * dilation[1] - padding[1], begins[3] + x * dilation[2] - padding[2]


@triton.jit
def tile(boxes, picture, begins, channel, pixels: tl.constexpr, depth: tl.constexpr):
    """A box, pixels times channels."""
    return tl.reshape(boxes.load([picture, begins[0], begins[1], begins[2], channel]), [pixels, depth])
