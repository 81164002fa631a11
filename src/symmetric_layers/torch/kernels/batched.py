"""Mirrors of the picture instead of mirrors of the filters: the same answers where weights outweigh pictures.

A mirror's answer is `flip . representative . flip`. So a bank can convolve every picture and its mirrors
with the representatives alone, as a larger batch, and turn the answers back. No bank is written out, and gradients
arrive at what is stored. This is worth it in late layers, with many channels and few positions.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from symmetric_layers.letters import axes, mirrors
from symmetric_layers.orbits import Plan
from symmetric_layers.torch.kernels.channels import cut, exchange_channels, join, turned
from symmetric_layers.torch.kernels.grid import Run

_WRITING = 2.5  # writing out one weight and collecting its gradient takes as long as mirroring so many pixels: measured


def worth_it(x: Tensor, weight: Tensor, plan: Plan, stride: Sequence[int]) -> bool:
    """Whether mirroring pictures touches fewer numbers than writing the bank out.

    Args:
        x: the input.
        weight: the stored filters.
        plan: which filters are mirrors of which.
        stride: the stride of the convolution, by which the answer is smaller than the input.
    """
    # compilers fuse the writing, and must not be made to guard sizes; nor do tracers know them
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False
    one_bank = plan.banks == 1 or len(plan.blocks) == 1
    if not plan.orbits or plan.depthwise or not one_bank or x.dim() != plan.ndim + 2:
        return False
    outputs = x.shape[0] * plan.filters * math.prod(-(-n // s) for n, s in zip(x.shape[2:], stride, strict=True))
    mirrored = sum(block.size for block in plan.blocks) * x.numel()
    return mirrored + 2 * outputs < _WRITING * plan.filters * weight[0].numel()


def on_mirrored_pictures(run: Run, x: Tensor, weight: Tensor, bias: Tensor | None, plan: Plan) -> Tensor:
    """The answer of the whole bank, by its representatives.

    Equivalent to: `reference.conv` with the whole bank, where the grid is its own mirror or every mirror has its own.

    Args:
        run: the convolution with some filters and their biases.
        x: the input, `(N, in_channels, *positions)`.
        weight: the stored filters, `bias` their biases.
        plan: which filters are mirrors of which.
    """
    sizes = [block.orbits * plan.banks for block in plan.blocks]
    filters = cut(weight, sizes, -weight.dim())
    biases = [None] * len(sizes) if bias is None else cut(bias, sizes, -1)
    parts = []
    for block, stored, shared in zip(plan.blocks, filters, biases, strict=True):
        letters = mirrors(block.kind)
        pictures = join([_seen(x, plan, mirrored) for mirrored in letters], 0)
        answers = run(pictures, stored, shared, plan.groups).chunk(len(letters))
        members = [turned(answer, axes(mirrored)) for answer, mirrored in zip(answers, letters, strict=True)]
        parts.append(torch.stack(members, 2).flatten(1, 2) if block.kind else answers[0])
    return join(parts, 1)


def _seen(x: Tensor, plan: Plan, letters: str) -> Tensor:
    if not letters:
        return x
    mirrored = x.flip(axes(letters))
    return mirrored if plan.inputs is None else exchange_channels(mirrored, plan.inputs, letters)
