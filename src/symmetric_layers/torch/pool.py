"""Pooling over the members of an orbit, and pooling that keeps the k largest values."""

import operator
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.fx import Proxy

from symmetric_layers.counts import readable
from symmetric_layers.errors import enough_positions, one_of, whole_number
from symmetric_layers.letters import LETTERS
from symmetric_layers.orbits import Block
from symmetric_layers.torch.kernels.channels import per_block, plan_of
from symmetric_layers.torch.leaves import noted


class OrbitPool(nn.Module):
    """Pools each orbit of channels into one channel: the way from mirrored answers to one answer.

    What is left of an orbit no longer knows which of its mirrors saw the pattern. Free channels pass through.

    Equivalent to: `x.unflatten(1, (-1, 2)).mean(2)` where all channels are `'h'` orbits.

    Law: where the channels obey the law of `SymmetricConv2d`, mirroring the input along a letter of every kind
    mirrors the output and exchanges nothing: after a mean or maximum over all positions it does not change at all.

    Args:
        symmetry: how the channels are arranged, as in the layer that made them.
        reduce: `'mean'` or `'max'`.

    Shape:
        `(N, C, *positions)` to `(N, orbits + free channels, *positions)`, with any number of positions axes.

    Raises:
        SymmetryError: when constructed with no such `reduce`, or called with channels that `symmetry` does not fit.

    Example:
        >>> pool = OrbitPool({'hv': 8}, reduce='max')
        >>> pool(torch.randn(5, 10, 28, 28)).shape
        torch.Size([5, 4, 28, 28])
    """

    def __init__(self, symmetry: Mapping[str, int | str] | None, reduce: str = "mean") -> None:
        super().__init__()
        self.symmetry = readable(symmetry, len(LETTERS))
        self.reduce = one_of("reduce", reduce, ("mean", "max"))

    def forward(self, input: Tensor) -> Tensor:
        """Pools `(N, C, *positions)` over the members of each orbit."""
        if isinstance(input, Proxy):
            return noted(self, input)
        bank = plan_of(self.symmetry, operator.index(input.shape[1]))

        def pool(channels: Tensor, block: Block) -> Tensor:
            if not block.kind:
                return channels
            members = channels.unflatten(1, (block.orbits, block.size))
            return _paired_mean(members) if self.reduce == "mean" else members.amax(2)

        return per_block(input, bank, 1, pool)

    def extra_repr(self) -> str:
        """The arguments."""
        return f"{self.symmetry}, reduce={self.reduce!r}"


def _paired_mean(members: Tensor) -> Tensor:
    """The mean over axis 2, neighbours first: mirrors only swap two terms of a sum, which does not change a bit."""
    size = members.shape[2]
    while members.shape[2] > 1:
        members = members[:, :, ::2] + members[:, :, 1::2]
    return members.squeeze(2) / size


class MirrorMean(nn.Module):
    """The mean over all positions, summed so that a picture and its mirror image have the same bits.

    Sums of floats depend on their order, so an ordinary mean tells a picture from its mirror image in the last bits.

    Equivalent to: `x.mean((2, 3), keepdim=True)`, to rounding; it takes the place of `nn.AdaptiveAvgPool2d(1)`.

    Law: mirroring the positions along any axis changes no bit.

    Args:
        positions: how many axes of positions there are; then one picture without N is taken, too. None: all after the
            second axis.

    Shape:
        `(N, C, *positions)` to `(N, C, *ones)`, with any number of positions axes.

    Raises:
        SymmetryError: for positions that are no whole number above 0.

    Example:
        >>> x = torch.randn(2, 3, 7, 8)
        >>> torch.equal(MirrorMean()(x), MirrorMean()(x.flip(-1)))
        True
    """

    positions: int | None = None  # of the class, so that layers stored before there was a choice have it too

    def __init__(self, positions: int | None = None) -> None:
        super().__init__()
        if positions is not None:
            self.positions = whole_number("positions", positions, 1)

    def forward(self, input: Tensor) -> Tensor:
        """The mean of each channel."""
        if isinstance(input, Proxy):
            return noted(self, input)
        first = 2 if self.positions is None else input.dim() - self.positions
        positions = list(range(first, input.dim()))
        for axis in positions:  # now every number is the sum of those that mirror each other
            input = input + input.flip(axis)
        return input.mean(positions, keepdim=True) / 2 ** len(positions)

    def extra_repr(self) -> str:
        """The argument, where there is one."""
        return "" if self.positions is None else f"positions={self.positions}"


class TopKPool(nn.Module):
    """Keeps the k largest values of each channel over all positions, largest first; k = 1 is global max pooling.

    A pattern that occurs three times then counts three times, wherever it stands.

    Equivalent to: `x.flatten(2).topk(k).values`.

    Law: permuting the positions, mirroring among them, changes nothing.

    Args:
        k: how many values to keep, at least 1.

    Shape:
        `(N, C, *positions)` to `(N, C, k)`.

    Raises:
        SymmetryError: for a k that is no whole number above 0, and for inputs with fewer than k positions.

    Example:
        >>> TopKPool(2)(torch.tensor([[[1., 5., 3.]]]))
        tensor([[[5., 3.]]])

    Source: Kalchbrenner et al., "A convolutional neural network for modelling sentences", ACL 2014 (k-max pooling).
    """

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = whole_number("k", k, 1)

    def forward(self, input: Tensor) -> Tensor:
        """Picks the k largest of `(N, C, *positions)` per channel."""
        if isinstance(input, Proxy):
            return noted(self, input)
        positions = input.flatten(2)
        enough_positions(self.k, positions.shape[2])
        return torch.topk(positions, self.k, dim=2).values

    def extra_repr(self) -> str:
        """The argument."""
        return f"k={self.k}"
