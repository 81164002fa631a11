"""Gradients of the input of strided layers, phase after phase, by the kernels that know no strides."""

from collections.abc import Sequence
from itertools import repeat
from typing import Any

import torch
from torch import Tensor

from symmetric_layers.torch.kernels.bank import Part
from symmetric_layers.torch.kernels.geometry import Geometry, empty_like
from symmetric_layers.torch.kernels.phases import Phase, are_covered
from symmetric_layers.torch.kernels.triton.calls import to_orbits, to_pictures
from symmetric_layers.torch.kernels.triton.order import gather


def to_phases(
    gradient: Tensor, weight: Tensor, x: Tensor, geometry: Geometry, part: Part, found: Sequence[Phase]
) -> None:
    """The gradient of the input, into x.

    Args:
        gradient: of the filters of one block.
        weight: the stored filters.
        x: as large as the input of the layer, whose geometry is given.
        part: the block.
        found: the phases of the gradient.
    """
    if not are_covered(geometry):
        x.zero_()
    for phase in found:
        members = len(phase.first)
        laced = tuple(members * orbit + member for member in range(members) for orbit in range(phase.outputs))
        own = part._replace(deep=phase.deep, inputs=phase.outputs, in_order=laced)
        y = empty_like(gradient, (x.shape[0], len(laced), *phase.geometry.answer))
        make = to_orbits if phase.deep else to_pictures
        make(gradient, _taps_of(phase, weight, geometry.stride), y, phase.geometry, own)
        _spread(y, x, phase, geometry.stride)


def _taps_of(phase: Phase, weight: Tensor, stride: Sequence[int]) -> Tensor:
    """The filters of a phase, the members of an orbit side by side."""
    members = []
    for first, channels in zip(phase.first, phase.channels, strict=True):
        taps = weight[_every(first, stride)]
        chosen = _index(channels, weight)
        members.append(taps[:, : phase.outputs] if chosen is None else taps.index_select(1, chosen))
    return torch.stack(members, 2).flatten(1, 2)


def _spread(y: Tensor, x: Tensor, phase: Phase, stride: Sequence[int]) -> None:
    """Pixels of a phase, the members of an orbit side by side, to where they are in the picture."""
    members = len(phase.first)
    for member, (first, channels) in enumerate(zip(phase.first, phase.channels, strict=True)):
        starts = [start - margin for start, margin in zip(first, phase.margin, strict=True)]
        skipped = [max(-(start // step), 0) for start, step in zip(starts, stride, strict=True)]
        begins = [start + skip * step for start, skip, step in zip(starts, skipped, stride, strict=True)]
        target = x[_every(begins, stride)]
        inside = [slice(skip, skip + size) for skip, size in zip(skipped, target.shape[2:], strict=True)]
        source, chosen = y[(slice(None), slice(member, None, members), *inside)], _index(channels, x)
        if chosen is None:
            target[:, : phase.outputs].copy_(source)
        else:
            target.index_copy_(1, chosen, source)


def _every(begins: Sequence[int], stride: Sequence[int]) -> Any:
    """Of the last axes every so many places, from one on."""
    return (..., *map(slice, begins, repeat(None), stride))


def _index(channels: tuple[int, ...], like: Tensor) -> Tensor | None:
    """Channels as a tensor where the other one is; None where they are the first ones, in order."""
    chosen = gather(channels, len(channels))
    return None if chosen is None else chosen.to(like.device, non_blocking=True)
