"""Linear layers that read whole maps, laid out in a line: convolutions whose filters are as large as the map."""

import math
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from symmetric_layers.start import Start
from symmetric_layers.torch.conv import SymmetricConv1d, SymmetricConv2d, SymmetricConv3d
from symmetric_layers.torch.convert.banks import Symmetry, invariant_conv, symmetric_conv
from symmetric_layers.torch.convert.surgery import Numbers, hand_on_hooks, inherit
from symmetric_layers.torch.invariant import InvariantConv1d, InvariantConv2d, InvariantConv3d


class FlatConv(nn.Module):
    """A convolution whose filters are as large as the map that it reads, channel after channel, each row by row.

    Equivalent to: an `nn.Linear` behind an `nn.Flatten`, with `full_weight().flatten(1)` as its weight.

    Law: mirroring the maps and exchanging their channels exchanges the answers with their mirrors, or leaves them as
    they are where they are plain; at the one size that there is.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Weighs `(N, in_channels * positions)`."""
        layer: Any = self
        return F.linear(input, layer.full_weight().flatten(1), self.all_biases())

    def all_biases(self) -> Tensor | None:
        """One bias per feature."""
        layer: Any = self
        return layer.full_bias() if hasattr(layer, "full_bias") else layer.bias


class FlatSymmetricConv1d(FlatConv, SymmetricConv1d):
    """A `SymmetricConv1d` for sequences in a line: features that are orbits."""


class FlatSymmetricConv2d(FlatConv, SymmetricConv2d):
    """A `SymmetricConv2d` for pictures in a line: features that are orbits."""


class FlatSymmetricConv3d(FlatConv, SymmetricConv3d):
    """A `SymmetricConv3d` for volumes in a line: features that are orbits."""


class FlatInvariantConv1d(FlatConv, InvariantConv1d):
    """An `InvariantConv1d` for sequences in a line: features that know no mirror."""


class FlatInvariantConv2d(FlatConv, InvariantConv2d):
    """An `InvariantConv2d` for pictures in a line: features that know no mirror."""


class FlatInvariantConv3d(FlatConv, InvariantConv3d):
    """An `InvariantConv3d` for volumes in a line: features that know no mirror."""


_CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_SYMMETRIC = {1: FlatSymmetricConv1d, 2: FlatSymmetricConv2d, 3: FlatSymmetricConv3d}
_INVARIANT = {1: FlatInvariantConv1d, 2: FlatInvariantConv2d, 3: FlatInvariantConv3d}


def whole_maps(
    old: nn.Linear,
    sizes: tuple[int, ...],
    symmetry: Symmetry,
    in_symmetry: Symmetry,
    axes: str,
    numbers: Numbers,
    start: Start,
) -> nn.Module:
    """Such a layer for a linear one: to orbits, or without `symmetry` to plain features."""
    conv = as_convolution(old, sizes)
    new: Any
    if symmetry:
        new = symmetric_conv(conv, _SYMMETRIC[len(sizes)], symmetry, in_symmetry, "shared", numbers, start)
    else:
        new = invariant_conv(conv, _INVARIANT[len(sizes)], in_symmetry, axes, numbers, start)
    inherit(old, new)
    return new


def as_convolution(old: nn.Linear, sizes: tuple[int, ...]) -> Any:
    """The same numbers as an ordinary convolution with one position."""
    channels = old.in_features // math.prod(sizes)
    build: Any = _CONV[len(sizes)]
    conv = build(channels, old.out_features, sizes, bias=old.bias is not None, device="meta")
    weight = old.weight.detach().unflatten(1, (channels, *sizes))
    conv.weight, conv.bias = nn.Parameter(weight, old.weight.requires_grad), old.bias
    return conv


def as_linear(layer: Any, numbers: Numbers) -> nn.Module:
    """The way back."""
    weight = layer.full_weight().detach().flatten(1)
    new = nn.Linear(weight.shape[1], weight.shape[0], layer.bias is not None, "meta", weight.dtype)
    numbers.put(new, "weight", layer.weight, weight)
    numbers.put(new, "bias", layer.bias, layer.all_biases())
    return hand_on_hooks(layer, new)
