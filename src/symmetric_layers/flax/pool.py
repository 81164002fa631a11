"""Pooling over the members of an orbit, and pooling that keeps the k largest values."""

import math
from collections.abc import Mapping

import jax.numpy as jnp
from flax import nnx
from jax import Array, lax

from symmetric_layers.counts import readable
from symmetric_layers.errors import enough_positions, one_of, whole_number
from symmetric_layers.flax.channels import per_block, plan_of, unfold
from symmetric_layers.letters import LETTERS
from symmetric_layers.orbits import Block


class OrbitPool(nnx.Module):
    """Pools each orbit of channels into one channel: the way from mirrored answers to one answer.

    What is left of an orbit no longer knows which of its mirrors saw the pattern. Free channels pass through.

    Equivalent to: `x.reshape(*x.shape[:-1], -1, 2).mean(-1)` where all channels are `'h'` orbits.

    Law: where the channels obey the law of `SymmetricConv`, mirroring the input along a letter of every kind mirrors
    the output and exchanges nothing: after a mean or maximum over all positions it does not change at all.

    Args:
        symmetry: how the channels are arranged, as in the layer that made them.
        reduce: `'mean'` or `'max'`.

    Shape:
        `(..., channels)` to `(..., orbits + free channels)`.

    Raises:
        SymmetryError: when constructed with no such `reduce`, or called with channels that `symmetry` does not fit.

    Example:
        >>> pool = OrbitPool({'hv': 8}, reduce='max')
        >>> pool(jnp.ones((5, 28, 28, 10))).shape
        (5, 28, 28, 4)
    """

    def __init__(self, symmetry: Mapping[str, int | str] | None, reduce: str = "mean") -> None:
        self.symmetry = tuple((readable(symmetry, len(LETTERS)) or {}).items())
        self.reduce = one_of("reduce", reduce, ("mean", "max"))

    def __call__(self, inputs: Array) -> Array:
        """Pools `(..., channels)` over the members of each orbit."""

        def pool(channels: Array, block: Block) -> Array:
            if not block.kind:
                return channels
            members = unfold(channels, -1, [block.orbits, block.size])
            return members.max(-1) if self.reduce == "max" else members.mean(-1)

        return per_block(inputs, plan_of(dict(self.symmetry), inputs.shape[-1]), -1, pool)


class TopKPool(nnx.Module):
    """Keeps the k largest values of each channel over all positions, largest first; k = 1 is global max pooling.

    A pattern that occurs three times then counts three times, wherever it stands.

    Equivalent to: `jnp.flip(jnp.sort(x, 1), 1)[:, :k]` for `(batch, width, channels)`.

    Law: permuting the positions, mirroring among them, changes nothing.

    Args:
        k: how many values to keep, at least 1.

    Shape:
        `(batch, *positions, channels)` to `(batch, k, channels)`, with any number of position axes.

    Raises:
        SymmetryError: for a k that is no whole number above 0, and for inputs with fewer than k positions.

    Example:
        >>> TopKPool(2)(jnp.array([[[1.0], [5.0], [3.0]]])).tolist()
        [[[5.0], [3.0]]]

    Source: Kalchbrenner et al., "A convolutional neural network for modelling sentences", ACL 2014 (k-max pooling).
    """

    def __init__(self, k: int) -> None:
        self.k = whole_number("k", k, 1)

    def __call__(self, inputs: Array) -> Array:
        """Picks the k largest of `(batch, *positions, channels)` per channel."""
        batch, *positions, channels = inputs.shape
        enough_positions(self.k, math.prod(positions))
        rows = jnp.moveaxis(inputs.reshape(batch, math.prod(positions), channels), 1, 2)
        return jnp.moveaxis(lax.top_k(rows, self.k)[0], 2, 1)
