"""Pools on the mirrored grid where sizes are left open: which mirrors are needed is found where they run.

What `Mirrored` answers, as an operator that compilers do not look into, and its gradient as another one.
"""

import operator as op
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from symmetric_layers.letters import LETTERS, axes
from symmetric_layers.orbits import Plan
from symmetric_layers.torch.kernels.bank import counts, regrouped
from symmetric_layers.torch.kernels.channels import plan_of, turned
from symmetric_layers.torch.kernels.grid import by_mirror, is_left_open
from symmetric_layers.torch.kernels.pools import each, format_of, is_hooked, pooled, unpooled
from symmetric_layers.torch.kernels.seen import in_mirrors

Symmetry = Mapping[str, int | str] | None

_MAX: tuple[Any, ...] = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
_MEAN: tuple[Any, ...] = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)


class Windows(NamedTuple):
    """What a pool does, in numbers.

    Attributes:
        kernel, stride, padding, dilation: one number per axis.
        is_mean, ceil_mode: whether windows are averaged, and whether those count that are not whole.
        mean: of averages, whether padding counts, and by what sums are divided instead (0 for nothing).
    """

    kernel: list[int]
    stride: list[int]
    padding: list[int]
    dilation: list[int]
    is_mean: bool
    ceil_mode: bool
    mean: list[int]

    def pool(self) -> Any:
        """The host's."""
        rank = len(self.kernel)
        how: Any = (self.kernel, self.stride, self.padding)
        if not self.is_mean:
            return _MAX[rank - 1](*how, self.dilation, ceil_mode=self.ceil_mode)
        counts, divisor = self.mean
        more: Any = {"divisor_override": divisor or None} if rank > 1 else {}
        return _MEAN[rank - 1](*how, ceil_mode=self.ceil_mode, count_include_pad=bool(counts), **more)

    def of_one_row(self) -> "Windows":
        """The same for rows that are pictures of one row, as which the host pools them."""
        one, none = [1], [0]
        return self._replace(
            kernel=one + self.kernel, stride=one + self.stride, padding=none + self.padding,
            dilation=one + self.dilation,
        )  # fmt: skip

    def crooked(self, sizes: Any, plan: Plan) -> str:
        """The letters along which pictures of these sizes have windows that are not their own mirror image."""
        known = [letter for letter in LETTERS[: len(self.kernel)] if any(letter in kind for kind in plan.kinds)]
        return "".join(letter for letter in known if self._remainder(sizes, *axes(letter)))

    def _remainder(self, sizes: Any, axis: int) -> int:
        reach = self.dilation[axis] * (self.kernel[axis] - 1) + 1
        return (sizes[axis] + 2 * self.padding[axis] - reach) % self.stride[axis]

    def back(self, gradient: Tensor, x: Tensor) -> Tensor:
        """The gradient of pictures that the host's pool gives."""
        if len(self.kernel) == 1:
            return self.of_one_row().back(gradient.unsqueeze(-2), x.unsqueeze(-2)).squeeze(-2)
        aten, flat = torch.ops.aten, len(self.kernel) == 2
        if self.is_mean:
            averaged: Any = aten.avg_pool2d_backward if flat else aten.avg_pool3d_backward
            counts, divisor = self.mean
            how = (self.kernel, self.stride, self.padding, self.ceil_mode, bool(counts), divisor or None)
            return averaged(gradient, x, *how)
        pool: Any = F.max_pool2d_with_indices if flat else F.max_pool3d_with_indices
        largest: Any = aten.max_pool2d_with_indices_backward if flat else aten.max_pool3d_with_indices_backward
        told = (self.kernel, self.stride, self.padding, self.dilation, self.ceil_mode)
        return largest(gradient, x, *told, pool(x, *told)[1])


def at_any_size(operator: Any, x: Tensor, symmetry: Symmetry, letters: str) -> Tensor | None:
    """What a pool answers for channels and their mirrors; None where sizes are known, or it is no pool of PyTorch's.

    Args:
        operator: the pool.
        x: pictures.
        symmetry: how their channels are arranged.
        letters: along which they are mirrored.
    """
    rank = x.dim() - 2
    if not 1 <= rank <= 3 or type(operator) not in (_MAX[rank - 1], _MEAN[rank - 1]) or is_hooked(operator):
        return None
    how = _windows(operator, rank)
    if not is_left_open(x.shape[2:], how.stride, letters) or not x.is_floating_point():
        return None
    if getattr(operator, "return_indices", False):
        return None
    return _pool(x, *how, _told(symmetry, op.index(x.shape[1])))


@torch.compiler.assume_constant_result
def _told(symmetry: Symmetry, channels: int) -> list[int]:
    return counts(plan_of(symmetry, channels))


def _windows(operator: Any, rank: int) -> Windows:
    kernel, padding = each(operator.kernel_size, rank), each(operator.padding, rank)
    stride = kernel if operator.stride is None else each(operator.stride, rank)
    is_mean = type(operator) is _MEAN[rank - 1]
    dilation = [1] * rank if is_mean else each(operator.dilation, rank)
    mean = [int(operator.count_include_pad), getattr(operator, "divisor_override", None) or 0] if is_mean else []
    return Windows(kernel, stride, padding, dilation, is_mean, operator.ceil_mode, mean)


@torch.library.custom_op("symmetric_layers::mirrored_pool", mutates_args=())
def _pool(
    x: Tensor,
    kernel: list[int],
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    is_mean: bool,
    ceil_mode: bool,
    mean: list[int],
    bank: list[int],
) -> Tensor:
    how = Windows(kernel, stride, padding, dilation, is_mean, ceil_mode, mean)
    plan, pool = _plan(bank, x), how.pool()
    crooked = how.crooked(x.shape, plan)
    if not crooked:
        return _laid_out(pool(x), x)
    at_once = pooled(pool, x, plan, crooked, pool)
    return _laid_out(in_mirrors(pool, plan, crooked, x) if at_once is None else at_once, x)


@torch.library.custom_op("symmetric_layers::mirrored_pool_gradient", mutates_args=())
def _pool_gradient(
    gradient: Tensor,
    x: Tensor,
    kernel: list[int],
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    is_mean: bool,
    ceil_mode: bool,
    mean: list[int],
    bank: list[int],
) -> Tensor:
    how, plan = Windows(kernel, stride, padding, dilation, is_mean, ceil_mode, mean), _plan(bank, x)
    crooked = how.crooked(x.shape, plan)
    if not crooked:
        return _laid_out(how.back(gradient, x), x)
    at_once = unpooled(how.pool(), x, gradient, plan, crooked)
    if at_once is not None:
        return at_once

    def seen(mirrored: str, index: Tensor) -> Tensor:
        own = [turned(one.index_select(1, index), axes(mirrored)) for one in (gradient, x)]
        return turned(how.back(*own), axes(mirrored))

    return _laid_out(by_mirror(seen, plan, crooked, 1, x.device), x)


def _plan(bank: list[int], x: Tensor) -> Plan:
    return regrouped(tuple(bank), (1,), x.shape[1], 0, len(LETTERS))


def _laid_out(found: Tensor, x: Tensor) -> Tensor:
    return found.contiguous(memory_format=format_of(x))


@_pool.register_fake
def _(x, *how):
    windows = Windows(*how[:7])
    if len(windows.kernel) == 1:  # pooling rows would ask for their length
        return x.new_empty((*x.shape[:2], windows.of_one_row().pool()(x.unsqueeze(-2)).shape[-1]))
    return torch.empty_like(windows.pool()(x), memory_format=format_of(x))


@_pool_gradient.register_fake
def _(gradient, x, *how):
    return torch.empty_like(x, memory_format=format_of(x))


def _keep(ctx: Any, inputs: Any, output: Tensor) -> None:
    x, *ctx.how = inputs
    ctx.save_for_backward(x)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    (x,) = ctx.saved_tensors
    return (_pool_gradient(gradient, x, *ctx.how), *[None] * len(ctx.how))


_pool.register_autograd(_backward, setup_context=_keep)
