"""Mirrored grids as one convolution: kernels wider by what is left over, filters and mirrors at its two ends."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from symmetric_layers.flax.grid import each, pads_of, reaches_of
from symmetric_layers.letters import LETTERS


class Axis(NamedTuple):
    """How one ordinary convolution covers both grids along one axis.

    Attributes:
        before, after: what is added to the picture.
        offsets: where in the wider kernel the filters stand, and where their mirrors.
    """

    before: int
    after: int
    offsets: tuple[int, int]


def axes_of(layer: Any, sizes: Sequence[int], crooked: str) -> list[Axis]:
    """Covers the grid of a convolution on pictures of these sizes, and its mirror image along crooked letters."""
    reaches = reaches_of(layer)
    strides, spread = each(layer.strides, reaches), each(layer.input_dilation, reaches)
    found = []
    geometry = zip(sizes, reaches, strides, spread, pads_of(layer, sizes, reaches, strides), strict=True)
    for index, (size, reach, stride, wide, (before, after)) in enumerate(geometry):
        if LETTERS[len(reaches) - 1 - index] not in crooked:
            found.append(Axis(before, after, (0, 0)))
            continue
        rest = ((size - 1) * wide + 1 + before + after - reach) % stride
        shift = before - after + rest  # from the first window to the first one that is seen in the mirror
        offsets = (max(0, -shift), max(0, shift))
        found.append(Axis(before + offsets[0], after - rest + offsets[1], offsets))
    return found


def axes_of_transposed(layer: Any, crooked: str) -> list[Axis]:
    """What is added to the spread picture of a transposed convolution, for its grid and the mirror image of that."""
    reaches = reaches_of(layer)
    strides = each(layer.strides, reaches)
    found = []
    for index, (reach, stride) in enumerate(zip(reaches, strides, strict=True)):
        before, after = _added(layer.padding, index, reach, stride)
        if LETTERS[len(reaches) - 1 - index] not in crooked:
            found.append(Axis(before, after, (0, 0)))
            continue
        most = max(before, after)
        offsets = (most - before, most - after)
        turned = getattr(layer, "transpose_kernel", False)  # the host reads such kernels backwards
        found.append(Axis(most, most, offsets[::-1] if turned else offsets))
    return found


def _added(padding: Any, index: int, reach: int, stride: int) -> tuple[int, int]:
    """What `lax.conv_transpose` adds on both sides."""
    if not isinstance(padding, str):
        pairs = [(padding, padding)] * (index + 1) if isinstance(padding, int) else padding
        pair = pairs[index]
        return (pair, pair) if isinstance(pair, int) else tuple(pair)
    if padding == "VALID":
        total, before = reach + stride - 2 + max(reach - stride, 0), reach - 1
    else:
        total = reach + stride - 2
        before = reach - 1 if stride > reach - 1 else -(-total // 2)
    return before, total - before


def placed(kernel: Array, axes: Sequence[Axis], layer: Any) -> Array:
    """The filters without dilation, at one end of a wider kernel, those that are mirrored at its other end."""
    dilations = each(layer.kernel_dilation, axes)
    for index, (axis, dilation) in enumerate(zip(axes, dilations, strict=True)):
        kernel = _dense(kernel, index, dilation)
        if axis.offsets == (0, 0):
            continue
        low, high = (_at(kernel, index, offset, max(axis.offsets)) for offset in axis.offsets)
        if not hasattr(layer, "plan"):  # what answers ordinary channels is the mean over both
            kernel = (low + high) / 2
        else:
            letter = LETTERS[len(axes) - 1 - index]
            chosen = jnp.array([letter in mirror for mirror in layer.plan.mirror])
            kernel = jnp.where(chosen[:, None] if getattr(layer, "transpose_kernel", False) else chosen, high, low)
    return kernel


def _dense(kernel: Array, index: int, dilation: int) -> Array:
    """The same filters without dilation: zeros between their rows."""
    pads = [(0, 0, dilation - 1 if axis == index else 0) for axis in range(kernel.ndim)]
    return lax.pad(kernel, jnp.zeros((), kernel.dtype), pads)


def _at(kernel: Array, index: int, offset: int, room: int) -> Array:
    return jnp.pad(kernel, [(offset, room - offset) if axis == index else (0, 0) for axis in range(kernel.ndim)])
