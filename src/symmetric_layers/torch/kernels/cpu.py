"""The fused kernel for processors: folds a tile into the cache, multiplies, and mirrors the answers while storing them.

Fewer multiplications than the ordinary convolution: half for `h`, a quarter for `hv`, an eighth for `hvz`; and the
answers mirror bit for bit. Agrees with `reference.conv` in outputs and all gradients, to rounding.
"""

import math

import torch
from torch import Tensor

from symmetric_layers.orbits import Plan
from symmetric_layers.torch.kernels import cost, frame
from symmetric_layers.torch.kernels.job import Job
from symmetric_layers.torch.kernels.library import lanes, missing
from symmetric_layers.torch.kernels.operators import answer

_WORTH_IT = 0.88  # of the ordinary convolution's time, as `cost` foresees it
_WORTH_IT_APART = 1.6  # the same where the ordinary convolution has to answer grid by grid
_WORTH_A_CALL = 6_000_000  # products below which calling an operator costs more than folding saves


def why_not(job: Job) -> str | None:
    """What keeps the kernel from doing this exactly, as a clause; None where it can."""
    if missing():
        return missing()
    for name, tensor in (("input", job.x), ("weight", job.weight), ("bias", job.bias)):
        if tensor is not None and tensor.device.type != "cpu":
            return f"the {name} is on {tensor.device.type!r}; it computes on 'cpu' only"
        if tensor is not None and tensor.dtype != torch.float32:
            return f"the {name} has dtype {tensor.dtype}; it computes in torch.float32 only"
    if torch.is_autocast_enabled("cpu"):
        return f"autocast computes in {torch.get_autocast_dtype('cpu')}; it computes in torch.float32 only"
    return frame.why_not(job)


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
        if not frame.well_formed(job):
            return "the host refuses such an input"
    channels_last = not compiling and _is_channels_last(job.x)
    share = _foreseen(job.plan, job.weight.shape[1], tuple(job.kernel_size), channels_last)
    apart = not compiling and any(axis.shift for axis in frame.frames(job))
    if share > (_WORTH_IT_APART if apart else _WORTH_IT):
        return (
            f"folding and storing would cost as much as they save: about {share:.0%} of the ordinary convolution's time"
        )
    return None


def conv(job: Job) -> Tensor:
    """The convolution; equivalent to `reference.conv(job)`."""
    return frame.conv(job, answer)


@torch.compiler.assume_constant_result
def _foreseen(plan: Plan, channels: int, kernel_size: tuple[int, ...], channels_last: bool) -> float:
    return cost.ratio(plan, channels, kernel_size, channels_last, lanes())


def _is_channels_last(x: Tensor) -> bool:
    return x.dim() > 3 and x.stride(1) == 1 and x.shape[1] > 1
