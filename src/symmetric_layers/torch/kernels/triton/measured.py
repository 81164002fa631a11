"""Where the kernels were faster than cuDNN, as measured on an H200: what `'auto'` goes by.

The table is in `kernels/README.md`. Nothing is taken that was not measured to be faster, in answers and in training.
"""

import torch

from symmetric_layers.torch.kernels.frame import layout
from symmetric_layers.torch.kernels.geometry import are_channels_last
from symmetric_layers.torch.kernels.job import Job

_CAPABILITY = (9, 0)  # of an H100 and an H200, which multiply alike
_PIXELS = 50_000  # that were measured, at least
_CHANNELS = {"tf32": 256, "bf16": 512}  # from how many on, by the numbers that are multiplied
_STEP = 32  # channels whose members fill runs of 16 bytes
_ASK = "ask for it with algorithm='triton'"


def slower(job: Job, dtype: torch.dtype) -> str | None:
    """Why cuDNN is faster, or may be, where numbers of this type are multiplied; None where the kernels are."""
    if torch.version.hip or capability(job.x.device) != _CAPABILITY:
        return f"it was measured on GPUs of compute capability 9.0 only (H100, H200); {_ASK}"
    numbers = {torch.bfloat16: "bf16", torch.float32: "tf32"}.get(dtype)
    if numbers is None or (numbers == "tf32" and not multiplies_as_tf32()):
        return f"it was not measured in {'float32 without TF32' if numbers == 'tf32' else dtype}; {_ASK}"
    if not job.is_settled:  # compilers must not be made to guard sizes and layouts of pictures
        return f"how large pictures are is not known where they are compiled or traced; {_ASK}"
    if not _was_measured(job):
        return (
            "it was measured to be faster than cuDNN with 3x3 filters in orbits of 'hv' only, at stride 1, on "
            f"channels-last pictures of {_PIXELS} pixels and more, for channels that are multiples of {_STEP}"
        )
    least = _CHANNELS[numbers]
    if min(job.x.shape[1], job.plan.filters) < least:
        return f"cuDNN is as fast or faster below {least} channels"
    if numbers == "bf16" and job.plan.inputs is None:
        return "cuDNN is as fast or faster where input channels are in no orbits"
    return None


def _was_measured(job: Job) -> bool:
    """Whether it is a layer of the kind that the table has, on pictures as many and as large."""
    case, plan, how = job.case, job.plan, layout(job)
    if not how.fits or plan.ndim != 2 or len(case.shape) != 4 or how.around or how.wider:
        return False
    alike = case.kernel_size == (3, 3) and {*case.stride, *case.dilation} == {1} and how.padding == (1, 1)
    banks = [plan] if plan.inputs is None else [plan, plan.inputs]
    two = all([block.kind for block in bank.blocks] == ["hv"] for bank in banks)
    whole = not case.shape[1] % _STEP and not plan.filters % _STEP
    pixels = case.shape[0] * case.shape[2] * case.shape[3]
    return alike and two and whole and pixels >= _PIXELS and are_channels_last(case.shape, job.x.stride())


@torch.compiler.assume_constant_result
def capability(device: torch.device) -> tuple[int, int]:
    """The compute capability of a GPU."""
    return torch.cuda.get_device_capability(device)


@torch.compiler.assume_constant_result
def multiplies_as_tf32() -> bool:
    """Whether the host's convolutions multiply float32 as TF32."""
    conv = getattr(torch.backends.cudnn, "conv", None)
    return conv.fp32_precision == "tf32" if conv is not None else torch.backends.cudnn.allow_tf32
