"""Folding: mirrors share their numbers, so pictures are folded first and half the multiplications are left.

A filter is the sum of a mirror-even and a mirror-odd part, and its mirror is their difference. The even part needs only
sums of pixels that mirror each other, the odd part only their differences. For a kind of m letters there are `2**m`
parts, one for every set of letters along which they are odd, and a butterfly of additions makes the members of an orbit
out of them.

Answers mirror bit for bit. Sums do not depend on the order of two numbers and differences only change their sign, so
every even part is the same number for a picture and its mirror, and every odd part its negative, if all products are
summed in the same order. No library promises that for two places of a picture, nor for two pictures of a batch. So one
half of the answer is made from the picture, the other half from its mirror image, by the same call on the same places.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from symmetric_layers.letters import LETTERS, axes, mirrors
from symmetric_layers.orbits import Block
from symmetric_layers.torch.kernels.channels import cut, exchange_channels, join, turned
from symmetric_layers.torch.kernels.job import Job
from symmetric_layers.torch.kernels.planes import Axis, Parts, axis_of, fold_filters, fold_pictures
from symmetric_layers.torch.kernels.reference import CONV, expand_bias, host_conv
from symmetric_layers.torch.kernels.reference import conv as reference


def slower(job: Job) -> str:
    """Why the reference is faster: every plane is written to memory and read again."""
    return "folding in PyTorch operations is bound by memory"


def conv(job: Job) -> Tensor:
    """The answer of the whole bank, by folding; a mirrored picture has bit for bit the mirrored answer.

    Equivalent to: `reference.conv`. What is infinite or NaN there is infinite or NaN here; where the mirrored grid is
    not the shared one, so is what another member of the orbit reads.

    Law: that of `SymmetricConv2d`, bit for bit, signed zeros included.
    """
    plan = job.plan
    if not plan.orbits or not _understood(job):
        return reference(job)
    frame = {letter: axis_of(job, plan.ndim - 1 - place) for place, letter in enumerate(LETTERS[: plan.ndim])}
    if any(axis.size < 1 for axis in frame.values()):
        return reference(job)
    batch = job if job.x.dim() == plan.ndim + 2 else job.of(job.x.unsqueeze(0))
    answer = _depthwise(batch, frame) if plan.depthwise else _in_banks(batch, frame)
    bias = expand_bias(job.bias, plan, job.share_bias)
    # adding what is not -0.0 leaves no -0.0: the sign of a zero would tell a picture from its mirror image
    answer = answer + (0.0 if bias is None else (bias + 0.0).to(answer.dtype)[(..., *[None] * plan.ndim)])
    return answer if batch is job else answer.squeeze(0)


def _understood(job: Job) -> bool:
    """Whether the host takes such an input; where it does not, the reference lets it say why."""
    rank, channels = job.plan.ndim, job.weight.shape[1] * job.plan.groups
    fits = job.x.dim() in (rank + 1, rank + 2) and job.x.shape[-rank - 1] == channels
    return fits and all(side >= 0 for pair in job.case.pads for side in pair)


def _in_banks(job: Job, frame: dict[str, Axis]) -> Tensor:
    """The answer without biases, block after block."""
    plan = job.plan
    padded = job.x.clone(memory_format=torch.contiguous_format)  # laid out alike, however the input is
    sides = [side for letter in frame for side in frame[letter].margins]
    if any(sides):
        padded = F.pad(padded, sides, "constant" if job.case.padding_mode == "zeros" else job.case.padding_mode)
    bank = job.weight.unflatten(0, (plan.banks, -1))
    answers = []
    for block, weight in zip(plan.blocks, cut(bank, [block.orbits for block in plan.blocks], 1), strict=True):
        if block.kind:
            answers.append(_Fold(job, frame, block.kind, weight).answer(padded))
        else:
            free = host_conv(job)(job.x, weight.flatten(0, 1), None, plan.groups)
            answers.append(free.unflatten(1, (plan.banks, -1)))
    return join(answers, 2).flatten(1, 2)


def _depthwise(job: Job, frame: dict[str, Axis]) -> Tensor:
    """The answer without biases where every channel is filtered alone: each member of an orbit sees its own mirror."""
    run, blocks, answers = host_conv(job), job.plan.blocks, []
    pictures = cut(job.x, [block.filters for block in blocks], 1)
    filters = cut(job.weight, [block.orbits for block in blocks], 0)
    for block, x, weight in zip(blocks, pictures, filters, strict=True):
        members = []
        for letters, channels in zip(mirrors(block.kind), x.unflatten(1, (-1, block.size)).unbind(2), strict=True):
            seen = axes("".join(letter for letter in letters if frame[letter].fits))
            mirrored = axes("".join(letter for letter in letters if not frame[letter].fits))
            picture = turned(channels, seen).clone(memory_format=torch.contiguous_format)
            members.append(turned(run(picture, turned(weight, mirrored), None, block.orbits), seen))
        answers.append(torch.stack(members, 2).flatten(1, 2))
    return join(answers, 1)


class _Fold:
    """The orbits of one kind, folded."""

    def __init__(self, job: Job, frame: dict[str, Axis], kind: str, weight: Tensor) -> None:
        self.job, self.frame, self.kind = job, frame, kind
        inputs = job.plan.inputs
        self.blocks = inputs.blocks if inputs else (Block("", weight.shape[2], 1, 0, 0),)
        parts = cut(weight, [block.filters for block in self.blocks], 2)
        self.filters = self._joined(fold_filters, parts)

    def answer(self, padded: Tensor) -> Tensor:
        """`(N, banks, filters, *positions)`."""
        letters = "".join(letter for letter in self.kind if self.frame[letter].fits and self.frame[letter].size > 1)
        bits = 3 + len(self.kind)
        return self._mirrored(padded, letters).flatten(2, bits - 1)

    def _mirrored(self, padded: Tensor, letters: str) -> Tensor:
        """`(N, banks, orbits, *members, *positions)`, along each letter half from the picture, half from its mirror."""
        if not letters:
            return self._half(padded)
        letter, rest = letters[-1], letters[:-1]
        axis, inputs, ndim = self.frame[letter], self.job.plan.inputs, self.job.plan.ndim
        seen = padded if inputs is None else exchange_channels(padded, inputs, letter)
        member = -ndim - 1 - self.kind.index(letter)
        other = self._mirrored(seen.flip(axis.dim), rest).flip((member, axis.dim))
        more = axis.size - axis.half
        return torch.cat([self._mirrored(padded, rest), other.narrow(axis.dim, axis.half - more, more)], axis.dim)

    def _half(self, padded: Tensor) -> Tensor:
        """The members of all orbits on the first half of the positions."""
        banks = self.job.plan.banks
        channels = cut(padded.unflatten(1, (banks, -1)), [block.filters for block in self.blocks], 2)
        planes = self._joined(fold_pictures, channels)
        products = {}
        for odd, part in planes.items():
            # one after the other in memory, so that a picture and its mirror are never laid out differently
            flat = part.reshape(-1).view(part.shape[0], banks * part.shape[2], *part.shape[3:])
            products[odd] = self._product(flat, self.filters[odd].flatten(0, 1)).unflatten(1, (banks, -1))
        return torch.stack(_butterfly(products, self.kind), 3).unflatten(3, (2,) * len(self.kind))

    def _product(self, planes: Tensor, filters: Tensor) -> Tensor:
        job, ndim = self.job, self.job.plan.ndim
        folded = [LETTERS[ndim - 1 - dim] in self.kind for dim in range(ndim)]
        stride = [1 if done else s for done, s in zip(folded, job.case.stride, strict=True)]
        dilation = [1 if done else d for done, d in zip(folded, job.case.dilation, strict=True)]
        return CONV[ndim](planes, filters, None, stride, (0,) * ndim, dilation, job.plan.groups)

    def _joined(self, fold: Callable[[Tensor, str, Block, dict[str, Axis]], Parts], pieces: Sequence[Tensor]) -> Parts:
        """All blocks of input channels, folded and joined."""
        folded = [fold(piece, self.kind, block, self.frame) for piece, block in zip(pieces, self.blocks, strict=True)]
        keys = [key for key in mirrors(self.kind) if any(key in parts for parts in folded)]
        return {key: join([parts[key] for parts in folded if key in parts], 2) for key in keys}


def _butterfly(parts: Parts, kind: str) -> list[Tensor]:
    """The members of an orbit, in order, from what is even and odd along each letter; parts that are missing are 0."""
    if not kind:
        return [parts[""]]
    last, rest = kind[-1], kind[:-1]
    even = _butterfly({key: part for key, part in parts.items() if last not in key}, rest)
    uneven = {key.replace(last, ""): part for key, part in parts.items() if last in key}
    if not uneven:
        return even + even
    odd = _butterfly(uneven, rest)
    return [a + b for a, b in zip(even, odd, strict=True)] + [a - b for a, b in zip(even, odd, strict=True)]
