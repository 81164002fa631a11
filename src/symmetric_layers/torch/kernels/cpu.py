"""The fused kernel for processors: folds a tile into the cache, multiplies, and mirrors the answers while storing them.

Fewer multiplications than the ordinary convolution: half for `h`, a quarter for `hv`, an eighth for `hvz`; and the
answers mirror bit for bit. Agrees with `reference.conv` in outputs and all gradients, to rounding.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from symmetric_layers.letters import LETTERS
from symmetric_layers.orbits import Plan
from symmetric_layers.torch.kernels import cost, reference
from symmetric_layers.torch.kernels.job import Job
from symmetric_layers.torch.kernels.library import lanes, missing
from symmetric_layers.torch.kernels.operators import answer, spoken

_WORTH_IT = 0.88  # of the ordinary convolution's time, as `cost` foresees it
_WORTH_IT_APART = 1.6  # the same where the ordinary convolution has to answer grid by grid
_WORTH_A_CALL = 6_000_000  # products below which calling an operator costs more than folding saves


def why_not(job: Job) -> str | None:
    """What keeps the kernel from doing this exactly, as a clause; None where it can."""
    plan = job.plan
    if missing():
        return missing()
    for name, tensor in (("input", job.x), ("weight", job.weight), ("bias", job.bias)):
        if tensor is not None and tensor.device.type != "cpu":
            return f"the {name} is on {tensor.device.type!r}; it computes on 'cpu' only"
        if tensor is not None and tensor.dtype != torch.float32:
            return f"the {name} has dtype {tensor.dtype}; it computes in torch.float32 only"
    if torch.is_autocast_enabled("cpu"):
        return f"autocast computes in {torch.get_autocast_dtype('cpu')}; it computes in torch.float32 only"
    if plan.groups > 1:
        return f"the layer has {plan.groups} groups; it computes one group only"
    if plan.inputs is not None and plan.orbits and any(not block.kind for block in plan.inputs.blocks):
        return "some input channels are in no orbit; it exchanges orbits only"
    return _transformed(job) or _beside_the_grid(job)


def slower(job: Job) -> str | None:
    """Why the ordinary convolution is expected to be faster, as a clause; None where it is not."""
    if torch.compiler.is_exporting():
        return "exported programs are to run without this package"
    if not job.plan.orbits:
        return "no filter has a mirror"
    compiling = torch.compiler.is_compiling()  # compilers must not be made to guard sizes and layouts of pictures
    if not compiling:
        products = job.x.numel() * job.weight.shape[0] * math.prod(job.kernel_size)
        if products < _WORTH_A_CALL * math.prod(job.stride):  # asked first: small layers have no time for questions
            return f"only about {products} products: the call itself would take longer"
        if not _well_formed(job):
            return "the host refuses such an input"
    channels_last = not compiling and _is_channels_last(job.x)
    share = _foreseen(job.plan, job.weight.shape[1], tuple(job.kernel_size), channels_last)
    apart = not compiling and any(frame.shift for frame in _frames(job))
    if share > (_WORTH_IT_APART if apart else _WORTH_IT):
        return (
            f"folding and storing would cost as much as they save: about {share:.0%} of the ordinary convolution's time"
        )
    return None


def conv(job: Job) -> Tensor:
    """The convolution; equivalent to `reference.conv(job)`."""
    plan, x = job.plan, job.x
    if not _well_formed(job):
        return reference.conv(job)  # which refuses in the host's words
    batched = x.dim() == plan.ndim + 2
    if not batched:
        x = x.unsqueeze(0)
    frames = _frames(job)
    pads = [(frame.before, frame.after) for frame in frames]
    if job.padding_mode != "zeros" or any(before != after for before, after in pads):
        mode = "constant" if job.padding_mode == "zeros" else job.padding_mode
        x = F.pad(x, [side for pair in reversed(pads) for side in pair], mode=mode)
        pads = [(0, 0)] * plan.ndim
    shared = job.bias if job.share_bias or not plan.orbits else None
    inputs = [] if plan.inputs is None else spoken(plan.inputs)
    padding = [before for before, _ in pads]
    y = answer(x, _on_both_grids(job), shared, spoken(plan), inputs, job.stride, padding, job.dilation)
    if job.bias is not None and shared is None:
        y = y + job.bias.view(-1, *[1] * plan.ndim)
    return y if batched else y.squeeze(0)


def _well_formed(job: Job) -> bool:
    """Whether the host takes such an input."""
    rank, x = job.plan.ndim, job.x
    fits = x.dim() in (rank + 1, rank + 2) and x.shape[-rank - 1] == job.weight.shape[1]
    if not fits or job.weight.shape[1] == 0 or any(side < 0 for pair in job.pads for side in pair):
        return False
    axes = zip(job.sizes, job.pads, job.kernel_size, job.dilation, strict=True)
    return all(n + before + after > d * (k - 1) for n, (before, after), k, d in axes)


class _Frame(NamedTuple):
    """One axis, seen by a representative and its mirror: what is padded, and by how much the grids are apart.

    A mirror is `flip . convolution . flip`. Where stride or padding are not their own mirror images, it reads its own
    grid, `shift` pixels after the representative's (before, where negative).
    """

    before: int
    after: int
    shift: int


def _frames(job: Job) -> list[_Frame]:
    frames = []
    axes = zip(job.sizes, job.pads, job.kernel_size, job.stride, job.dilation, strict=True)
    mirrored = set("".join(job.plan.kinds)) if job.grid == "mirrored" else set()
    for letter, (n, (before, after), k, s, d) in zip(LETTERS[: job.plan.ndim][::-1], axes, strict=True):
        shift = (n + before + after - d * (k - 1) - 1) % s + before - after if letter in mirrored else 0
        if shift > 0:
            after = before
        elif shift < 0:
            before -= shift
        frames.append(_Frame(before, after, shift))
    return frames


def _beside_the_grid(job: Job) -> str | None:
    if not _well_formed(job):
        return None
    for frame, dilation in zip(_frames(job), job.dilation, strict=True):
        if frame.shift % dilation:
            apart = f"the mirrored grid lies {abs(frame.shift)} pixels off"
            return f"{apart}; with dilation {dilation} no single filter covers both"
    return None


def _on_both_grids(job: Job) -> Tensor:
    """The stored filters, wider where the mirrored grid is not the shared one: a mirror then reads its own grid."""
    wider = [frame.shift // dilation for frame, dilation in zip(_frames(job), job.dilation, strict=True)]
    if not any(wider):
        return job.weight
    return F.pad(job.weight, [side for more in reversed(wider) for side in (max(-more, 0), max(more, 0))])


@torch.compiler.assume_constant_result
def _foreseen(plan: Plan, channels: int, kernel_size: tuple[int, ...], channels_last: bool) -> float:
    return cost.ratio(plan, channels, kernel_size, channels_last, lanes())


def _is_channels_last(x: Tensor) -> bool:
    return x.dim() > 3 and x.stride(1) == 1 and x.shape[1] > 1


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
