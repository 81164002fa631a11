"""The sizes of a convolution, and answers in the host's memory formats: what every fused kernel has in common."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}  # by the axes of pictures


def are_channels_last(shape: Sequence[int], strides: Sequence[int]) -> bool:
    """Whether pictures of two or three axes have several channels, which lie side by side in memory."""
    return len(shape) > 3 and shape[1] > 1 and strides[1] == 1


class Geometry:
    """The sizes that all blocks of a bank have in common.

    Args:
        stride, padding, dilation: one number per axis; the padding is the same before and after.
        sizes: of the input, per axis.
        kernel_size: of the filters, per axis.
        answer: sizes of the output, where these are others than the padding gives.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        kernel_size: Sequence[int],
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
        answer: Sequence[int] | None = None,
    ) -> None:
        self.sizes, self.kernel_size, self.stride = sizes, kernel_size, stride
        self.padding, self.dilation, self._answer = padding, dilation, answer

    @property
    def answer(self) -> list[int]:
        """The sizes of the output."""
        if self._answer is not None:
            return list(self._answer)
        axes = zip(self.sizes, self.kernel_size, self.stride, self.padding, self.dilation, strict=True)
        return [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in axes]

    def backwards(self) -> "Geometry":
        """That of the gradient of the input, for stride 1: a convolution of the gradient, filters read backwards."""
        reach = zip(self.dilation, self.kernel_size, self.padding, strict=True)
        padding = [d * (k - 1) - p for d, k, p in reach]
        return Geometry(self.answer, self.kernel_size, self.stride, padding, self.dilation)

    def host_gradient(self, gradient: Tensor, full: Tensor) -> Tensor:
        """The gradient of the input by the host, from that of the answer and all filters of the bank."""
        pictures = empty_like(gradient, (gradient.shape[0], full.shape[1], *self.sizes))
        if are_channels_last(pictures.shape, pictures.stride()):
            full = full.contiguous(memory_format=CHANNELS_LAST[full.dim()])  # else the host would turn all of it round
        how: Any = (self.stride, self.padding, self.dilation, False, [0] * len(self.sizes), 1, [True, False, False])
        found = torch.ops.aten.convolution_backward(gradient, pictures, full, None, *how)[0]
        return found if found.stride() == pictures.stride() else pictures.copy_(found)


def empty_like(x: Tensor, shape: Sequence[int]) -> Tensor:
    """An empty tensor in the memory format of another one, by the host's rules."""
    last = CHANNELS_LAST.get(x.dim())
    if last is not None and x.is_contiguous(memory_format=last) and (not x.is_contiguous() or _is_one_channel_last(x)):
        return torch.empty(tuple(shape), dtype=x.dtype, device=x.device, memory_format=last)
    return x.new_empty(tuple(shape))


def _is_one_channel_last(x: Tensor) -> bool:
    """Whether a single channel was put last: only its stride tells."""
    return x.shape[1] == 1 and x.stride(1) == 1 and x.shape[2:].numel() > 1
