"""What the fused kernels have in common: how a job is laid out for them, and what none of them does.

They know zeros around the picture, as many before as after, filters of one width, and biases of whole orbits. Other
paddings, mirrored grids and biases of single filters are made of these.
"""

import operator as op
from functools import lru_cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import debug_unwrap

from symmetric_layers.letters import LETTERS
from symmetric_layers.orbits import Plan
from symmetric_layers.torch.kernels import reference
from symmetric_layers.torch.kernels.bank import spoken
from symmetric_layers.torch.kernels.grid import is_open, told_by_compilers
from symmetric_layers.torch.kernels.job import Case, Job
from symmetric_layers.torch.kernels.transposed import Transposed
from symmetric_layers.torch.kernels.trio import Trio


class Frame(NamedTuple):
    """One axis, seen by a representative and its mirror: what is padded, and by how much the grids are apart.

    A mirror is `flip . convolution . flip`. Where stride or padding are not their own mirror images, it reads its own
    grid, `shift` pixels after the representative's (before, where negative); None where sizes are left open, and the
    padding is the same before and after.
    """

    before: int
    after: int
    shift: int | None


def frames(case: Case) -> list[Frame]:
    """All axes."""
    if case.grid != "mirrored":
        return [Frame(before, after, 0) for before, after in case.pads]
    found = []
    axes = zip(case.sizes, case.pads, case.kernel_size, case.stride, case.dilation, strict=True)
    mirrored = set("".join(case.plan.kinds))
    for letter, (n, (before, after), k, s, d) in zip(LETTERS[: case.plan.ndim][::-1], axes, strict=True):
        if s != 1 and before == after and letter in mirrored and (n is None or is_open(n)):
            found.append(Frame(before, after, None))
            continue
        left_over = (n + before + after - d * (k - 1) - 1) % s if s != 1 and letter in mirrored else 0
        shift = left_over + before - after if letter in mirrored else 0
        if shift > 0:
            after = before
        elif shift < 0:
            before -= shift
        found.append(Frame(before, after, shift))
    return found


def well_formed(case: Case) -> bool:
    """Whether the host takes such an input, and filters and biases are as many as the plan says."""
    plan, rank = case.plan, case.plan.ndim
    biases = plan.stored if case.share_bias or not plan.orbits else plan.filters
    if case.filters[0] != plan.stored or len(case.filters) != rank + 2 or case.biases not in (None, (biases,)):
        return False
    fits = len(case.shape) in (rank + 1, rank + 2) and case.shape[-rank - 1] == case.filters[1] * plan.groups
    if not fits or case.filters[1] == 0 or any(side < 0 for pair in case.pads for side in pair):
        return False
    return all(n is None or n >= fewest for n, fewest in zip(case.sizes, least(case), strict=True))


def least(case: Case) -> tuple[int, ...]:
    """How many positions the filters need along each axis."""
    axes = zip(case.pads, case.kernel_size, case.dilation, strict=True)
    return tuple(d * (k - 1) + 1 - before - after for (before, after), k, d in axes)


class Layout(NamedTuple):
    """How a kernel is asked for all jobs of one case.

    Attributes:
        fits: whether the host takes such an input; if not, nothing else is known.
        around: what is padded before the kernel is called, in the order of `F.pad`; nothing where it does it itself.
        wider: by how much the stored filters are: where the mirrored grid is not the shared one, a mirror then reads
            its own grid. In the order of `F.pad`.
        padding: that is left to the kernel.
        bank, inputs: the blocks of filters and of input channels, in whole numbers.
        apart: whether the two grids lie apart.
        beside: why no filter covers both grids, as a clause; None where one does.
        is_open: whether how far they lie apart is found where the kernel runs, because sizes are left open.
        least: how many positions the filters need along each axis.
    """

    fits: bool
    around: tuple[int, ...] = ()
    wider: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    bank: tuple[int, ...] = ()
    inputs: tuple[int, ...] = ()
    apart: bool = False
    beside: str | None = None
    is_open: bool = False
    least: tuple[int, ...] = ()


def lay_out(case: Case) -> Layout:
    """Works out how a kernel is asked."""
    if not well_formed(case):
        return Layout(fits=False)
    seen = frames(case)
    pads = [(frame.before, frame.after) for frame in seen]
    around: list[int] = []
    if case.padding_mode != "zeros" or any(before != after for before, after in pads):
        around = [side for pair in reversed(pads) for side in pair]
        pads = [(0, 0)] * case.plan.ndim
    shifts = [(frame.shift or 0) // dilation for frame, dilation in zip(seen, case.dilation, strict=True)]
    wider = [side for shift in reversed(shifts) for side in (max(-shift, 0), max(shift, 0))] if any(shifts) else []
    inputs = [] if case.plan.inputs is None else spoken(case.plan.inputs)
    return Layout(
        True, tuple(around), tuple(wider), tuple(before for before, _ in pads), tuple(spoken(case.plan)),
        tuple(inputs), any(frame.shift for frame in seen), _beside_the_grid(case, seen),
        any(frame.shift is None for frame in seen), least(case),
    )  # fmt: skip


_remembered = lru_cache(maxsize=1024)(lay_out)


def layout(job: Job) -> Layout:
    """How a kernel is asked for this job."""
    if job.is_settled:
        return _remembered(job.case)
    return lay_out(job.case) if told_by_compilers() is None else _for_compilers(job.case)


def _for_compilers(case: Case) -> Layout:
    """The same, looked up instead of traced; all that compilers are asked is whether filters fit into pictures."""
    plan, shape, _, _, *told = case
    filters = [op.index(n) for n in case.filters]  # where these are symbols, they are none any more
    biases = None if case.biases is None else (op.index(case.biases[0]),)
    if len(shape) <= plan.ndim or shape[-plan.ndim - 1] != filters[1] * plan.groups:
        return Layout(fits=False)
    are_open = [is_open(n) for n in case.sizes]
    sizes = [None if unknown else op.index(n) for n, unknown in zip(case.sizes, are_open, strict=True)]
    seen = (*[1] * (len(shape) - plan.ndim - 1), filters[1] * plan.groups, *sizes)
    how = _looked_up(plan, seen, tuple(filters), biases, *told)
    fits = all(n >= fewest for n, fewest, unknown in zip(case.sizes, how.least, are_open, strict=False) if unknown)
    return how if fits else Layout(fits=False)


@torch.compiler.assume_constant_result
def _looked_up(*case: Any) -> Layout:
    return _remembered(Case(*case))


def conv(job: Job, kernel: Trio, for_any_size: Trio) -> Tensor:
    """The convolution by a kernel's operators; equivalent to `reference.conv(job)`.

    Args:
        job: what is asked for.
        kernel: its operators.
        for_any_size: the same on the mirrored grid, where sizes are left open.
    """
    plan, x, weight, how = job.plan, job.x, job.weight, layout(job)
    if not how.fits:
        return reference.conv(job)  # which refuses in the host's words
    batched = x.dim() == plan.ndim + 2
    if not batched:
        x = x.unsqueeze(0)
    if how.around:
        x = F.pad(x, how.around, mode="constant" if job.case.padding_mode == "zeros" else job.case.padding_mode)
    if how.wider:
        weight = F.pad(weight, how.wider)
    shared = job.bias if job.share_bias or not plan.orbits else None
    answer = for_any_size.answer if how.is_open else kernel.answer
    y = answer(x, weight, shared, how.bank, how.inputs, job.case.stride, how.padding, job.case.dilation)
    if job.bias is not None and shared is None:
        y = y + job.bias.view(-1, *[1] * plan.ndim)
    return y if batched else y.squeeze(0)


def why_not(job: Job) -> str | None:
    """What no fused kernel does exactly, as a clause; None where there is nothing."""
    return never(job.plan) or transformed(job) or layout(job).beside


def never(plan: Plan) -> str | None:
    """What no fused kernel does with any picture, as a clause; None where there is nothing."""
    if plan.groups > 1:
        return f"the layer has {plan.groups} groups; it computes one group only"
    if plan.inputs is not None and plan.orbits and any(not block.kind for block in plan.inputs.blocks):
        return "some input channels are in no orbit; it exchanges orbits only"
    return None


def _beside_the_grid(case: Case, seen: list[Frame]) -> str | None:
    for frame, dilation in zip(seen, case.dilation, strict=True):
        if frame.shift is None and dilation != 1:
            return f"sizes are left open; with dilation {dilation} no single filter covers both grids at all of them"
        if frame.shift is not None and frame.shift % dilation:
            apart = f"the mirrored grid lies {abs(frame.shift)} pixels off"
            return f"{apart}; with dilation {dilation} no single filter covers both"
    return None


def transformed(job: Job | Transposed) -> str | None:
    """How PyTorch's function transforms wrap the tensors, as a clause; operators know backward differentiation only."""
    if torch.compiler.is_compiling():  # compilers differentiate what they traced, and cannot trace the question
        return None
    tangents = forward_ad._current_level >= 0
    for tensor in (job.x, job.weight, job.bias):
        if tensor is not None and debug_unwrap(tensor) is not tensor:
            return "torch.func transforms it; it knows backward() and torch.autograd only"
        if tangents and tensor is not None and forward_ad.unpack_dual(tensor).tangent is not None:
            return "forward-mode differentiation; it differentiates backwards only"
    return None
