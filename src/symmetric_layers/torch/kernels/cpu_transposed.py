"""Transposed convolutions from orbits to orbits, by the fused kernel for processors.

The gradient of the input of a mirrored convolution is a transposed one, whose channels are orbits on both sides. So the
kernel that folds the one answers the other, with the same savings. Agrees with `transposed.conv` in outputs and all
gradients, to rounding.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor

from symmetric_layers.letters import axes, mirrors, orbit_size
from symmetric_layers.orbits import Plan, plan
from symmetric_layers.torch.kernels import cost, cpu, frame
from symmetric_layers.torch.kernels.bank import parts, spoken
from symmetric_layers.torch.kernels.channels import turned
from symmetric_layers.torch.kernels.geometry import Geometry, are_channels_last
from symmetric_layers.torch.kernels.job import are_settled
from symmetric_layers.torch.kernels.library import lanes
from symmetric_layers.torch.kernels.operators import input_gradient
from symmetric_layers.torch.kernels.phases import phases
from symmetric_layers.torch.kernels.reference import expand_bias
from symmetric_layers.torch.kernels.transposed import Transposed

_Numbers = tuple[int, ...]

# Fitted to 80 layers, in products of the ordinary convolution: storing a number a few places from the one before it,
# channels-last; and, more than the reference takes, a phase, a call and a number of the filters.
_SPREAD, _PHASE, _CALL, _NUMBER = 45.0, 2.0e6, 1.0e6, 15.0


def why_not(job: Transposed) -> str | None:
    """What keeps the kernel from doing this exactly, as a clause; None where it can."""
    return cpu.unreadable(job) or _never(job.plan) or frame.transformed(job) or _beside(job)


def slower(job: Transposed) -> str | None:
    """Why the ordinary convolution is expected to be faster, as a clause; None where it is not."""
    if not are_settled(job.x.shape):  # nor are exported programs to need this package
        return "how large pictures are is not known where they are compiled or traced"
    if not _is_of_one_kind(job.plan) or not _is_well_formed(job):
        return None  # it cannot answer
    return cpu.dear(foreseen(job))


def foreseen(job: Transposed) -> float:
    """About how long the kernel takes, as a share of the reference's time."""
    last = are_channels_last(job.x.shape, job.x.stride())
    pictures = job.x.shape[0] if job.x.dim() == job.plan.ndim + 2 else 1
    numbers = map(tuple, (job.weight.shape[2:], job.sizes, job.stride, job.padding))
    return _foreseen(job.plan, *numbers, pictures, last, lanes())


def conv(job: Transposed) -> Tensor:
    """The convolution; equivalent to `transposed.conv(job)`."""
    rank, batched = job.plan.ndim, job.x.dim() == job.plan.ndim + 2
    x = job.x if batched else job.x.unsqueeze(0)
    bank, inputs = _banks(job.plan)
    told = (job.sizes, bank, inputs, job.stride, job.padding, job.dilation)
    y = input_gradient(x, by_inputs(job.weight, job.plan), *told)
    bias = expand_bias(job.bias, job.plan, job.share_bias)
    if bias is not None:
        y = y + bias.view(-1, *[1] * rank) if y.requires_grad else y.add_(bias.view(-1, *[1] * rank))
    return y if batched else y.squeeze(0)


def by_inputs(weight: Tensor, plan: Plan) -> Tensor:
    """The same bank, stored by the first inputs of all orbits instead of by representatives.

    Args:
        weight: `(in_channels, orbits, *kernel)`, what is stored.
        plan: from orbits of one kind to orbits of the same.

    Returns:
        `(input orbits, out_channels, *kernel)`.
    """
    kind = plan.blocks[0].kind
    stored = weight.unflatten(0, (-1, orbit_size(kind)))
    seen = [turned(stored[:, member], axes(letters)) for member, letters in enumerate(mirrors(kind))]
    return torch.stack(seen, 2).flatten(1, 2)


def _banks(plan: Plan) -> tuple[list[int], list[int]]:
    """The blocks of the inputs, which take the place of filters, and those of the filters."""
    return spoken(plan.inputs or plan), spoken(plan)


def _is_of_one_kind(plan: Plan) -> bool:
    kinds = [block.kind for bank in (plan, plan.inputs) if bank is not None for block in bank.blocks]
    return plan.inputs is not None and len(kinds) == 2 and kinds[0] == kinds[1] != ""


def _never(plan: Plan) -> str | None:
    mixed = None if _is_of_one_kind(plan) else "it knows orbits of one kind only, the same for inputs and filters"
    return frame.never(plan) or mixed


def _beside(job: Transposed) -> str | None:
    """What of this picture it does not know."""
    if not _is_well_formed(job):
        return "the host refuses such an input, or such sizes"
    letters = sorted({*job.lopsided} & {*job.plan.blocks[0].kind})
    if letters:
        return f"output padding along {letters[0]!r} has the mirrored grid lie apart"
    if any(more >= s for more, s in zip(job.output_padding, job.stride, strict=True)):
        return "output padding is as large as the stride"
    return "its taps are dilated, and stride apart" if max(job.stride) > 1 and max(job.dilation) > 1 else None


def _is_well_formed(job: Transposed) -> bool:
    rank, inputs = job.plan.ndim, job.plan.inputs
    if inputs is None or job.x.dim() not in (rank + 1, rank + 2) or job.x.shape[-rank - 1] != inputs.filters:
        return False
    biases = None if job.bias is None else tuple(job.bias.shape)
    fits = biases in (None, (job.plan.stored if job.share_bias else job.plan.filters,))
    fits = fits and tuple(job.weight.shape[:2]) == (inputs.filters, job.plan.stored)
    return fits and min(job.sizes) > 0 and min(job.x.shape[-rank:]) > 0


@lru_cache(maxsize=1024)
def _foreseen(
    bank: Plan, kernel: _Numbers, sizes: _Numbers, stride: _Numbers, padding: _Numbers, pictures: int, last: bool,
    lanes: int,
) -> float:  # fmt: skip
    """What all phases take, each of which is a deep layer; pixels are never in the lanes, as if there were none."""
    inputs = bank.inputs or bank
    geometry = Geometry(sizes, kernel, stride, padding, [1] * len(sizes))
    blocks = parts(tuple(spoken(inputs)), tuple(spoken(bank)), bank.filters, bank.ndim)
    ours = theirs = 0.0
    for phase in (phase for some in phases(geometry, blocks) or () for phase in some):
        kind, filters = bank.blocks[0].kind, phase.outputs * orbit_size(bank.blocks[0].kind)
        seen = plan({kind: filters}, filters, bank.ndim, 1, {kind: inputs.filters}, inputs.filters)
        taps, plane = tuple(phase.geometry.kernel_size), phase.geometry.answer
        pixels = pictures * math.prod(plane) * filters
        plain = cost.ordinary(inputs.filters * math.prod(taps), last, lanes)
        ours += pixels * (plain * cost.ratio(seen, inputs.filters, taps, last, lanes, plane=0) + _SPREAD * last)
        ours += _PHASE
        theirs += pixels * plain
    stored = inputs.filters * bank.stored * math.prod(kernel)
    return (ours + _CALL + _NUMBER * stored) / theirs if theirs else math.inf
