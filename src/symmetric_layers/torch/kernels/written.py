"""The reference once more, where only numbers are new: which stored number goes where in the bank is remembered.

Writing a small bank out letter by letter takes as long as a small convolution. Fetching all its numbers at once does
not.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from symmetric_layers.torch.kernels.geometry import CHANNELS_LAST, are_channels_last
from symmetric_layers.torch.kernels.grid import lopsided
from symmetric_layers.torch.kernels.job import Case
from symmetric_layers.torch.kernels.reference import CONV, expand_bias, expand_weight

_SMALL = 1 << 16  # numbers of a bank: in larger ones filters are long enough to be written out one by one


class Written(NamedTuple):
    """The ordinary convolution with the whole bank, for one case; equivalent to `reference.conv`.

    Attributes:
        case: what is asked for.
        span: how much of the memory behind the first stored number is read.
        numbers: of the bank, in the order of its memory: the places of the stored numbers.
        shape, strides: of the bank.
        biases: the place of every filter's bias; None where biases are taken as they are.
    """

    case: Case
    span: int
    numbers: Tensor
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    biases: Tensor | None

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The answer."""
        stored = weight.as_strided((self.span,), (1,))
        bank = stored.index_select(0, self.numbers).as_strided(self.shape, self.strides)
        if bias is not None and self.biases is not None:
            bias = bias.index_select(0, self.biases)
        case = self.case
        conv = CONV[case.plan.ndim]
        return conv(x, bank, bias, case.stride, case.padding, case.dilation, case.plan.groups)


def prepared(case: Case, pictures: tuple[int, ...], filters: tuple[int, ...]) -> Written | None:
    """What answers a case; None where the bank is large, or one convolution does not answer it.

    Args:
        case: what is asked for.
        pictures, filters: strides of the input and of the stored filters.
    """
    plan, span = case.plan, 1 + sum((n - 1) * stride for n, stride in zip(case.filters, filters, strict=True))
    bank = plan.filters * math.prod(case.filters[1:])
    if not plan.orbits or case.padding_mode != "zeros" or max(bank, span) > _SMALL or _has_two_grids(case):
        return None
    numbers = expand_weight(torch.arange(span, dtype=torch.int32).as_strided(case.filters, filters), plan)
    last = CHANNELS_LAST[len(case.filters)] if are_channels_last(case.shape, pictures) else torch.contiguous_format
    numbers = numbers.contiguous(memory_format=last)
    biases = None
    if case.biases is not None and case.share_bias:
        biases = expand_bias(torch.arange(case.biases[0]), plan, True)
    return Written(case, span, numbers.as_strided((bank,), (1,)), tuple(numbers.shape), numbers.stride(), biases)


def _has_two_grids(case: Case) -> bool:
    letters = lopsided(case.sizes, case.pads, case.kernel_size, case.stride, case.dilation)
    return case.grid == "mirrored" and bool(letters)
