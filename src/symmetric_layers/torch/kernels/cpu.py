"""The fused kernel for processors: folds a tile into the cache, multiplies, and mirrors the answers while storing them.

Fewer multiplications than the ordinary convolution: half for `h`, a quarter for `hv`, an eighth for `hvz`; and the
answers mirror bit for bit. Agrees with `reference.conv` in outputs and all gradients, to rounding.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor

from symmetric_layers.orbits import Plan
from symmetric_layers.torch.kernels import cost, frame
from symmetric_layers.torch.kernels.geometry import are_channels_last
from symmetric_layers.torch.kernels.job import Case, Job
from symmetric_layers.torch.kernels.library import lanes, missing
from symmetric_layers.torch.kernels.operators import FOR_ANY_SIZE, TRIO, Prepared, answering
from symmetric_layers.torch.kernels.transposed import Transposed

_WORTH_IT = 0.93  # of the reference's time, as `cost` foresees it
_WORTH_IT_APART = 1.6  # the same where the ordinary convolution has to answer grid by grid


def why_not(job: Job) -> str | None:
    """What keeps the kernel from doing this exactly, as a clause; None where it can."""
    return unreadable(job) or frame.why_not(job)


def unreadable(job: Job | Transposed) -> str | None:
    """What keeps the kernel from reading the tensors of a job, as a clause; None where it can."""
    if missing():
        return missing()
    for name, tensor in (("input", job.x), ("weight", job.weight), ("bias", job.bias)):
        if tensor is not None and not tensor.is_cpu:
            return f"the {name} is on {tensor.device.type!r}; it computes on 'cpu' only"
        if tensor is not None and tensor.dtype != torch.float32:
            return f"the {name} has dtype {tensor.dtype}; it computes in torch.float32 only"
        if tensor is not None and tensor.layout != torch.strided:
            return f"the {name} has layout {tensor.layout}; it reads torch.strided only"
    if torch.is_autocast_enabled("cpu"):
        return f"autocast computes in {torch.get_autocast_dtype('cpu')}; it computes in torch.float32 only"
    return None


def slower(job: Job) -> str | None:
    """Why the ordinary convolution is expected to be faster, as a clause; None where it is not."""
    if torch.compiler.is_exporting() or torch.jit.is_tracing():
        return "exported programs are to run without this package"
    if not job.plan.orbits:
        return "no filter has a mirror"
    if not job.is_settled:  # compilers must not be made to guard sizes and layouts of pictures
        return _dear_anywhere(job.plan, job.weight.shape[1], tuple(job.case.kernel_size))
    return _remembered(job.case, are_channels_last(job.x.shape, job.x.stride()), lanes())


def _slower(case: Case, channels_last: bool, lanes: int) -> str | None:
    how = frame.lay_out(case)
    if not how.fits:
        return "the host refuses such an input, or such filters"
    batch = math.prod(case.shape[: -case.plan.ndim - 1])
    stride = math.prod(case.stride)
    pixels = max(batch * math.prod(case.sizes) / stride, 1)
    plane = math.prod(case.sizes[-2:]) / math.prod(case.stride[-2:])
    share = cost.ratio(case.plan, case.filters[1], case.kernel_size, channels_last, lanes, pixels, plane, stride)
    return dear(share / cost.host_slowness(case.shape), _WORTH_IT_APART if how.apart else _WORTH_IT)


_remembered = lru_cache(maxsize=1024)(_slower)


def dear(share: float, worth_it: float = _WORTH_IT) -> str | None:
    """Why a kernel that takes this share of the reference's time is not worth it, as a clause; None where it is."""
    if share <= worth_it:
        return None
    return f"folding and storing would cost as much as they save: about {share:.0%} of the reference's time"


def conv(job: Job) -> Tensor:
    """The convolution; equivalent to `reference.conv(job)`."""
    return frame.conv(job, TRIO, FOR_ANY_SIZE)


def is_faster(case: Case, strides: tuple[int, ...]) -> bool:
    """Whether `'auto'` takes the kernel for such a case, whose input has these strides."""
    if missing() or not case.plan.orbits or frame.never(case.plan) or frame.lay_out(case).beside:
        return False
    return _remembered(case, are_channels_last(case.shape, strides), lanes()) is None


def prepared(case: Case, pictures: tuple[int, ...], filters: tuple[int, ...], threads: int) -> Prepared | None:
    """What the kernel does for such a case; None where more than the kernel is needed, or it does not do it.

    Args:
        case: what is asked for.
        pictures, filters: strides of the input and of the stored filters.
        threads: how many.
    """
    plain = case.plan.orbits and len(case.shape) == case.plan.ndim + 2 and (case.biases is None or case.share_bias)
    if missing() or not plain or frame.never(case.plan):
        return None
    how = frame.lay_out(case)
    if not how.fits or how.around or how.beside:
        return None
    told = (how.bank, how.inputs, case.stride, how.padding, case.dilation)
    return answering((case.shape, pictures), (case.filters, filters), *told, threads=threads, wider=how.wider)


@torch.compiler.assume_constant_result  # with the comparison: compilers would guard what a share is compared with
def _dear_anywhere(plan: Plan, channels: int, kernel_size: tuple[int, ...]) -> str | None:
    return dear(cost.ratio(plan, channels, kernel_size, True, lanes()))
