"""What the fused kernels have in common: how a job is laid out for them, and what none of them does.

They know zeros around the picture, as many before as after, filters of one width, and biases of whole orbits. Other
paddings, mirrored grids and biases of single filters are made of these.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from symmetric_layers.letters import LETTERS
from symmetric_layers.torch.kernels import reference
from symmetric_layers.torch.kernels.bank import spoken
from symmetric_layers.torch.kernels.job import Job


class Frame(NamedTuple):
    """One axis, seen by a representative and its mirror: what is padded, and by how much the grids are apart.

    A mirror is `flip . convolution . flip`. Where stride or padding are not their own mirror images, it reads its own
    grid, `shift` pixels after the representative's (before, where negative).
    """

    before: int
    after: int
    shift: int


def frames(job: Job) -> list[Frame]:
    """All axes of a job."""
    if job.grid != "mirrored":
        return [Frame(before, after, 0) for before, after in job.pads]
    found = []
    axes = zip(job.sizes, job.pads, job.kernel_size, job.stride, job.dilation, strict=True)
    mirrored = set("".join(job.plan.kinds))
    for letter, (n, (before, after), k, s, d) in zip(LETTERS[: job.plan.ndim][::-1], axes, strict=True):
        shift = (n + before + after - d * (k - 1) - 1) % s + before - after if letter in mirrored else 0
        if shift > 0:
            after = before
        elif shift < 0:
            before -= shift
        found.append(Frame(before, after, shift))
    return found


def conv(job: Job, answer: Callable[..., Tensor]) -> Tensor:
    """The convolution by a kernel's operator; equivalent to `reference.conv(job)`."""
    plan, x = job.plan, job.x
    if not well_formed(job):
        return reference.conv(job)  # which refuses in the host's words
    batched = x.dim() == plan.ndim + 2
    if not batched:
        x = x.unsqueeze(0)
    seen = frames(job)
    pads = [(frame.before, frame.after) for frame in seen]
    if job.padding_mode != "zeros" or any(before != after for before, after in pads):
        mode = "constant" if job.padding_mode == "zeros" else job.padding_mode
        x = F.pad(x, [side for pair in reversed(pads) for side in pair], mode=mode)
        pads = [(0, 0)] * plan.ndim
    shared = job.bias if job.share_bias or not plan.orbits else None
    inputs = [] if plan.inputs is None else spoken(plan.inputs)
    padding = [before for before, _ in pads]
    y = answer(x, _on_both_grids(job, seen), shared, spoken(plan), inputs, job.stride, padding, job.dilation)
    if job.bias is not None and shared is None:
        y = y + job.bias.view(-1, *[1] * plan.ndim)
    return y if batched else y.squeeze(0)


def why_not(job: Job) -> str | None:
    """What no fused kernel does exactly, as a clause; None where there is nothing."""
    plan = job.plan
    if plan.groups > 1:
        return f"the layer has {plan.groups} groups; it computes one group only"
    if plan.inputs is not None and plan.orbits and any(not block.kind for block in plan.inputs.blocks):
        return "some input channels are in no orbit; it exchanges orbits only"
    return _transformed(job) or _beside_the_grid(job)


def well_formed(job: Job) -> bool:
    """Whether the host takes such an input."""
    rank, x = job.plan.ndim, job.x
    fits = x.dim() in (rank + 1, rank + 2) and x.shape[-rank - 1] == job.weight.shape[1]
    if not fits or job.weight.shape[1] == 0 or any(side < 0 for pair in job.pads for side in pair):
        return False
    axes = zip(job.sizes, job.pads, job.kernel_size, job.dilation, strict=True)
    return all(n + before + after > d * (k - 1) for n, (before, after), k, d in axes)


def _beside_the_grid(job: Job) -> str | None:
    if job.grid != "mirrored" or not well_formed(job):
        return None
    for frame, dilation in zip(frames(job), job.dilation, strict=True):
        if frame.shift % dilation:
            apart = f"the mirrored grid lies {abs(frame.shift)} pixels off"
            return f"{apart}; with dilation {dilation} no single filter covers both"
    return None


def _on_both_grids(job: Job, seen: list[Frame]) -> Tensor:
    """The stored filters, wider where the mirrored grid is not the shared one: a mirror then reads its own grid."""
    wider = [frame.shift // dilation for frame, dilation in zip(seen, job.dilation, strict=True)]
    if not any(wider):
        return job.weight
    return F.pad(job.weight, [side for more in reversed(wider) for side in (max(-more, 0), max(more, 0))])


def _transformed(job: Job) -> str | None:
    """How PyTorch's function transforms wrap the tensors; operators know backward differentiation only."""
    if torch.compiler.is_compiling():  # compilers differentiate what they traced, and cannot trace the question
        return None
    for tensor in (job.x, job.weight, job.bias):
        if tensor is not None and torch.func.debug_unwrap(tensor) is not tensor:
            return "torch.func transforms it; it knows backward() and torch.autograd only"
        if tensor is not None and torch.autograd.forward_ad.unpack_dual(tensor).tangent is not None:
            return "forward-mode differentiation; it differentiates backwards only"
    return None
