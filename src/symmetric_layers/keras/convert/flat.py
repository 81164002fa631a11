"""Dense layers on flattened maps: convolutions whose kernels are as large as the whole map."""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from symmetric_layers.errors import SymmetryError
from symmetric_layers.inputs import led_out
from symmetric_layers.keras.arranged import Symmetry
from symmetric_layers.keras.bank import expand_kernel
from symmetric_layers.keras.channels import expand_bias, plain, refuse_quantized
from symmetric_layers.keras.initial import Representatives
from symmetric_layers.keras.written import Written
from symmetric_layers.orbits import Plan, plan


@keras.saving.register_keras_serializable(package="symmetric_layers")
class FlatDense(keras.layers.Dense):
    """`Dense` on a flattened map whose channels are orbits: it sees the mirrored map alike, or in orbits of its own.

    A dense layer behind a `Flatten` has a weight for every position of every channel. That is a convolution with a
    kernel as large as the map, so it has the exact form of one, at the one size that it knows.

    Equivalent to: `SymmetricConv2D(units, (height, width), symmetry=symmetry, in_symmetry=in_symmetry)` on the map that
    was flattened, or `InvariantConv2D` where `symmetry` is None, at the only position that there is.

    Law: mirroring the map that is flattened, and exchanging its channels with their mirrors, exchanges the features
    with theirs; where `symmetry` is None it changes nothing.

    Args:
        units: as in the host.
        shape: the sizes of the map in the order in which it is flattened, channels among them: `(7, 7, 512)`.
        axis: which of these are the channels: -1, or 0.
        symmetry: how many features belong to each kind; None: ordinary numbers.
        in_symmetry: how the channels of the map are arranged; None: an ordinary picture.
        others: as in the host.

    Attributes:
        kernel: what the convolution stores, flattened: `(features, plan.stored)`, or where `symmetry` is None
            `(features / size of an orbit, units)`; `bias`: one per orbit, or one per unit.
    """

    plan: Plan | None
    _bank: Plan

    def __init__(
        self,
        units: int,
        *arguments: Any,
        shape: Sequence[int],
        axis: int,
        symmetry: Symmetry,
        in_symmetry: Symmetry,
        **others: Any,
    ) -> None:
        given = plain("symmetry", symmetry), plain("in_symmetry", in_symmetry)
        super().__init__(units, *arguments, **others)
        refuse_quantized(self)
        self.shape, self.axis = tuple(shape), axis
        self.symmetry, self.in_symmetry = given

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Makes the stored numbers."""
        channels, rank = self.shape[self.axis], len(self.shape) - 1
        if math.prod(self.shape) != input_shape[-1]:
            raise SymmetryError(
                f"shape: {self.shape} does not make {input_shape[-1]} features. Expected the sizes of the map that was "
                "flattened, which multiply to these. Pass those."
            )
        self.plan = plan(self.symmetry, self.units, rank, 1, self.in_symmetry, channels) if self.symmetry else None
        self._bank = self.plan or led_out(self.in_symmetry, channels, rank, 1, "keras.layers.Dense")[1]
        super().build(input_shape)

    def add_weight(self, shape: Any = None, initializer: Any = None, *arguments: Any, **others: Any) -> Any:
        """Adds a weight as the host does; what representatives have is stored."""
        name = others.get("name")
        if self.plan is not None and name in ("kernel", "bias"):
            initializer = Representatives(initializer, shape, -1, self.plan)
            shape = (*shape[:-1], self.plan.stored)
        elif name == "kernel":
            drawn = keras.initializers.get("glorot_uniform" if initializer is None else initializer)
            whole, shape = tuple(shape), (shape[0] // self._bank.filters * self._bank.stored, shape[1])

            def initializer(shape: Any, dtype: Any = None) -> Any:
                return self.representatives(drawn(whole, dtype=dtype))

        return super().add_weight(shape, initializer, *arguments, **others)

    def representatives(self, kernel: Any) -> Any:
        """Of all rows those that are stored where features are ordinary."""
        return self.flattened(ops.take(self.as_map(kernel), self._bank.firsts, axis=-2))

    def as_map(self, kernel: Any) -> Any:
        """Rows of weights as the filters of a convolution: `(*positions, channels, columns)`."""
        sizes = list(self.shape)
        positions = math.prod(sizes) // sizes[self.axis]
        sizes[self.axis] = kernel.shape[0] // positions
        return ops.moveaxis(ops.reshape(kernel, [*sizes, kernel.shape[-1]]), self.axis % len(sizes), -2)

    def flattened(self, kernel: Any) -> Any:
        """Filters of a convolution as rows of weights."""
        kernel = ops.moveaxis(kernel, -2, self.axis % len(self.shape))
        return ops.reshape(kernel, [-1, kernel.shape[-1]])

    def full_kernel(self) -> Any:
        """One row per feature of the map, one column per unit: what the host's layer would hold as its `kernel`."""
        stored = self.as_map(ops.convert_to_tensor(self.kernel))
        return self.flattened(expand_kernel(stored, self._bank, self.plan is None))

    def full_bias(self) -> Any:
        """One bias per unit."""
        return expand_bias(self.bias, self.plan) if self.use_bias and self.plan is not None else self.bias

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Weighs a flattened map."""
        call: Any = keras.layers.Dense.call
        return call(Written(self, kernel=self.full_kernel(), bias=self.full_bias()), inputs)

    def get_config(self) -> dict[str, Any]:
        """The host's config, and what was asked for beyond it."""
        asked = {"symmetry": self.symmetry, "in_symmetry": self.in_symmetry}
        more = {name: value and dict(value) for name, value in asked.items()}
        return {**super().get_config(), "shape": list(self.shape), "axis": self.axis, **more}
