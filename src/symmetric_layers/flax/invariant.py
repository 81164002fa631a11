"""The way out of the orbits: convolutions and linear heads whose answers are ordinary again."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax import Array

from symmetric_layers.flax.bank import expand_kernel, stored_kernel
from symmetric_layers.flax.channels import act, flip, plan_of, spread
from symmetric_layers.flax.conv import Sizes, sizes_of
from symmetric_layers.flax.grid import lopsided, lopsided_transposed
from symmetric_layers.flax.initial import KERNEL, Initializer, representatives
from symmetric_layers.flax.written import Values, Written
from symmetric_layers.inputs import led_out
from symmetric_layers.letters import LETTERS, mirrors
from symmetric_layers.orbits import Plan, plan

_Symmetry = Mapping[str, int | str]


class _Invariant(nnx.Module):
    """What all invariant convolutions share: what is stored, and what is derived from it."""

    kernel: nnx.Param
    mask: Any
    inputs: Plan
    group: Plan

    def _remember(self, inputs: Plan, group: Plan) -> None:
        self.inputs, self.group = inputs, group
        self.kernel_shape = self.kernel.shape
        if self.mask is not None:
            stored_kernel(self)  # refuses one that does not fit

    def full_kernel(self) -> Array:
        """The filters with every number written out (and masked): what the host's layer would hold as its `kernel`."""
        return expand_kernel(stored_kernel(self), self.group, turned=not getattr(self, "transpose_kernel", False))

    def _answer(self, host: Callable[[Any, Array], Array], x: Array, crooked: str) -> Array:
        """What the host's call answers to all filters, the mean over both grids along crooked letters."""
        layer = Written(self, kernel=Values(self.full_kernel()), mask=None)
        (kind,) = self.inputs.kinds
        seen = mirrors("".join(letter for letter in crooked if letter in kind))
        answers = [flip(host(layer, act(x, self.inputs, letters)), letters) for letters in seen]
        return sum(answers[1:], answers[0]) / len(answers) if len(answers) > 1 else answers[0]


class InvariantConv(_Invariant, nnx.Conv):
    """`nnx.Conv` whose answer is an ordinary map that mirrors with the picture: the way out of the orbits.

    The last layer of a network gives logits or a restored picture, no orbits. Its filters see a channel and its mirror
    alike, so only distinct numbers are stored.

    Equivalent to: an `nnx.Conv` whose `kernel` is `jnp.stack([w, jnp.flip(w, 1)], -2).reshape(3, 3, -1, out_features)`
    for input channels that are `'h'` orbits; the mean of that over both grids where stride, size and padding do not fit
    together.

    Law: mirroring the input along a letter of its orbits, and exchanging its channels with their mirrors, mirrors the
    output. It holds at every size.

    Args:
        in_symmetry: how the input channels are arranged: the `symmetry` of the layer before. All of one kind.
        others: as in the host. Initializers draw the full filters, of which the representatives are kept. A `mask` has
            the shape of the stored `kernel`.

    Attributes:
        kernel: one filter per input orbit, `(*kernel_size, orbits / groups, out_features)`.

    Shape:
        As in the host.

    Raises:
        SymmetryError: for an `in_symmetry` that does not fit, or that mixes kinds, or orbits and ordinary channels.

    Example:
        >>> head = InvariantConv(16, 3, (1, 1), in_symmetry={'hv': 16}, rngs=nnx.Rngs(0))
        >>> head.kernel.shape, head(jnp.ones((2, 8, 8, 16))).shape
        ((1, 1, 4, 3), (2, 8, 8, 3))

    Source: Cohen and Welling, "Steerable CNNs", ICLR 2017 (maps from a regular to a trivial representation).
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: Sizes,
        strides: int | Sequence[int] | None = 1,
        *,
        feature_group_count: int = 1,
        kernel_init: Initializer = KERNEL,
        in_symmetry: _Symmetry,
        rngs: nnx.Rngs,
        **others: Any,
    ) -> None:
        size = sizes_of(kernel_size)
        inputs, group = led_out(in_symmetry, in_features, len(size), feature_group_count, "nnx.Conv")
        super().__init__(
            in_features,
            out_features,
            size,
            strides,
            feature_group_count=feature_group_count,
            kernel_init=representatives(kernel_init, group, -2),
            rngs=rngs,
            **others,
        )
        self._remember(inputs, group)

    def __call__(self, inputs: Array, *arguments: Any, **others: Any) -> Array:
        """Convolves `(*batch, *positions, in_features)` as the host's layer does."""
        crooked = lopsided(self, inputs.shape[-1 - len(self.kernel_size) : -1])
        return self._answer(lambda layer, x: nnx.Conv.__call__(layer, x, *arguments, **others), inputs, crooked)


class InvariantConvTranspose(_Invariant, nnx.ConvTranspose):
    """`nnx.ConvTranspose` whose answer is an ordinary map that mirrors with the picture: the way out of the orbits.

    The last layer of a decoder. The arguments and the errors are those of `InvariantConv`.

    Equivalent to: an `nnx.ConvTranspose` whose `kernel` holds, along its axis of input channels, each stored filter and
    its mirrors; the mean of that over both grids where more is cut off (or added) on one side than on the other.

    Law: mirroring the input along a letter of its orbits, and exchanging its channels with their mirrors, mirrors the
    output. It holds at every size.

    Attributes:
        kernel: one filter per input orbit, `(*kernel_size, orbits, out_features)`, with `transpose_kernel=True`
            `(*kernel_size, out_features, orbits)`.

    Example:
        >>> head = InvariantConvTranspose(16, 3, (2, 2), 2, in_symmetry={'hv': 16}, rngs=nnx.Rngs(0))
        >>> head.kernel.shape, head(jnp.ones((2, 8, 8, 16))).shape
        ((2, 2, 4, 3), (2, 16, 16, 3))
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: Sizes,
        strides: int | Sequence[int] | None = None,
        *,
        transpose_kernel: bool = False,
        kernel_init: Initializer = KERNEL,
        in_symmetry: _Symmetry,
        rngs: nnx.Rngs,
        **others: Any,
    ) -> None:
        size = sizes_of(kernel_size)
        inputs, group = led_out(in_symmetry, in_features, len(size), 1, "nnx.ConvTranspose")
        super().__init__(
            in_features,
            out_features,
            size,
            strides,
            transpose_kernel=transpose_kernel,
            kernel_init=representatives(kernel_init, group, -1 if transpose_kernel else -2),
            rngs=rngs,
            **others,
        )
        self._remember(inputs, group)

    def __call__(self, inputs: Array) -> Array:
        """Spreads `(*batch, *positions, in_features)` out as the host's layer does."""
        return self._answer(nnx.ConvTranspose.__call__, inputs, lopsided_transposed(self))


class OrbitLinear(nnx.Linear):
    """`nnx.Linear` whose answer ignores the mirror: every channel of an orbit has the same weights.

    After a mean over all positions an orbit holds the same numbers for a picture and its mirror, in another order.
    One weight per orbit is all that an indifferent answer can have.

    Equivalent to: `nnx.Linear` on the means over each orbit, times the size of the orbit.

    Law: exchanging the input channels with their mirrors changes nothing.

    Args:
        in_symmetry: how the input features are arranged: the `symmetry` of the layer before. None: an ordinary layer.
        others: as in the host. Initializers draw the full kernel, of which the representatives are kept.

    Attributes:
        kernel: one row per orbit and free feature, `(stored, out_features)`.

    Shape:
        `(..., in_features)` to `(..., out_features)`.

    Raises:
        SymmetryError: for an `in_symmetry` that does not fit.

    Example:
        >>> head = OrbitLinear(16, 10, in_symmetry={'hv': 16}, rngs=nnx.Rngs(0))
        >>> head.kernel.shape, head(jnp.ones((2, 16))).shape
        ((4, 10), (2, 10))
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        kernel_init: Initializer = KERNEL,
        in_symmetry: _Symmetry | None = None,
        rngs: nnx.Rngs,
        **others: Any,
    ) -> None:
        bank = plan(None, 1, len(LETTERS), 1, in_symmetry, in_features).inputs or plan_of(None, in_features)
        super().__init__(
            in_features, out_features, kernel_init=representatives(kernel_init, bank, -2), rngs=rngs, **others
        )
        self.plan = bank

    def full_kernel(self) -> Array:
        """One row of weights per feature: what the host's layer would hold as its `kernel`."""
        return jnp.swapaxes(spread(jnp.swapaxes(self.kernel[...], -1, -2), self.plan), -1, -2)

    def __call__(self, inputs: Array, *arguments: Any, **others: Any) -> Array:
        """Weighs `(..., in_features)`."""
        layer: Any = Written(self, kernel=Values(self.full_kernel()))
        return nnx.Linear.__call__(layer, inputs, *arguments, **others)
