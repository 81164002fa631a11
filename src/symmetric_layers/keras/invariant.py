"""The way out of the orbits: convolutions and heads whose answers are ordinary again."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras

from symmetric_layers.inputs import led_out
from symmetric_layers.keras.bank import expand_kernel
from symmetric_layers.keras.channels import act, channel_axis, flip, plain, refuse_quantized, spread
from symmetric_layers.keras.initial import Representatives
from symmetric_layers.keras.running import Convolving, Running, Spreading
from symmetric_layers.keras.written import Written
from symmetric_layers.letters import LETTERS, mirrors
from symmetric_layers.orbits import Plan, plan

if TYPE_CHECKING:
    from keras.layers import Layer as _Host
else:
    _Host = object

_Symmetry = Mapping[str, int | str] | None


class _LeadsOut(_Host):
    """A layer that stores one entry per orbit of its input channels."""

    in_symmetry: dict[str, Any] | None

    def __init__(self, *arguments: Any, in_symmetry: _Symmetry, **others: Any) -> None:
        given = plain("in_symmetry", in_symmetry)
        super().__init__(*arguments, **others)
        if given is not None:
            refuse_quantized(self)
        self.in_symmetry = given

    def get_config(self) -> dict[str, Any]:
        """The host's config, and what was asked for beyond it."""
        given = None if self.in_symmetry is None else dict(self.in_symmetry)
        return {**super().get_config(), "in_symmetry": given}


class _InvariantConv(_LeadsOut, Running):
    _group: Plan  # how the input channels of one group are arranged

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Makes the stored filters, now that the number of input channels is known."""
        channels: Any = input_shape[channel_axis(self.data_format)]
        groups = 1 if self._transposed else self.groups
        host = f"Conv{self.rank}DTranspose" if self._transposed else f"Conv{self.rank}D"
        self.inputs, self._group = led_out(self.in_symmetry, channels, self.rank, groups, f"keras.layers.{host}")
        super().build(input_shape)

    def add_weight(self, shape: Any = None, initializer: Any = None, *arguments: Any, **others: Any) -> Any:
        """Adds a weight as the host does; of filters, one input channel per orbit is stored."""
        if others.get("name") == "kernel":
            axis = -1 if self._transposed else -2
            initializer = Representatives(initializer, shape, axis, self._group)
            shape = list(shape)
            shape[axis] = self._group.stored
        return super().add_weight(shape, initializer, *arguments, **others)

    def full_kernel(self) -> Any:
        """The filters with every number written out: what the host's layer would hold as its `kernel`."""
        return expand_kernel(self.kernel, self._group, not self._transposed)

    def _convolved(self, inputs: Any) -> Any:
        axis, kernel = channel_axis(self.data_format), self.full_kernel()
        (kind,) = self.inputs.kinds
        crooked = mirrors("".join(letter for letter in self._crooked(self._positions(inputs)) if letter in kind))
        answers = [
            flip(self._run(act(inputs, self.inputs, letters, axis), kernel), letters, axis) for letters in crooked
        ]
        return sum(answers[1:], answers[0]) / len(answers) if len(answers) > 1 else answers[0]


@keras.saving.register_keras_serializable(package="symmetric_layers")
class InvariantConv1D(_InvariantConv, Convolving, keras.layers.Conv1D):
    """`Conv1D` whose answer is an ordinary map that mirrors with the picture; `InvariantConv2D` explains it."""


@keras.saving.register_keras_serializable(package="symmetric_layers")
class InvariantConv2D(_InvariantConv, Convolving, keras.layers.Conv2D):
    """`Conv2D` whose answer is an ordinary map that mirrors with the picture: the way out of the orbits.

    The last layer of a network gives logits or a restored picture, no orbits. Its filters see a channel and its mirror
    alike, so only distinct numbers are stored.

    Equivalent to: a `Conv2D` whose `kernel` is `ops.reshape(ops.stack([w, ops.flip(w, 1)], 3), (3, 3, -1, filters))`
    for input channels that are `'h'` orbits; the mean of that over both grids where stride, size and padding do not fit
    together.

    Law: mirroring the input along a letter of its orbits, and exchanging its channels with their mirrors, mirrors the
    output. It holds at every size.

    Args:
        in_symmetry: how the input channels are arranged: the `symmetry` of the layer before. All of one kind.
        others: as in the host. Initializers draw the full filters, of which the representatives are kept.

    Attributes:
        kernel: one filter per input orbit, `(*kernel_size, orbits / groups, filters)`.

    Shape:
        As in the host.

    Raises:
        SymmetryError: when it is built, for an `in_symmetry` that does not fit, or that mixes kinds, or orbits and
            ordinary channels.

    Example:
        >>> head = InvariantConv2D(3, 1, in_symmetry={'hv': 16})
        >>> tuple(head(keras.ops.ones((2, 8, 8, 16))).shape), tuple(head.kernel.shape)
        ((2, 8, 8, 3), (1, 1, 4, 3))

    Source: Cohen and Welling, "Steerable CNNs", ICLR 2017 (maps from a regular to a trivial representation).
    """


@keras.saving.register_keras_serializable(package="symmetric_layers")
class InvariantConv3D(_InvariantConv, Convolving, keras.layers.Conv3D):
    """`Conv3D` whose answer is an ordinary map that mirrors with the picture; `InvariantConv2D` explains it."""


@keras.saving.register_keras_serializable(package="symmetric_layers")
class InvariantConv1DTranspose(_InvariantConv, Spreading, keras.layers.Conv1DTranspose):
    """`Conv1DTranspose` out of the orbits; the 1-D form of `InvariantConv2DTranspose`."""


@keras.saving.register_keras_serializable(package="symmetric_layers")
class InvariantConv2DTranspose(_InvariantConv, Spreading, keras.layers.Conv2DTranspose):
    """`Conv2DTranspose` whose answer is an ordinary map that mirrors with the picture: `InvariantConv2D`, transposed.

    Equivalent to: a `Conv2DTranspose` whose `kernel`, along its last axis, holds each stored filter and its mirrors;
    the mean of that over both grids where more is cut off on one side.

    Law: that of `InvariantConv2D`.

    Attributes:
        kernel: one filter per input orbit, `(*kernel_size, filters, orbits)`.

    Example:
        >>> head = InvariantConv2DTranspose(3, 2, strides=2, in_symmetry={'hv': 16})
        >>> tuple(head(keras.ops.ones((2, 8, 8, 16))).shape), tuple(head.kernel.shape)
        ((2, 16, 16, 3), (2, 2, 3, 4))
    """


@keras.saving.register_keras_serializable(package="symmetric_layers")
class InvariantConv3DTranspose(_InvariantConv, Spreading, keras.layers.Conv3DTranspose):
    """`Conv3DTranspose` out of the orbits; the 3-D form of `InvariantConv2DTranspose`."""


@keras.saving.register_keras_serializable(package="symmetric_layers")
class OrbitDense(_LeadsOut, keras.layers.Dense):
    """`Dense` whose answer ignores the mirror: every channel of an orbit has the same weights.

    After a mean over all positions an orbit holds the same numbers for a picture and its mirror, in another order.
    One weight per orbit is all that an indifferent answer can have.

    Equivalent to: `Dense` on the means over each orbit, times the size of the orbit.

    Law: exchanging the input features with their mirrors changes nothing.

    Args:
        in_symmetry: how the input features are arranged: the `symmetry` of the layer before. None: an ordinary layer.
        others: as in the host. Initializers draw the full kernel, of which the representatives are kept. The host's
            `quantize` leaves this layer as it is (with a message of its own); quantize what `desymmetrize` makes.

    Attributes:
        kernel: one row per orbit and free feature, `(stored, units)`.

    Shape:
        `(..., features)` to `(..., units)`.

    Raises:
        SymmetryError: when it is built, for an `in_symmetry` that does not fit.

    Example:
        >>> head = OrbitDense(10, in_symmetry={'hv': 16})
        >>> tuple(head(keras.ops.ones((2, 16))).shape), tuple(head.kernel.shape)
        ((2, 10), (4, 10))
    """

    plan: Plan

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Makes one row of weights per orbit."""
        features: Any = input_shape[-1]
        bank = plan(None, 1, len(LETTERS), 1, self.in_symmetry, features).inputs
        self.plan = bank or plan(None, features, len(LETTERS))
        super().build(input_shape)

    def add_weight(self, shape: Any = None, initializer: Any = None, *arguments: Any, **others: Any) -> Any:
        """Adds a weight as the host does; of the kernel, one row per orbit is stored."""
        if others.get("name") == "kernel":
            initializer = Representatives(initializer, shape, 0, self.plan)
            shape = (self.plan.stored, *shape[1:])
        return super().add_weight(shape, initializer, *arguments, **others)

    def full_kernel(self) -> Any:
        """One row of weights per feature: what the host's layer would hold as its `kernel`."""
        return spread(self.kernel, self.plan, 0)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Weighs `(..., features)`."""
        call: Any = keras.layers.Dense.call
        return call(Written(self, kernel=self.full_kernel()), inputs)
