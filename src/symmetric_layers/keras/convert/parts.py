"""What a converted network needs beside layers: dense layers between orbits, slopes that orbits share."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from symmetric_layers.keras.bank import expand_kernel
from symmetric_layers.keras.channels import expand_bias, plain, spread
from symmetric_layers.keras.initial import Representatives
from symmetric_layers.keras.written import Written
from symmetric_layers.letters import LETTERS
from symmetric_layers.orbits import Plan, plan

_Symmetry = Mapping[str, int | str] | None


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

    def __init__(self, units: int, *arguments: Any, symmetry: _Symmetry, in_symmetry: _Symmetry, **others: Any) -> None:
        given = plain("symmetry", symmetry), plain("in_symmetry", in_symmetry)
        super().__init__(units, *arguments, **others)
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


@keras.saving.register_keras_serializable(package="symmetric_layers")
class OrbitPReLU(keras.layers.PReLU):
    """`PReLU` whose slopes are shared within each orbit of channels, and over all positions.

    Equivalent to: a `PReLU` whose `alpha` is equal within each orbit.

    Law: exchanging channels with their mirrors, before or after, is the same.

    Args:
        symmetry: how the channels are arranged. `shared_axes` leaves the axis of the channels alone.
        others: as in the host.

    Attributes:
        alpha: one slope per orbit and free channel, 1 along all other axes.
    """

    plan: Plan

    def __init__(self, *arguments: Any, symmetry: _Symmetry, **others: Any) -> None:
        given = plain("symmetry", symmetry)
        super().__init__(*arguments, **others)
        self.symmetry = given

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Makes one slope per orbit."""
        shared = {axis % len(input_shape) for axis in self.shared_axes or []}
        (self._axis,) = (axis for axis in range(1, len(input_shape)) if axis not in shared)
        channels: Any = input_shape[self._axis]
        self.plan = plan(self.symmetry, channels, len(LETTERS))
        super().build(input_shape)

    def add_weight(self, shape: Any = None, initializer: Any = None, *arguments: Any, **others: Any) -> Any:
        """Adds a weight as the host does; of slopes, those of representatives are stored."""
        initializer = Representatives(initializer, shape, self._axis - 1, self.plan)
        shape = [self.plan.stored if axis == self._axis - 1 else size for axis, size in enumerate(shape)]
        return super().add_weight(shape, initializer, *arguments, **others)

    def call(self, inputs: Any) -> Any:
        """Bends negative values."""
        call: Any = keras.layers.PReLU.call
        full = spread(ops.convert_to_tensor(self.alpha), self.plan, self._axis - 1)
        return call(Written(self, alpha=full), inputs)

    def get_config(self) -> dict[str, Any]:
        """The host's config, and what was asked for beyond it."""
        return {**super().get_config(), "symmetry": self.symmetry and dict(self.symmetry)}
