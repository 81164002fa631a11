"""Mirrored grids as one convolution: kernels wider by what is left over, filters and mirrors at its two ends."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from symmetric_layers.letters import LETTERS
from symmetric_layers.orbits import Plan


class Axis(NamedTuple):
    """How one ordinary convolution covers both grids along one axis.

    Attributes:
        padding: the padding on both sides.
        offsets: where in the wider kernel the filters stand, and where their mirrors.
        lasting: whether that is right for all sizes.
    """

    padding: int
    offsets: tuple[int, int]
    lasting: bool


def axis_of(before: int, after: int, rest: int, mirrored: bool, lasting: bool = False) -> Axis:
    """Covers the grid of padding `before` and `after` that leaves `rest` columns over, and its mirror image."""
    if not mirrored:
        # one grid alone: padding that is larger on one side is a kernel with a column of zeros
        return Axis(max(before, after), (max(before, after) - before,) * 2, True)
    padding = max(before, after - rest)
    return Axis(padding, (padding - before, padding + rest - after), lasting)


def lettered(layer: Any) -> str:
    """The letters along which filters of a layer have mirrors, or are their own."""
    if getattr(layer, "invariance", None) is not None:
        return layer.invariance.swapped + layer.invariance.palindromic
    return "".join(letter for letter in LETTERS if any(letter in kind for kind in layer.plan.kinds))


def dense(weight: Tensor, axis: int, dilation: int) -> Tensor:
    """The same filters without dilation: zeros between their columns."""
    if dilation == 1 or weight.shape[2 + axis] == 1:
        return weight
    shape = list(weight.shape)
    shape[2 + axis] = dilation * (shape[2 + axis] - 1) + 1
    index = torch.arange(0, shape[2 + axis], dilation, device=weight.device)
    return weight.new_zeros(shape).index_copy(2 + axis, index, weight)


def placed(
    weight: Tensor, axis: int, offsets: tuple[int, int], arranged: Plan | None, letter: str, layer: Any
) -> Tensor:
    """The filters at one end of a wider kernel, those that are mirrored along the letter at the other."""
    low = _at(weight, axis, offsets[0], max(offsets))
    high = _at(weight, axis, offsets[1], max(offsets))
    if arranged is None:  # an invariant convolution is the mean over both
        return (low + high) / 2
    dim = 1 if layer.transposed and not arranged.depthwise else 0
    mirrored = [letter in mirror for mirror in arranged.mirror][: weight.shape[dim]]
    chosen = torch.tensor(mirrored, device=weight.device)
    shape = [1] * weight.dim()
    shape[dim] = -1
    return torch.where(chosen.reshape(shape), high, low)


def around_zeros(weight: Tensor, axis: int, padding: int, zeros: tuple[int, int], stride: int) -> tuple[Tensor, int]:
    """The filters and the padding for pictures that have zeros around them already, and are to answer as without.

    Columns of zeros stand in a kernel where a picture has more of them on the other side; nothing is left over of such
    grids, so that fewer than a stride do no harm after it.
    """
    before, after = zeros
    more = abs(before - after) if before > after or after - before >= stride else 0
    return _at(weight, axis, more if before > after else 0, more), padding - min(zeros)


def _at(weight: Tensor, axis: int, offset: int, room: int) -> Tensor:
    shape = list(weight.shape)
    shape[2 + axis] += room
    wider = weight.new_zeros(shape)
    wider.narrow(2 + axis, offset, weight.shape[2 + axis]).copy_(weight)
    return wider
