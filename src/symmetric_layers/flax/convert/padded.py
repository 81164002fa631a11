"""Convolutions that pad what a call has padded before them, which their mirrors do on the other side."""

from collections.abc import Sequence
from typing import Any

from flax import nnx
from jax import Array, lax

from symmetric_layers.flax.conv import SymmetricConv
from symmetric_layers.flax.convert.depthwise import MultipliedConv, PalindromeConv
from symmetric_layers.flax.convert.pads import Sides
from symmetric_layers.flax.convert.spied import become
from symmetric_layers.flax.grid import each, pads_of, reaches_of
from symmetric_layers.flax.invariant import InvariantConv


class PaddedBefore(nnx.Module):
    """What they share: the zeros that a call has padded are cut off, and padded again with those of the layer itself.

    Attributes:
        padded: how many zeros the input has before and after, along every axis of positions.
        padding: those, and what the layer padded before.
    """

    padded: Sides
    padding: Any

    def __call__(self, inputs: Array, *arguments: Any, **others: Any) -> Array:
        """Convolves `(*batch, *positions, in_features)`, padded as much."""
        cuts = [(0, 0)] * (inputs.ndim - 1 - len(self.padded)) + list(self.padded) + [(0, 0)]
        starts = [low for low, _ in cuts]
        ends = [size - high for size, (_, high) in zip(inputs.shape, cuts, strict=True)]
        return super().__call__(lax.slice(inputs, starts, ends), *arguments, **others)


class PaddedBeforeConv(PaddedBefore, SymmetricConv):
    """A `SymmetricConv` on the mirrored grid behind a call that pads more zeros on one side than on the other.

    Equivalent to: `flip . pad and convolve . flip` for every mirror, of the picture before it was padded.

    Law: that of `SymmetricConv` with `grid='mirrored'`, at every size.
    """


class PaddedBeforeMultipliedConv(PaddedBefore, MultipliedConv):
    """A `MultipliedConv` behind such a call."""


class PaddedBeforeInvariantConv(PaddedBefore, InvariantConv):
    """An `InvariantConv` behind such a call."""


class PaddedBeforePalindromeConv(PaddedBefore, PalindromeConv):
    """A `PalindromeConv` behind such a call."""


_KINDS: dict[type, type] = {
    SymmetricConv: PaddedBeforeConv,
    MultipliedConv: PaddedBeforeMultipliedConv,
    InvariantConv: PaddedBeforeInvariantConv,
    PalindromeConv: PaddedBeforePalindromeConv,
}


def pad_before(layer: Any, padded: Sides) -> None:
    """Makes padding that a call does part of a converted layer."""
    own = _own(layer)
    become(layer, _KINDS[type(layer)])
    layer.padded = padded
    layer.padding = tuple((a + low, b + high) for (a, b), (low, high) in zip(own, padded, strict=True))


def without_padded(layer: Any) -> Sides:
    """What a layer has to pad where the zeros of the call before it are not cut off."""
    pairs = zip(_own(layer), layer.padded, strict=True)
    return tuple((a - low, b - high) for (a, b), (low, high) in pairs)


def _own(layer: Any) -> Sequence[tuple[int, int]]:
    """What a convolution pads that is told so in numbers, or pads nothing."""
    reaches = reaches_of(layer)
    return pads_of(layer, reaches, reaches, each(layer.strides, reaches))
