"""Answers without questions: where only numbers are wanted, and nothing but numbers is new.

What shapes and memory decide is worked out once: asking everything again takes as long as a small convolution. A layer
keeps a note of how its last input was answered, so that the next one like it is not even described.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from symmetric_layers.torch.kernels import cpu, frame, written
from symmetric_layers.torch.kernels.job import Case, Job
from symmetric_layers.torch.kernels.kept import Keeping
from symmetric_layers.torch.kernels.library import instruction_sets
from symmetric_layers.torch.kernels.operators import Prepared
from symmetric_layers.torch.kernels.trio import are_plain
from symmetric_layers.torch.kernels.written import Written

_SINGLE = (torch.float32,)


class Note(NamedTuple):
    """How an input was answered, and what has to be the same for the next one to be answered alike.

    Attributes:
        shape, strides: of the input.
        filters, filter_strides: shape and strides of the stored filters.
        biases: shape of the stored biases; None where there are none.
        threads: how many there were.
        sets: of instructions, that could be used.
        how: gives the answer.
    """

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    filters: tuple[int, ...]
    filter_strides: tuple[int, ...]
    biases: tuple[int, ...] | None
    threads: int
    sets: tuple[str, ...]
    how: Keeping | Written

    def fits(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
        """Whether these tensors lie in memory as those did that the note is about."""
        return (
            x.shape == self.shape
            and x.stride() == self.strides
            and weight.shape == self.filters
            and weight.stride() == self.filter_strides
            and (self.biases is None if bias is None else bias.shape == self.biases and bias.is_contiguous())
            and torch.get_num_threads() == self.threads
            and instruction_sets() is self.sets
        )


def recall(note: Note | None, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor | None:
    """The answer to an input like the one that the note is about; None where it is not, or more has to be asked.

    Args:
        note: of a layer whose other attributes are as they were.
        x: the input.
        weight, bias: what the layer stores; None where it is not found where the host keeps it.
    """
    if note is None or weight is None:
        return None
    tensors = (x, weight) if bias is None else (x, weight, bias)
    return note.how(x, weight, bias) if _are_plain(tensors) and note.fits(x, weight, bias) else None


def take_note(job: Job, algorithm: str) -> Note | None:
    """How an algorithm answers, or the one that `'auto'` takes; None where more has to be asked."""
    tensors = (job.x, job.weight) if job.bias is None else (job.x, job.weight, job.bias)
    if not job.is_settled or not _are_plain(tensors) or not (job.bias is None or job.bias.is_contiguous()):
        return None
    strides, filters = job.x.stride(), job.weight.stride()
    threads, sets = torch.get_num_threads(), instruction_sets()
    how = _known(job.case, (strides, filters), algorithm, sets, threads)
    if how is None:
        return None
    own, case = Keeping(how) if isinstance(how, Prepared) else how, job.case
    return Note(case.shape, strides, case.filters, filters, case.biases, threads, sets, own)


def _are_plain(tensors: Sequence[Tensor]) -> bool:
    """Whether these are numbers for processors in single precision, of which nobody wants anything but numbers."""
    if torch.is_grad_enabled():
        for one in tensors:
            if one.requires_grad:
                return False
    return are_plain(tensors, _SINGLE)


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
