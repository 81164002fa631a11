"""Answers without questions: where only numbers are wanted, and nothing but numbers is new.

What shapes and memory decide is worked out once: asking everything again takes as long as a small convolution.
"""

from functools import lru_cache

import torch
from torch import Tensor

from symmetric_layers.torch.kernels import cpu, frame, written
from symmetric_layers.torch.kernels.job import Case, Job
from symmetric_layers.torch.kernels.library import instruction_sets
from symmetric_layers.torch.kernels.operators import Prepared
from symmetric_layers.torch.kernels.trio import is_watched
from symmetric_layers.torch.kernels.written import Written


def answer(job: Job, algorithm: str) -> Tensor | None:
    """The answer of an algorithm, or of the one that `'auto'` takes; None where more has to be asked."""
    tensors = [job.x, job.weight] if job.bias is None else [job.x, job.weight, job.bias]
    is_differentiated = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    if is_differentiated or not job.is_settled or is_watched(tensors) or torch.is_autocast_enabled("cpu"):
        return None
    if not all(tensor.is_cpu and tensor.dtype == torch.float32 for tensor in tensors):
        return None
    if job.bias is not None and not job.bias.is_contiguous():
        return None
    lies = (job.x.stride(), job.weight.stride())
    how = _known(job.case, lies, algorithm, instruction_sets(), torch.get_num_threads())
    return how(job.x, job.weight, job.bias) if how else None


@lru_cache(maxsize=1024)
def _known(
    case: Case, strides: tuple[tuple[int, ...], tuple[int, ...]], algorithm: str, sets: tuple[str, ...], threads: int
) -> Prepared | Written | None:
    """What answers all calls of one case; None where it is not as simple as that."""
    if not frame.well_formed(case):
        return None
    wants_kernel = algorithm == "cpu" or (algorithm == "auto" and cpu.is_faster(case, strides[0]))
    if wants_kernel:
        return cpu.prepared(case, *strides, threads)
    return written.prepared(case, *strides) if algorithm in ("auto", "reference") else None
