"""What a converted network needs beside layers: dense layers between orbits, slopes that orbits share."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from symmetric_layers.keras.arranged import Arranged, Symmetry
from symmetric_layers.keras.bank import expand_kernel
from symmetric_layers.keras.channels import expand_bias, plain, refuse_quantized, spread
from symmetric_layers.keras.conv import SymmetricConv1D, SymmetricConv2D, SymmetricConv3D
from symmetric_layers.keras.convert.config import config_of
from symmetric_layers.keras.initial import Representatives
from symmetric_layers.keras.running import Running
from symmetric_layers.keras.written import Written
from symmetric_layers.letters import LETTERS, letters_where
from symmetric_layers.orbits import Plan, plan


@keras.saving.register_keras_serializable(package="symmetric_layers")
class SymmetricDense(keras.layers.Dense):
    """`Dense` whose features are orbits: a 1x1 `SymmetricConv` for features that stand last, or alone.

    Equivalent to: a `Dense` with the full kernel of `SymmetricConv3D(units, 1, ...)`.

    Law: exchanging the input features with their mirrors exchanges the output features.

    Args:
        units: as in the host.
        symmetry: how many features belong to each kind.
        in_symmetry: how the input features are arranged; None: plain numbers, which know no mirror.
        others: as in the host.

    Attributes:
        kernel: the stored columns, `(features, plan.stored)`; `bias`: one per orbit.
    """

    plan: Plan

    def __init__(self, units: int, *arguments: Any, symmetry: Symmetry, in_symmetry: Symmetry, **others: Any) -> None:
        given = plain("symmetry", symmetry), plain("in_symmetry", in_symmetry)
        super().__init__(units, *arguments, **others)
        refuse_quantized(self)
        self.symmetry, self.in_symmetry = given

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Makes the stored columns."""
        features: Any = input_shape[-1]
        self.plan = plan(self.symmetry, self.units, len(LETTERS), 1, self.in_symmetry, features)
        super().build(input_shape)

    def add_weight(self, shape: Any = None, initializer: Any = None, *arguments: Any, **others: Any) -> Any:
        """Adds a weight as the host does; of columns and biases, those of representatives are stored."""
        if others.get("name") in ("kernel", "bias"):
            initializer = Representatives(initializer, shape, -1, self.plan)
            shape = (*shape[:-1], self.plan.stored)
        return super().add_weight(shape, initializer, *arguments, **others)

    def full_kernel(self) -> Any:
        """One column per feature: what the host's layer would hold as its `kernel`."""
        stored = ops.reshape(ops.convert_to_tensor(self.kernel), [*[1] * len(LETTERS), *self.kernel.shape])
        full = expand_kernel(stored, self.plan)
        return ops.reshape(full, full.shape[-2:])

    def full_bias(self) -> Any:
        """One bias per feature."""
        return expand_bias(self.bias, self.plan) if self.use_bias else self.bias

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Weighs `(..., features)`."""
        call: Any = keras.layers.Dense.call
        return call(Written(self, kernel=self.full_kernel(), bias=self.full_bias()), inputs)

    def get_config(self) -> dict[str, Any]:
        """The host's config, and what was asked for beyond it."""
        asked = {"symmetry": self.symmetry, "in_symmetry": self.in_symmetry}
        return {**super().get_config(), **{name: value and dict(value) for name, value in asked.items()}}


class _Padded(Running):
    """A symmetric convolution that pads by itself, one side more than the other, as its mirrors do in the mirror."""

    pads: tuple[tuple[int, int], ...]

    def __init__(self, *arguments: Any, pads: Sequence[Sequence[int]], **others: Any) -> None:
        super().__init__(*arguments, **others)
        self.pads = tuple((int(before), int(after)) for before, after in pads)

    def _run(self, inputs: Any, kernel: Any) -> Any:
        pads = [(0, 0), *self.pads]
        pads.insert(len(pads) if self.data_format == "channels_last" else 1, (0, 0))
        return super()._run(ops.pad(inputs, pads), kernel)

    def _crooked(self, sizes: Sequence[int | None]) -> str:
        padded = [size and size + before + after for size, (before, after) in zip(sizes, self.pads, strict=True)]
        here = letters_where(before != after for before, after in self.pads)
        own = super()._crooked(padded)
        return "".join(letter for letter in LETTERS if letter in here + own)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> Any:
        """What the host gives for padded pictures."""
        shape = list(input_shape)
        first = 1 if self.data_format == "channels_last" else 2
        for axis, (before, after) in enumerate(self.pads, first):
            size = shape[axis]
            shape[axis] = None if size is None else size + before + after
        return super().compute_output_shape(tuple(shape))

    def get_config(self) -> dict[str, Any]:
        """The host's config, and what was asked for beyond it."""
        return {**super().get_config(), "pads": [list(pair) for pair in self.pads]}


@keras.saving.register_keras_serializable(package="symmetric_layers")
class PaddedSymmetricConv1D(_Padded, SymmetricConv1D):
    """`SymmetricConv1D` behind a `ZeroPadding1D`, as one layer."""


@keras.saving.register_keras_serializable(package="symmetric_layers")
class PaddedSymmetricConv2D(_Padded, SymmetricConv2D):
    """`SymmetricConv2D` behind a `ZeroPadding2D`, as one layer: mirrors see the picture padded in the mirror.

    Networks for TensorFlow pad even pictures by one row and one column on one side before a convolution of stride 2.

    Equivalent to: `SymmetricConv2D(..., padding='valid')` on `ZeroPadding2D(pads)(x)`, for mirrors seen in the mirror.

    Law: that of `SymmetricConv2D` with `grid='mirrored'`: at every size.

    Args:
        pads: rows and columns of zeros, before and after, along each axis.
        others: as in `SymmetricConv2D`.
    """


@keras.saving.register_keras_serializable(package="symmetric_layers")
class PaddedSymmetricConv3D(_Padded, SymmetricConv3D):
    """`SymmetricConv3D` behind a `ZeroPadding3D`, as one layer."""


@keras.saving.register_keras_serializable(package="symmetric_layers")
class OrbitPReLU(Arranged, keras.layers.PReLU):
    """`PReLU` whose slopes are shared within each orbit of channels, and over all positions.

    Equivalent to: a `PReLU` whose `alpha` is equal within each orbit.

    Law: exchanging channels with their mirrors, before or after, is the same.

    Args:
        symmetry: how the channels are arranged. `shared_axes` leaves the axis of the channels alone.
        others: as in the host.

    Attributes:
        alpha: one slope per orbit and free channel, 1 along all other axes.
    """

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Makes one slope per orbit."""
        shared = {axis % len(input_shape) for axis in self.shared_axes or []}
        own = [axis for axis in range(1, len(input_shape)) if axis not in shared]
        self._axis = next((axis for axis in own if input_shape[axis] != 1), own[-1])
        self._arrange(input_shape, self._axis)
        super().build(input_shape)

    def add_weight(self, shape: Any = None, initializer: Any = None, *arguments: Any, **others: Any) -> Any:
        """Adds a weight as the host does; of slopes, those of representatives are stored."""
        initializer = Representatives(initializer, shape, self._axis - 1, self.plan)
        shape = [self.plan.stored if axis == self._axis - 1 else size for axis, size in enumerate(shape)]
        return super().add_weight(shape, initializer, *arguments, **others)

    def call(self, inputs: Any) -> Any:
        """Bends negative values."""
        call: Any = keras.layers.PReLU.call
        full = spread(self.alpha, self.plan, self._axis - 1)
        return call(Written(self, alpha=full), inputs)


@keras.saving.register_keras_serializable(package="symmetric_layers")
class OrbitShared(Arranged, keras.layers.Wrapper):
    """A layer of somebody's own whose numbers for each channel are shared within orbits: the layer scale of a ConvNeXt.

    Equivalent to: the layer, with weights that are equal within each orbit.

    Law: exchanging channels with their mirrors, before or after, is the same, where the layer treats channels alike but
    for these numbers.

    Args:
        layer: a layer whose weights have the size of the channels along one axis, and 1 along all others. Its `call` is
            what it is; only its weights are stored here.
        symmetry: how the channels are arranged.

    Attributes:
        stored: by the names of the layer's attributes, one number per orbit and free channel.
    """

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Makes one number per orbit, from how the layer makes its own."""
        model = type(self.layer).from_config(config_of(self.layer))
        model.build(input_shape)
        own = {name: value for name, value in vars(model).items() if isinstance(value, keras.Variable)}
        channels = max((size for value in own.values() for size in value.shape), default=1)
        self.plan = plan(self.symmetry, channels, len(LETTERS))
        self.stored = {name: self._shared(name, value) for name, value in own.items()}
        self.built = True

    def _shared(self, name: str, value: Any) -> Any:
        drawn = ops.convert_to_numpy(value)
        axis = long_axis(value)
        drawn = drawn if axis is None else drawn.take(self.plan.firsts, axis)
        return self.add_weight(
            drawn.shape, lambda shape, dtype=None: ops.cast(drawn, dtype), trainable=value.trainable, name=name
        )

    def call(self, inputs: Any) -> Any:
        """Calls the layer with one number for each channel."""
        call: Any = type(self.layer).call
        return call(Written(self.layer, **self.full()), inputs)

    def full(self) -> dict[str, Any]:
        """What the layer itself would hold: one number for each channel."""
        full = {}
        for name, value in self.stored.items():
            axis = long_axis(value)
            full[name] = value if axis is None else spread(value, self.plan, axis)
        return full

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> Any:
        """That of the input."""
        return tuple(input_shape)


def long_axis(weight: Any) -> int | None:
    """The axis along which a weight has numbers for each channel; None where it has one number."""
    return next((axis for axis, size in enumerate(weight.shape) if size > 1), None)
