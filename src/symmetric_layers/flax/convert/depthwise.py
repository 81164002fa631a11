"""Convolutions that filter every channel by itself: with several filters for each, and between ordinary channels."""

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax import Array

from symmetric_layers.flax.bank import stored_kernel
from symmetric_layers.flax.channels import flip, unfold
from symmetric_layers.flax.conv import SymmetricConv
from symmetric_layers.flax.grid import lopsided
from symmetric_layers.flax.written import Values, Written
from symmetric_layers.letters import axes, mirrors


class MultipliedConv(SymmetricConv):
    """A depthwise `SymmetricConv` with several filters for each channel of orbits: `equivariant` makes it.

    The filters of a channel and those of its mirror are mirrors of each other. So that these stand side by side, all
    that a whole orbit has answered with its first filters comes before what it answers with its second ones.

    Equivalent to: a `SymmetricConv` with as many groups as filters, on pictures in which every orbit of channels stands
    several times.

    Law: that of `SymmetricConv`.

    Attributes:
        times: how many filters there are for each channel.
    """

    times: int

    def __call__(self, inputs: Array, *arguments: Any, **others: Any) -> Array:
        """Convolves `(*batch, *positions, channels)`."""
        return super().__call__(self._repeated(inputs), *arguments, **others)

    def grouped_kernel(self) -> Array:
        """The filters of an ordinary layer with a group for each orbit, which leaves out the others of its channels."""
        full, size = self.full_kernel(), self.plan.blocks[0].size
        return full * jnp.tile(jnp.eye(size, dtype=full.dtype), full.shape[-1] // size)

    def _repeated(self, x: Array) -> Array:
        """Every orbit of channels several times; other channels than those the host refuses in its own words."""
        size = self.plan.blocks[0].size
        if x.shape[-1] % size:
            return x
        orbits = jnp.repeat(unfold(x, -1, [x.shape[-1] // size, size]), self.times, -2)
        return orbits.reshape(*x.shape[:-1], x.shape[-1] * self.times)


class PalindromeConv(nnx.Conv):
    """A depthwise `nnx.Conv` whose filters are their own mirror images: `equivariant` makes it.

    Where every channel is filtered by itself and channels are ordinary, a filter has no mirror beside it.

    Equivalent to: an `nnx.Conv` with `full_kernel()`; where stride, size and padding do not fit together, the mean of
    that over both grids.

    Law: mirroring the input mirrors the output, at every size.

    Attributes:
        kernel: as in the host; computed with is the mean of each filter and its mirrors.
        kind: along which letters that is.
    """

    kind: str

    def full_kernel(self) -> Array:
        """The filters that are their own mirror images: what the host's layer would hold as its `kernel`."""
        stored = stored_kernel(self)
        seen = [jnp.flip(stored, [axis - 2 for axis in axes(letters)]) for letters in mirrors(self.kind)]
        return sum(seen[1:], seen[0]) / len(seen)

    def __call__(self, inputs: Array, *arguments: Any, **others: Any) -> Array:
        """Convolves `(*batch, *positions, in_features)` as the host's layer does."""
        layer: Any = Written(self, kernel=Values(self.full_kernel()), mask=None)
        crooked = lopsided(self, inputs.shape[-1 - len(self.kernel_size) : -1])
        seen = mirrors("".join(letter for letter in self.kind if letter in crooked))
        answers = [flip(nnx.Conv.__call__(layer, flip(inputs, one), *arguments, **others), one) for one in seen]
        return sum(answers[1:], answers[0]) / len(answers) if len(answers) > 1 else answers[0]
