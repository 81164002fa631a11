"""A fused kernel on the mirrored grid where sizes are left open: how far the grids lie apart is found where it runs.

A compiler would ask for the remainder of every layer and compile once for each. Operators that it does not look into
are the same for all sizes: their answers are as large as the host's, whatever the remainder.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from symmetric_layers.letters import LETTERS
from symmetric_layers.torch.kernels.bank import kind_of, pairs
from symmetric_layers.torch.kernels.reference import CONV
from symmetric_layers.torch.kernels.trio import Trio, register


def for_any_size(prefix: str, trio: Trio, device_types: str | Sequence[str]) -> Trio:
    """The operators of a kernel once more, on the mirrored grid: filters become as much wider as the sizes ask for.

    Args:
        prefix: of the new operators' names.
        trio: the kernel's own, whose arguments they take; padding is the same before and after, taps of axes with
            strides are not dilated.
        device_types: those of the tensors.
    """

    def answer(
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        bank: Sequence[int],
        inputs: Sequence[int],
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
    ) -> Tensor:
        wider = _wider(x.shape[2:], weight.shape[2:], bank, stride, padding, dilation)
        if wider is None:  # the host says why
            return CONV[x.dim() - 2](x, weight, bias, list(stride), list(padding), list(dilation))
        return trio.answer(x, _widened(weight, wider), bias, bank, inputs, stride, padding, dilation)

    def input_gradient(
        gradient: Tensor,
        weight: Tensor,
        sizes: Sequence[int],
        bank: Sequence[int],
        inputs: Sequence[int],
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
    ) -> Tensor:
        wider = _wider(sizes, weight.shape[2:], bank, stride, padding, dilation) or []
        return trio.input_gradient(gradient, _widened(weight, wider), sizes, bank, inputs, stride, padding, dilation)

    def weight_gradient(
        gradient: Tensor,
        x: Tensor,
        kernel_size: Sequence[int],
        bank: Sequence[int],
        inputs: Sequence[int],
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
    ) -> Tensor:
        wider = _wider(x.shape[2:], kernel_size, bank, stride, padding, dilation) or []
        kernel = _wide(x.shape[2:], kernel_size, bank, stride, padding, dilation)
        found = trio.weight_gradient(gradient, x, kernel, bank, inputs, stride, padding, dilation)
        return F.pad(found, [-more for more in wider]).contiguous() if wider else found

    return register(prefix, answer, input_gradient, weight_gradient, device_types, kernel=_wide)


def _wide(sizes: Sequence[int], kernel_size: Sequence[int], *how: Sequence[int]) -> list[int]:
    """How many numbers filters then have along each axis."""
    wider = _wider(sizes, kernel_size, *how)
    return [k + more for k, more in zip(kernel_size, wider[::-2], strict=True)] if wider else list(kernel_size)


def _wider(
    sizes: Sequence[int],
    kernel_size: Sequence[int],
    bank: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> list[int] | None:
    """By how many zeros stored filters are wider, as `F.pad` is told; nothing where grids do not lie apart.

    None where the filters do not fit into the picture.
    """
    letters = {letter for bits, _ in pairs(bank) for letter in kind_of(bits)}
    found = []
    axes = zip(sizes, kernel_size, stride, padding, dilation, strict=True)
    for letter, (n, k, s, p, d) in zip(LETTERS[: len(sizes)][::-1], axes, strict=True):
        room = n + 2 * p - d * (k - 1) - 1
        if room < 0:
            return None
        found.append(room % s // d if letter in letters else 0)
    return [side for more in reversed(found) for side in (0, more)] if any(found) else []


def _widened(weight: Tensor, wider: list[int]) -> Tensor:
    return F.pad(weight, wider) if wider else weight
