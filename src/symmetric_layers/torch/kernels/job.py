"""What a symmetric convolution is asked to do: everything an algorithm needs, in one place.

Every algorithm is a module with `conv(job)`; one that cannot do every job exactly also has `why_not(job)`, which gives
one clause on what it does not do, or None.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from symmetric_layers.orbits import Plan


class Case(NamedTuple):
    """What all calls of one layer on inputs of one shape have in common: what can be worked out once for them.

    Attributes:
        shape: of the input.
        filters: shape of the stored filters.
        plan, stride, padding, dilation, padding_mode, grid: as in `Job`.
    """

    plan: Plan
    shape: tuple[int, ...]
    filters: tuple[int, ...]
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
    """One call of a symmetric convolution.

    Attributes:
        x: the input, `(N, in_channels, *positions)` or `(in_channels, *positions)`.
        weight: the stored filters, `(plan.stored, in_channels / groups, *kernel)`.
        bias: the stored biases: one per stored filter where they are shared, else one per filter; None for none.
        plan: which filters are mirrors of which.
        share_bias: whether all filters of an orbit have the same bias.
        stride, dilation: one number per axis.
        padding: one number per axis, `'same'` or `'valid'`.
        padding_mode: as in the host: `'zeros'`, `'reflect'`, `'replicate'` or `'circular'`.
        grid: `'shared'`, or `'mirrored'`: a mirror is `flip . convolution . flip`.
    """

    x: Tensor
    weight: Tensor
    bias: Tensor | None
    plan: Plan
    share_bias: bool
    stride: Sequence[int]
    padding: str | Sequence[int]
    dilation: Sequence[int]
    padding_mode: str
    grid: str

    @property
    def sizes(self) -> Sequence[int]:
        """How many positions the input has along each axis."""
        return self.case.sizes

    @property
    def kernel_size(self) -> Sequence[int]:
        """How many numbers a filter has along each axis."""
        return self.case.kernel_size

    @property
    def pads(self) -> list[tuple[int, int]]:
        """The padding before and after, per axis. `'same'` pads the odd one after, as the host does."""
        return self.case.pads

    @property
    def is_settled(self) -> bool:
        """Whether all sizes are plain numbers: compilers and tracers put symbols there, which nothing remembers."""
        return not torch.compiler.is_compiling() and all(type(size) is int for size in self.x.shape)

    @property
    def case(self) -> Case:
        """All but the numbers."""
        padding = self.padding if isinstance(self.padding, str) else tuple(self.padding)
        return Case(
            self.plan, self.x.shape, self.weight.shape, tuple(self.stride), padding, tuple(self.dilation),
            self.padding_mode, self.grid,
        )  # fmt: skip


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
