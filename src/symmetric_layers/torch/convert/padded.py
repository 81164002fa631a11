"""Convolutions and pools that pad more on one side than on the other, which their mirrors do the other way round."""

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx import Proxy

from symmetric_layers.torch.conv import SymmetricConv1d, SymmetricConv2d, SymmetricConv3d, _SymmetricConv
from symmetric_layers.torch.kernels.grid import lopsided, on_mirrored_grid
from symmetric_layers.torch.kernels.job import both_sides
from symmetric_layers.torch.leaves import noted
from symmetric_layers.torch.mirrored import Mirrored

Pads = tuple[tuple[int, int], ...]  # before and after, per axis of positions


class _Padded(_SymmetricConv):
    """What they share: `flip . pad and convolve . flip` for every mirror."""

    def pads(self, sizes: Sequence[int]) -> Sequence[tuple[int, int]]:
        """The padding before and after, per axis, for a picture of these sizes."""
        raise NotImplementedError

    def forward(self, input: Tensor) -> Any:
        """Pads and convolves `(N, in_channels, *positions)`."""
        if isinstance(input, Proxy):
            return noted(self, input)
        sizes = input.shape[-self._rank :]
        pads = self.pads(sizes)

        def run(x: Tensor, weight: Tensor, bias: Tensor | None, groups: int) -> Tensor:
            x = F.pad(x, _sides(pads))
            convolve = (F.conv1d, F.conv2d, F.conv3d)[self._rank - 1]
            return convolve(x, weight, bias, self.stride, 0, self.dilation, groups)

        weight, bias = self.full_weight(), self.full_bias()
        letters = lopsided(sizes, pads, self.kernel_size, self.stride, self.dilation)
        if letters:
            return on_mirrored_grid(run, input, weight, bias, self._plan, letters, filters_dim=0)
        return run(input, weight, bias, self.groups)


class SamePaddedConv2d(_Padded, SymmetricConv2d):
    """A `SymmetricConv2d` on the mirrored grid that pads as TensorFlow's 'SAME' does: more after than before.

    Equivalent to: `flip . pad and convolve . flip` for every mirror.

    Law: that of `SymmetricConv2d` with `grid='mirrored'`, at every size.
    """

    def pads(self, sizes: Any) -> list[tuple[int, int]]:
        """The padding before and after, per axis, for a picture of these sizes."""
        found = []
        for n, k, s, d in zip(sizes, self.kernel_size, self.stride, self.dilation, strict=True):
            total = max(k - (s if n % s == 0 else n % s), 0)
            found.append((total // 2 * d, (total - total // 2) * d))
        return found


class _PaddedBefore(_Padded):
    """What `PaddedBeforeConv2d` and its like share."""

    def __init__(self, *arguments: Any, padded: Pads, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.padded = padded

    def pads(self, sizes: Sequence[int]) -> list[tuple[int, int]]:
        """The padding before and after, per axis, of what is left when the input's own is cut off."""
        own = both_sides(self.padding, self.kernel_size, self.dilation)
        return [(a + low, b + high) for (a, b), (low, high) in zip(own, self.padded, strict=True)]

    def forward(self, input: Tensor) -> Any:
        """Cuts the zeros off that the input was padded with, pads again, and convolves."""
        if isinstance(input, Proxy):
            return noted(self, input)
        return super().forward(_cut(input, self.padded))

    def extra_repr(self) -> str:
        """The host's description, and what is cut off."""
        return f"{super().extra_repr()}, padded={self.padded}"


class PaddedBeforeConv1d(_PaddedBefore, SymmetricConv1d):
    """The 1-D form of `PaddedBeforeConv2d`."""


class PaddedBeforeConv2d(_PaddedBefore, SymmetricConv2d):
    """A `SymmetricConv2d` on the mirrored grid behind a `forward` that pads more zeros on one side than on the other.

    Equivalent to: `flip . pad and convolve . flip` for every mirror, of the picture before it was padded.

    Law: that of `SymmetricConv2d` with `grid='mirrored'`, at every size.

    Args:
        padded: how many zeros the input has before and after, per axis of positions; none along those without letters.
    """


class PaddedBeforeConv3d(_PaddedBefore, SymmetricConv3d):
    """The 3-D form of `PaddedBeforeConv2d`."""


class PaddedBeforePool(Mirrored):
    """A `Mirrored` pool behind a `forward` that pads more zeros on one side than on the other.

    Equivalent to: `flip . pad and pool . flip` for mirrors, of the picture before it was padded.

    Args:
        operator, symmetry: as in `Mirrored`.
        padded: how many zeros the input has before and after, per axis of positions.
    """

    def __init__(self, operator: nn.Module, symmetry: Any, padded: Pads) -> None:
        pad = (nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d)[len(padded) - 1]
        super().__init__(nn.Sequential(pad(_sides(padded), 0.0), operator), symmetry)
        self.padded = padded

    def forward(self, input: Tensor, *more: Any) -> Any:
        """Cuts the zeros off that the input was padded with, and pads and pools `(N, C, *positions)`."""
        if isinstance(input, Proxy):
            return noted(self, input, more)
        return super().forward(_cut(input, self.padded), *more)


def _cut(input: Tensor, padded: Pads) -> Tensor:
    for axis, (before, after) in zip(range(-len(padded), 0), padded, strict=True):
        input = input.narrow(axis, before, input.shape[axis] - before - after)
    return input


def _sides(pads: Sequence[tuple[int, int]]) -> Any:
    """The same as the host wants it, the last axis first."""
    return tuple(side for pair in reversed(pads) for side in pair)


PADDED_BEFORE = (PaddedBeforeConv1d, PaddedBeforeConv2d, PaddedBeforeConv3d)  # by the axes of positions
