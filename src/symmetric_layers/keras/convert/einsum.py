"""Dense layers that are written as sums of products, between orbits."""

from typing import Any

import keras
from keras import ops

from symmetric_layers.keras.arranged import Symmetry
from symmetric_layers.keras.bank import expand_kernel
from symmetric_layers.keras.channels import plain, refuse_quantized, spread
from symmetric_layers.keras.convert.config import config_of
from symmetric_layers.keras.convert.made import Made, first_of_orbits, made_of, numbers_of
from symmetric_layers.keras.convert.multiply import Sums
from symmetric_layers.keras.initial import Representatives
from symmetric_layers.keras.written import Written
from symmetric_layers.letters import LETTERS
from symmetric_layers.orbits import Plan, plan
from symmetric_layers.start import Start


@keras.saving.register_keras_serializable(package="symmetric_layers")
class OrbitEinsumDense(keras.layers.EinsumDense):
    """`EinsumDense` whose features are orbits, or that leads out of them: `SymmetricDense` and `OrbitDense` in one.

    The heads of an attention are further axes of its features. Each of them holds whole orbits.

    Equivalent to: an `EinsumDense` with `full_kernel()` and `full_bias()`.

    Law: exchanging the input features with their mirrors exchanges the output features with theirs; where `symmetry` is
    None it changes nothing.

    Args:
        letters: the axis of the input features and that of the output features, as the equation has them: `'cd'` in
            `'...c,cd->...d'`. A dot for one that there is not.
        symmetry: how many output features belong to each kind; None: ordinary numbers.
        in_symmetry: how the input features are arranged; None: ordinary numbers.
        others: as in the host.

    Attributes:
        kernel: that of the host with one entry per orbit, of output features, or where `symmetry` is None of input
            features; `bias`: one per orbit of output features.
    """

    plan: Plan

    def __init__(self, *arguments: Any, letters: str, symmetry: Symmetry, in_symmetry: Symmetry, **others: Any) -> None:
        given = plain("symmetry", symmetry), plain("in_symmetry", in_symmetry)
        super().__init__(*arguments, **others)
        refuse_quantized(self)
        self.letters, (self.symmetry, self.in_symmetry) = letters, given
        self._sums = Sums.of(self.equation, letters)

    def build(self, input_shape: Any) -> None:
        """Makes the stored numbers."""
        features = input_shape[self._sums.read] if self._sums.read is not None else 1
        if self.symmetry:
            units = self.partial_output_shape[self._sums.made]
            self.plan = plan(self.symmetry, units, len(LETTERS), 1, self.in_symmetry, features)
        else:
            bank = plan(None, 1, len(LETTERS), 1, self.in_symmetry, features).inputs
            self.plan = bank or plan(None, features, len(LETTERS))
        super().build(input_shape)

    def add_weight(self, shape: Any = None, initializer: Any = None, *arguments: Any, **others: Any) -> Any:
        """Adds a weight as the host does; what representatives have is stored."""
        axis = {"kernel": self.stored_axis, "bias": self._bias_axis(shape)}.get(others.get("name", ""))
        if axis is not None and self.plan.orbits:
            initializer = Representatives(initializer, shape, axis, self.plan)
            shape = [self.plan.stored if place == axis else size for place, size in enumerate(shape)]
        return super().add_weight(tuple(shape), initializer, *arguments, **others)

    @property
    def stored_axis(self) -> int | None:
        """The axis of the kernel along which entries of representatives are stored."""
        return self._sums.columns if self.symmetry else self._sums.rows

    def _bias_axis(self, shape: Any) -> int | None:
        """The axis of a bias that counts orbits."""
        if not self.symmetry or self.letters[1] not in (self.bias_axes or ""):
            return None
        return len(shape) + self._sums.made

    def full_kernel(self) -> Any:
        """What the host's layer would hold as its `kernel`."""
        axis = self.stored_axis
        if axis is None or not self.plan.orbits:
            return self.kernel
        if self.plan.inputs is None:
            return spread(self.kernel, self.plan, axis)
        places = (self._sums.rows, axis)
        moved = ops.moveaxis(ops.convert_to_tensor(self.kernel), places, (-2, -1))
        full = expand_kernel(ops.reshape(moved, [*[1] * len(LETTERS), *moved.shape]), self.plan)
        return ops.moveaxis(ops.reshape(full, full.shape[len(LETTERS) :]), (-2, -1), places)

    def full_bias(self) -> Any:
        """What the host's layer would hold as its `bias`."""
        axis = None if self.bias is None else self._bias_axis(self.bias.shape)
        return self.bias if axis is None else spread(self.bias, self.plan, axis)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Sums products with the full kernel."""
        call: Any = keras.layers.EinsumDense.call
        return call(Written(self, kernel=self.full_kernel(), bias=self.full_bias()), inputs)

    def get_config(self) -> dict[str, Any]:
        """The host's config, and what was asked for beyond it."""
        asked = {"symmetry": self.symmetry, "in_symmetry": self.in_symmetry}
        written = {name: value and dict(value) for name, value in asked.items()}
        return {**super().get_config(), "letters": self.letters, **written}

    def take(self, old: Any, start: Start) -> None:
        """Starts from the numbers of the host's layer."""
        if start.is_fresh:
            return
        self._kernel.assign(self._of_orbits(numbers_of(old.kernel), start))
        if old.bias is not None:
            bias, axis = numbers_of(old.bias), self._bias_axis(old.bias.shape)
            self.bias.assign(bias if axis is None or start.average else bias.take(self.plan.firsts, axis))

    def _of_orbits(self, kernel: Any, start: Start) -> Any:
        rows, axis = self._sums.rows, self.stored_axis
        if not start.average:
            return kernel if axis is None else kernel.take(self.plan.firsts, axis)
        if not self.in_symmetry or rows is None:
            return kernel
        return first_of_orbits(kernel, rows, start) if self.symmetry else kernel / start.size


def einsum_dense(old: Any, letters: str, inputs: Symmetry, outputs: Symmetry, start: Start) -> Made:
    """A dense layer between orbits, or one that leads out of them."""
    shape = list(old.partial_output_shape)
    if outputs is not None:
        made = Sums.of(old.equation, letters).made
        shape[made] = start.wide(shape[made])
    asked = {"output_shape": shape, "letters": letters, "symmetry": outputs, "in_symmetry": inputs}
    new = made_of(OrbitEinsumDense, {**config_of(old), **asked})
    return new, lambda: new.take(old, start)
