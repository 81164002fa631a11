"""The fused kernels for GPUs, in Triton: pictures are folded on their way into the tensor cores.

Fewer multiplications than the ordinary convolution: half for `h`, a quarter for `hv`, an eighth for `hvz`; and the
answers mirror bit for bit. Agrees with `reference.conv` in outputs and all gradients, to rounding.

Nothing here loads Triton before it is asked whether it can.
"""

from functools import lru_cache
from importlib.metadata import version
from importlib.util import find_spec

import torch
from torch import Tensor

from symmetric_layers.torch.kernels import frame
from symmetric_layers.torch.kernels.job import Job, multiplied_as
from symmetric_layers.torch.kernels.triton import measured

_TRITON = (3, 6)  # what the kernels are tested with
_CAPABILITY = (8, 0)
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def why_not(job: Job) -> str | None:
    """What keeps the kernels from doing this exactly, as a clause; None where they can."""
    if missing():
        return missing()
    device = "cpu" if interpreted() else "cuda"
    for name, tensor in (("input", job.x), ("weight", job.weight), ("bias", job.bias)):
        if tensor is not None and tensor.device.type not in (device, "cuda"):
            return f"the {name} is on {tensor.device.type!r}; it computes on 'cuda' only"
    if job.x.device.type == "cuda" and too_old(job.x.device):
        return too_old(job.x.device)
    expected = multiplied_as(job.x)
    for name, tensor in (("input", job.x), ("weight", job.weight), ("bias", job.bias)):
        dtype = expected if tensor is None else multiplied_as(tensor)
        if dtype not in _DTYPES:
            return f"the {name} has dtype {dtype}; it computes in float32, bfloat16 and float16 only"
        if dtype != expected:
            return f"the {name} has dtype {dtype} and the input {expected}; it computes in one dtype only"
    return frame.why_not(job)


def slower(job: Job) -> str | None:
    """Why cuDNN is faster, or may be, as a clause; None where the kernels were measured to be."""
    return measured.slower(job, multiplied_as(job.x))


def conv(job: Job) -> Tensor:
    """The convolution; equivalent to `reference.conv(job)`."""
    from symmetric_layers.torch.kernels.triton.operators import FOR_ANY_SIZE, TRIO  # not earlier: it loads Triton

    return frame.conv(cast(job), TRIO, FOR_ANY_SIZE)


def cast(job: Job) -> Job:
    """The same job in the dtype that autocast computes convolutions in, where it is on."""

    def lower(tensor: Tensor) -> Tensor:
        return tensor.to(multiplied_as(tensor))

    return job._replace(x=lower(job.x), weight=lower(job.weight), bias=None if job.bias is None else lower(job.bias))


@torch.compiler.assume_constant_result
def missing() -> str | None:
    """Why there is no Triton that knows what the kernels need, as a clause; None where there is one."""
    return _lacking()


@lru_cache(maxsize=1)
def _lacking() -> str | None:
    if find_spec("triton") is None:
        return "Triton is not installed (`pip install triton`)"
    found = version("triton")
    new = tuple(int(number) for number in found.split(".")[:2]) >= _TRITON
    return None if new else f"Triton {found} is installed; it needs {'.'.join(map(str, _TRITON))} or newer"


@torch.compiler.assume_constant_result
def too_old(device: torch.device) -> str | None:
    """Why a GPU does not have the tensor cores that the kernels need, as a clause; None where it has."""
    capability = measured.capability(device)
    needed = ".".join(map(str, _CAPABILITY))
    found = ".".join(map(str, capability))
    return f"the GPU has compute capability {found}; it needs {needed} or newer" if capability < _CAPABILITY else None


@torch.compiler.assume_constant_result
def interpreted() -> bool:
    """Whether Triton interprets its kernels on the processor, for tests: it was started with TRITON_INTERPRET=1."""
    from symmetric_layers.torch.kernels.triton.launch import INTERPRETED

    return INTERPRETED
