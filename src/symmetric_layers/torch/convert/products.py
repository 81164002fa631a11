"""Convolutions in double precision as sums of matrix products: the same numbers, several times sooner on processors.

A host's convolution in double precision writes every window of a picture out before it multiplies. But the windows are
the picture itself, shifted (with a stride of 2, its even and its odd columns): one product for each number of a filter.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

_RANKS: dict[Any, int] = {torch.conv2d: 2, torch.conv3d: 3}
_RUN = 8192  # as many columns as stay in a processor's cache while all numbers of the filters are applied


class Products(TorchFunctionMode):
    """While this is on, convolutions that can be are computed as sums of matrix products; without gradients."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Passes calls on, but for those of convolutions."""
        answer = _tried(_RANKS[func], *args, **(kwargs or {})) if func in _RANKS else None
        return func(*args, **(kwargs or {})) if answer is None else answer


def _tried(
    rank: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor | None:
    stride, dilation = _each(stride, rank), _each(dilation, rank)
    known = input.dtype is torch.float64 and input.device.type == "cpu" and input.dim() == rank + 2
    if not known or groups != 1 or isinstance(padding, str) or torch.is_grad_enabled():
        return None
    return by_products(input, weight, bias, stride, _each(padding, rank), dilation)


def by_products(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: list[int], padding: list[int], dilation: list[int]
) -> Tensor:
    """A convolution in one group.

    Equivalent to: `F.conv2d(x, weight, bias, stride, padding, dilation)`, likewise in 3-D.
    """
    kernel = weight.shape[2:]
    wide = [n + 2 * p for n, p in zip(x.shape[2:], padding, strict=True)]
    left = [(n - d * (k - 1) - 1) // s + 1 for n, k, d, s in zip(wide, kernel, dilation, stride, strict=True)]
    more = [-n % s for n, s in zip(wide, stride, strict=True)]
    x = F.pad(x, [side for p, m in zip(padding[::-1], more[::-1], strict=True) for side in (p, p + m)])
    sizes = [n // s for n, s in zip(x.shape[2:], stride, strict=True)]
    steps = [math.prod(sizes[axis + 1 :]) for axis in range(len(sizes))]
    places = list(_places(kernel, dilation, stride, steps))
    taps = weight.flatten(2).movedim(-1, 0).contiguous().unbind()
    length = 1 + sum((n - 1) * step for n, step in zip(left, steps, strict=True))
    # rows that reach over the edge of the picture are computed with the others, and cut off at the end
    answer = x.new_zeros(x.shape[0], weight.shape[0], math.prod(sizes))
    if bias is not None:
        answer += bias[:, None]
    for picture, found in zip(_phases(x, sizes, stride), answer, strict=True):
        shifted = [picture[phase].narrow(1, shift, length) for phase, shift in places]
        for first in range(0, length, _RUN):
            count = min(_RUN, length - first)
            run = found.narrow(1, first, count)
            for tap, seen in zip(taps, shifted, strict=True):
                run.addmm_(tap, seen.narrow(1, first, count))
    answer = answer.unflatten(2, sizes)
    for axis, n in enumerate(left):
        answer = answer.narrow(2 + axis, 0, n)
    return answer.contiguous()


def _phases(x: Tensor, sizes: list[int], stride: list[int]) -> Tensor:
    """The columns by where in their stride they stand: `(N, *stride, C, positions)`."""
    split = x.reshape(*x.shape[:2], *(part for pair in zip(sizes, stride, strict=True) for part in pair))
    phases = [3 + 2 * axis for axis in range(len(sizes))]
    moved = split.permute(0, *phases, 1, *(axis - 1 for axis in phases))
    return moved.reshape(x.shape[0], *stride, x.shape[1], math.prod(sizes))


def _places(
    kernel: Sequence[int], dilation: list[int], stride: list[int], steps: list[int]
) -> Iterator[tuple[tuple[int, ...], int]]:
    """For every number of a filter: the phase of the columns that it meets, and how far these are shifted."""
    for tap in itertools.product(*map(range, kernel)):
        reach = [place * d for place, d in zip(tap, dilation, strict=True)]
        phase = tuple(far % s for far, s in zip(reach, stride, strict=True))
        yield phase, sum(far // s * step for far, s, step in zip(reach, stride, steps, strict=True))


def _each(value: Any, rank: int) -> list[int]:
    given = list(value) if isinstance(value, (tuple, list)) else [value]
    return given * rank if len(given) == 1 else given
