"""The meaning of a symmetric convolution: write the whole bank out, then call the ordinary convolution.

Every faster algorithm has to give these outputs and these gradients.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from symmetric_layers.letters import axes
from symmetric_layers.orbits import Plan
from symmetric_layers.torch.kernels import opaque_host
from symmetric_layers.torch.kernels.batched import on_mirrored_pictures, worth_it
from symmetric_layers.torch.kernels.channels import cut, exchange, join, spread
from symmetric_layers.torch.kernels.grid import Run, lopsided, on_mirrored_grid
from symmetric_layers.torch.kernels.job import Job
from symmetric_layers.torch.kernels.job import both_sides as both_sides  # converters look for it here

CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def expand_weight(weight: Tensor, plan: Plan, transposed: bool = False) -> Tensor:
    """The whole bank of filters: every representative, followed by its mirrors.

    Args:
        weight: the stored filters, `(stored, in_channels / groups, *kernel)`; of a transposed convolution
            `(in_channels, stored / groups, *kernel)`.
        plan: which filters are mirrors of which. A depthwise plan's weight is `(stored, 1, *kernel)` either way.
        transposed: whether the weight is laid out as a transposed convolution's.

    Returns:
        The same with all filters instead of the stored ones: what the host's own layer would hold.
    """
    if not plan.orbits:
        return weight
    if plan.banks > 1:
        weight = weight.unflatten(0, (plan.banks, -1))
    bank, inputs = -plan.ndim - 2, -plan.ndim - 1
    if transposed and not plan.depthwise:
        bank, inputs = inputs, bank
    parts = []
    for block, part in zip(plan.blocks, cut(weight, [block.orbits for block in plan.blocks], bank), strict=True):
        # each letter doubles the orbit, so that the last one mirrors half of it at once
        for bit, letter in enumerate(block.kind):
            channels = inputs if inputs > bank else inputs - bit  # the orbit's axes stand behind the bank's
            part = torch.stack([part, _mirror(part, plan, letter, channels)], bank - bit)
        parts.append(part.flatten(bank - len(block.kind), bank))
    full = join(parts, bank)
    return full.flatten(0, 1) if plan.banks > 1 else full


def expand_bias(bias: Tensor | None, plan: Plan, share_bias: bool) -> Tensor | None:
    """One bias per filter: its representative's where biases are shared, `None` where there are none."""
    if bias is None or not share_bias:
        return bias
    if plan.banks > 1:
        return spread(bias.unflatten(0, (plan.banks, -1)), plan).flatten()
    return spread(bias, plan)


def conv(job: Job) -> Tensor:
    """`F.conv1d`, `F.conv2d` or `F.conv3d` with the whole bank."""
    plan, run = job.plan, host_conv(job)
    mirrored = job.case.grid == "mirrored" and bool(plan.orbits)
    pictures_instead = (job.bias is None or job.share_bias) and worth_it(job.x, job.weight, plan, job.case.stride)
    letters = ""
    if mirrored or pictures_instead:
        letters = lopsided(job.case.sizes, job.case.pads, job.case.kernel_size, job.case.stride, job.case.dilation)
    if pictures_instead and (mirrored or not set(letters) & set("".join(plan.kinds))):
        return on_mirrored_pictures(run, job.x, job.weight, job.bias, plan)
    weight, bias = expand_weight(job.weight, plan), expand_bias(job.bias, plan, job.share_bias)
    if mirrored and letters and opaque_host.is_wanted(job):
        return opaque_host.conv(job, weight, bias)
    if mirrored and letters:
        return on_mirrored_grid(run, job.x, weight, bias, plan, letters, filters_dim=0)
    return run(job.x, weight, bias, plan.groups)


def host_conv(job: Job) -> Run:
    """The host's convolution with the job's geometry, for an input, filters, biases and groups."""

    def run(x: Tensor, weight: Tensor, bias: Tensor | None, groups: int) -> Tensor:
        inside = job.case.padding
        if job.case.padding_mode != "zeros":
            x = F.pad(x, [side for pair in reversed(job.case.pads) for side in pair], mode=job.case.padding_mode)
            inside = (0,) * job.plan.ndim
        return CONV[job.plan.ndim](x, weight, bias, job.case.stride, inside, job.case.dilation, groups)

    return run


def _mirror(weight: Tensor, plan: Plan, letter: str, channels: int) -> Tensor:
    mirrored = weight.flip(axes(letter))
    return mirrored if plan.inputs is None or plan.depthwise else exchange(mirrored, plan.inputs, letter, channels)
