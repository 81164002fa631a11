"""Max pooling on the mirrored grid in one pass: every channel's windows begin where those of its mirror end.

Mirroring, pooling and mirroring back would write everything three times over, and go the same way back for gradients.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules import module

from symmetric_layers.letters import LETTERS
from symmetric_layers.orbits import Plan
from symmetric_layers.torch.kernels.geometry import CHANNELS_LAST, are_channels_last
from symmetric_layers.torch.kernels.library import Pool, array, missing, new_pool, run
from symmetric_layers.torch.kernels.slowly import differentiated, wants_the_host
from symmetric_layers.torch.kernels.trio import is_watched

_RANKS = {nn.MaxPool1d: 1, nn.MaxPool2d: 2, nn.MaxPool3d: 3}
_MOST = 2**31  # places in a picture are whole numbers of 32 bits


class Way(NamedTuple):
    """How some pictures are pooled.

    Attributes:
        windows: their sizes, the strides between them, and the dilation of their taps.
        padding: before the first pixel, per axis.
        answer: its sizes.
        plan: how channels are arranged.
        letters: along which the pool does not obey by itself.
        slowly: the same in PyTorch's operations, for derivatives of derivatives.
    """

    windows: tuple[list[int], ...]
    padding: list[int]
    answer: list[int]
    plan: Plan
    letters: str
    slowly: Callable[[Tensor], Tensor]


def pooled(operator: Any, x: Tensor, plan: Plan, letters: str, slowly: Callable[[Tensor], Tensor]) -> Tensor | None:
    """What a max pool answers for channels and their mirrors, bit for bit; None where PyTorch has to do it.

    Args:
        operator: the pool.
        x: pictures.
        plan: how their channels are arranged.
        letters: along which the pool does not obey by itself.
        slowly: how PyTorch does it.
    """
    how = _windows(operator, x)
    if how is None or not _is_plain(x):
        return None
    windows, padding = how
    answer = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, d, p in zip(x.shape[2:], *windows, padding, strict=True)
    ]  # fmt: skip
    if min(answer) < 1:
        return None
    way = Way(windows, padding, answer, plan, letters, slowly)
    return _Pooled.apply(x, way) if torch.is_grad_enabled() and x.requires_grad else _pool(x, way)[0]


def _pool(x: Tensor, way: Way) -> tuple[Tensor, Pool]:
    """The answer, and what the kernel was told."""
    kinds, _ = _classes(way.plan, way.letters)
    y = torch.empty(*x.shape[:2], *way.answer, dtype=x.dtype, device=x.device, memory_format=format_of(x))
    task = _task(x, y, way)
    run("pool", task, (x.data_ptr(), y.data_ptr()), [array(kinds)])
    return y, task


class _Pooled(torch.autograd.Function):
    """The same with gradients: they go to the largest number of a window, the first one of equal ones, row by row."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, way: Way) -> Tensor:
        """The answer; only the pictures are kept."""
        y, ctx.task = _pool(x, way)
        ctx.way, ctx.format = way, format_of(x)
        ctx.save_for_backward(x)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None]:
        """The gradient of the pictures."""
        (x,), (gradient,) = ctx.saved_tensors, gradients
        if wants_the_host(x, gradient):
            return differentiated(ctx.way.slowly, [x], [True], gradient)[0], None
        x, gradient = (one.contiguous(memory_format=ctx.format) for one in (x, gradient))  # whoever kept them
        return _unpool(x, gradient, ctx.way, ctx.task), None


def unpooled(operator: Any, x: Tensor, gradient: Tensor, plan: Plan, letters: str) -> Tensor | None:
    """The gradient of pictures x, given that of what `pooled` answers; None where PyTorch has to do it."""
    how = _windows(operator, x)
    if how is None or not _is_plain(x) or gradient.dtype != x.dtype or not gradient.numel():
        return None
    gradient = gradient.contiguous(memory_format=format_of(x))
    way = Way(*how, list(gradient.shape[2:]), plan, letters, operator)
    return _unpool(x, gradient, way, _task(x, gradient, way))


def _unpool(x: Tensor, gradient: Tensor, way: Way, task: Pool) -> Tensor:
    """The same for pictures and gradients in one memory format."""
    found = torch.empty_like(x, memory_format=format_of(x))
    kinds, _ = _classes(way.plan, way.letters)
    run("unpool", task, (x.data_ptr(), gradient.data_ptr(), found.data_ptr()), [array(kinds)])
    return found


def _task(x: Tensor, y: Tensor, way: Way) -> Pool:
    """What the kernel is told."""
    _, classes = _classes(way.plan, way.letters)
    task = new_pool(x, y, way.windows, len(classes), torch.get_num_threads())
    _begin(task, classes, way.padding, len(way.answer))
    return task


def _windows(operator: Any, x: Tensor) -> tuple[tuple[list[int], ...], list[int]] | None:
    """Sizes, strides and dilation of a pool's windows, and its padding; None for what only PyTorch can do."""
    rank = _RANKS.get(type(operator))
    if rank != x.dim() - 2 or operator.ceil_mode or operator.return_indices or is_hooked(operator):
        return None
    kernel, padding, dilation = (
        each(value, rank) for value in (operator.kernel_size, operator.padding, operator.dilation)
    )
    stride = kernel if operator.stride is None else each(operator.stride, rank)
    fine = all(
        0 <= 2 * p <= k and s > 0 and d > 0 for k, p, s, d in zip(kernel, padding, stride, dilation, strict=True)
    )
    return ((kernel, stride, dilation), padding) if fine else None


def is_hooked(operator: nn.Module) -> bool:
    """Whether calling the pool does more than pooling, or something else."""
    own = (
        "forward" in vars(operator)
        or operator._forward_hooks
        or operator._forward_pre_hooks
        or operator._backward_hooks
    )
    return bool(own or operator._backward_pre_hooks or module._has_any_global_hook())


def _is_plain(x: Tensor) -> bool:
    """Whether all that is wanted are numbers, of pictures that lie in one piece."""
    return (
        not is_watched([x])
        and missing() is None
        and x.dtype == torch.float32
        and x.device.type == "cpu"
        and 0 < x.numel() < _MOST
        and x.is_contiguous(memory_format=format_of(x))
    )


def format_of(x: Tensor) -> torch.memory_format:
    """The memory format in which pictures lie, if they do so in one piece."""
    return CHANNELS_LAST[x.dim()] if are_channels_last(x.shape, x.stride()) else torch.contiguous_format


@lru_cache(maxsize=256)
def _classes(plan: Plan, letters: str) -> tuple[tuple[int, ...], list[str]]:
    """The class of every channel, and along which of the letters each class is mirrored."""
    mirrors = ["".join(letter for letter in mirror if letter in letters) for mirror in plan.mirror]
    classes = sorted(set(mirrors))
    return tuple(classes.index(mirror) for mirror in mirrors), classes


def _begin(task: Pool, classes: list[str], padding: list[int], rank: int) -> None:
    """Says where every class has its first window: what is left over is left over at the other end."""
    for kind, mirror in enumerate(classes):
        for place, p in enumerate(padding, 3 - rank):
            mirrored = LETTERS[2 - place] in mirror
            reach = task.dilation[place] * (task.kernel[place] - 1) + 1 + task.stride[place] * (task.answer[place] - 1)
            task.first[kind][place] = task.size[place] + p - reach if mirrored else -p
            task.backward[kind][place] = mirrored


def each(value: Any, rank: int) -> list[int]:
    """One number per axis, from what hosts take."""
    numbers = list(value) if isinstance(value, (tuple, list)) else [value]
    return numbers * rank if len(numbers) == 1 else numbers
