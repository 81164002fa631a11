"""What a symmetric convolution is asked to do: everything an algorithm needs, in one place.

Every algorithm is a module with `conv(job)`; one that cannot do every job exactly also has `why_not(job)`, which gives
one clause on what it does not do, or None.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from symmetric_layers.orbits import Plan

_NUMBERS = {int}  # the types of sizes that are no symbols
_PER_AXIS = {"stride", "padding", "dilation", "output_padding"}


class Case(NamedTuple):
    """What all calls of one layer on inputs of one shape have in common: what can be worked out once for them.

    Attributes:
        shape: of the input; None for a size that a compiler leaves open.
        filters: shape of the stored filters.
        biases: shape of the stored biases, None where there are none.
        share_bias: whether all filters of an orbit have the same bias.
        plan, stride, padding, dilation, padding_mode, grid: as in `asked`.
    """

    plan: Plan
    shape: tuple[int, ...]
    filters: tuple[int, ...]
    biases: tuple[int, ...] | None
    share_bias: bool
    stride: tuple[int, ...]
    padding: str | tuple[int, ...]
    dilation: tuple[int, ...]
    padding_mode: str
    grid: str

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many positions the input has along each axis."""
        return self.shape[-self.plan.ndim :]

    @property
    def kernel_size(self) -> tuple[int, ...]:
        """How many numbers a filter has along each axis."""
        return self.filters[2:]

    @property
    def pads(self) -> list[tuple[int, int]]:
        """The padding before and after, per axis. `'same'` pads the odd one after, as the host does."""
        return both_sides(self.padding, self.kernel_size, self.dilation)


class Job(NamedTuple):
    """One call of a symmetric convolution; `asked` makes it.

    Attributes:
        x: the input, `(N, in_channels, *positions)` or `(in_channels, *positions)`.
        weight: the stored filters, `(plan.stored, in_channels / groups, *kernel)`.
        bias: the stored biases: one per stored filter where they are shared, else one per filter; None for none.
        case: all but the numbers.
        is_settled: whether all sizes are plain numbers: compilers and tracers put symbols there, which nothing
            remembers.
    """

    x: Tensor
    weight: Tensor
    bias: Tensor | None
    case: Case
    is_settled: bool

    @property
    def plan(self) -> Plan:
        """Which filters are mirrors of which."""
        return self.case.plan

    @property
    def share_bias(self) -> bool:
        """Whether all filters of an orbit have the same bias."""
        return self.case.share_bias

    def of(self, x: Tensor) -> "Job":
        """The same for another input, which has a shape of its own."""
        return self._replace(x=x, case=self.case._replace(shape=x.shape))


def asked(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    plan: Plan,
    share_bias: bool,
    stride: Sequence[int],
    padding: str | Sequence[int],
    dilation: Sequence[int],
    padding_mode: str,
    grid: str,
) -> Job:
    """What a layer asks for.

    Args:
        x, weight, bias: as in `Job`.
        plan: which filters are mirrors of which.
        share_bias: whether all filters of an orbit have the same bias.
        stride, dilation: one number per axis.
        padding: one number per axis, `'same'` or `'valid'`.
        padding_mode: as in the host: `'zeros'`, `'reflect'`, `'replicate'` or `'circular'`.
        grid: `'shared'`, or `'mirrored'`: a mirror is `flip . convolution . flip`.
    """
    shape, around = x.shape, padding if isinstance(padding, str) else tuple(padding)
    biases = None if bias is None else bias.shape
    case = Case(
        plan, shape, weight.shape, biases, share_bias, tuple(stride), around, tuple(dilation), padding_mode, grid
    )
    return Job(x, weight, bias, case, are_settled(shape))


def per_axis(name: str, value: Any, rank: int) -> Any:
    """What a convolution keeps under a name: a whole number for every axis, where one number is said for all."""
    return (value,) * rank if name in _PER_AXIS and isinstance(value, int) else value


def are_settled(sizes: Sequence[int]) -> bool:
    """Whether these are plain numbers, and nobody compiles for others."""
    return not torch.compiler.is_compiling() and _NUMBERS.issuperset(map(type, sizes))


def multiplied_as(tensor: Tensor) -> torch.dtype:
    """The dtype that convolutions of this tensor are computed in: its own, or that of autocast, where it is on."""
    device = tensor.device.type
    if tensor.dtype == torch.float64 or not torch.is_autocast_enabled(device):
        return tensor.dtype
    return torch.get_autocast_dtype(device)


def both_sides(
    padding: str | Sequence[int], kernel_size: Sequence[int], dilation: Sequence[int]
) -> list[tuple[int, int]]:
    """The padding before and after, per axis. `'same'` pads the odd one after, as the host does."""
    if padding == "same":
        totals = [d * (k - 1) for d, k in zip(dilation, kernel_size, strict=True)]
        return [(total // 2, total - total // 2) for total in totals]
    if padding == "valid":
        return [(0, 0)] * len(kernel_size)
    return [(int(p), int(p)) for p in padding]
