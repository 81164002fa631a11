"""What a converted network needs beside layers: linear layers between orbits, numbers that orbits share."""

import copy
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from symmetric_layers.errors import SymmetryError
from symmetric_layers.flax.bank import expand_kernel
from symmetric_layers.flax.channels import plan_of, spread
from symmetric_layers.flax.convert.numbers import taken
from symmetric_layers.flax.initial import KERNEL, ZEROS, Initializer, representatives
from symmetric_layers.flax.written import written_out
from symmetric_layers.letters import LETTERS
from symmetric_layers.orbits import Plan, plan

_Symmetry = Mapping[str, int | str] | None


class SymmetricLinear(nnx.Linear):
    """`nnx.Linear` whose features are orbits: a 1x1 `SymmetricConv` for features that stand last, or alone.

    Equivalent to: an `nnx.Linear` with the full kernel of `SymmetricConv(in_features, out_features, (1, 1, 1), ...)`.

    Law: exchanging the input features with their mirrors exchanges the output features.

    Args:
        symmetry: how many features belong to each kind.
        in_symmetry: how the input features are arranged; None: plain numbers, which know no mirror.
        others: as in the host.

    Attributes:
        kernel: the stored columns, `(in_features, plan.stored)`; `bias`: one per orbit.

    Raises:
        SymmetryError: for a symmetry that does not fit.

    Example:
        >>> layer = SymmetricLinear(8, 16, symmetry={'h': 16}, in_symmetry={'h': 8}, rngs=nnx.Rngs(0))
        >>> layer.kernel.shape, layer(jnp.ones((2, 8))).shape
        ((8, 8), (2, 16))
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        kernel_init: Initializer = KERNEL,
        bias_init: Initializer = ZEROS,
        symmetry: _Symmetry,
        in_symmetry: _Symmetry = None,
        rngs: nnx.Rngs,
        **others: Any,
    ) -> None:
        bank = plan(symmetry, out_features, len(LETTERS), 1, in_symmetry, in_features)
        starts: Any = {
            "kernel_init": representatives(kernel_init, bank, -1),
            "bias_init": representatives(bias_init, bank, -1),
        }
        super().__init__(in_features, out_features, rngs=rngs, **starts, **others)
        self.plan = bank

    def full_kernel(self) -> Array:
        """One column per feature: what the host's layer would hold as its `kernel`."""
        stored = self.kernel[...]
        full = expand_kernel(stored.reshape(*[1] * len(LETTERS), *stored.shape), self.plan)
        return full.reshape(full.shape[-2:])

    def full_bias(self) -> Array | None:
        """One bias per feature, None where the layer has none."""
        return None if self.bias is None else spread(self.bias[...], self.plan)

    def __call__(self, inputs: Array, *arguments: Any, **others: Any) -> Array:
        """Weighs `(..., in_features)`."""
        return nnx.Linear.__call__(written_out(self), inputs, *arguments, **others)


class OrbitParam(nnx.Param[Array]):
    """`nnx.Param` with one number for each channel, of which orbits share one: for slopes, scales and the like.

    What is stored, trained and saved are the numbers of the representatives (`get_value()`, as hosts ask). Whoever
    computes with it, by `param[...]`, by operators or by `jnp` functions, gets one for each channel. Of what is written
    to it, the numbers of representatives are kept.

    Equivalent to: an `nnx.Param` whose numbers are equal within each orbit.

    Args:
        value: the stored numbers, along `dim` one for each orbit and free channel.
        symmetry: how the channels are arranged, as pairs of kinds and numbers of channels.
        channels: how many channels there are.
        dim: the axis that they stand on, counted from the end.

    Example:
        >>> scale = OrbitParam(jnp.array([1.0, 2.0]), symmetry=(('h', 4),), channels=4)
        >>> (scale * jnp.ones(4)).tolist(), scale.get_value().shape
        ([1.0, 1.0, 2.0, 2.0], (2,))
    """

    __slots__ = ()

    def __init__(
        self, value: Array, *, symmetry: tuple[tuple[str, int], ...], channels: int, dim: int = -1, **others: Any
    ) -> None:
        super().__init__(value, symmetry=symmetry, channels=channels, dim=dim, **others)

    def full(self) -> Any:
        """One number for each channel."""
        stored, known = self.get_value(), self.get_metadata()
        if not isinstance(stored, (jax.Array, np.ndarray)):
            return stored  # shapes, shardings and the like in the place of numbers
        return jnp.moveaxis(spread(jnp.moveaxis(stored, known["dim"], -1), self._bank()), -1, known["dim"])

    def set_value(self, value: Any, **how: Any) -> None:
        """Stores the numbers of representatives, out of one for each channel or out of those alone."""
        if "index" in how:
            self[how["index"]] = value
        else:
            super().set_value(self._reduced(value))

    def replace(self, *value: Any, **others: Any) -> Any:
        """A variable with other numbers, or other metadata."""
        return super().replace(*map(self._reduced, value), **others)

    def _reduced(self, value: Any) -> Any:
        """The numbers of representatives."""
        shape, dim, bank = getattr(value, "shape", ()), self.get_metadata()["dim"], self._bank()
        if not shape or shape[dim] == bank.stored:
            return value
        if shape[dim] != bank.filters:
            kinds = dict(self.get_metadata()["symmetry"])
            raise SymmetryError(
                f"value: {shape[dim]} numbers do not fit {bank.filters} channels of {kinds}. "
                f"Expected one for each channel, or {bank.stored} for the representatives. Pass so many."
            )
        return taken(value, bank.firsts, dim)

    def _bank(self) -> Plan:
        known: Any = self.get_metadata()
        return plan_of(dict(known["symmetry"]), known["channels"])

    def __getitem__(self, key: Any) -> Any:
        return self.full()[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        self.set_value(jnp.asarray(self.full()).at[key].set(value))

    def __jax_array__(self) -> Any:
        return self.full()

    def __array__(self, *arguments: Any, **others: Any) -> Any:
        return np.asarray(self.full(), *arguments, **others)

    def __getattr__(self, name: str) -> Any:
        return super().__getattr__(name) if name in self.get_metadata() else getattr(self.full(), name)

    def __deepcopy__(self, memo: Any) -> Any:
        """A variable of its own; without this the full numbers would be asked for a copy, and become what is stored."""
        return jax.tree.map(lambda stored: copy.deepcopy(stored, memo), self)

    @property
    def shape(self) -> tuple[int, ...]:
        """That of one number for each channel."""
        return tuple(self.full().shape)

    @property
    def value(self) -> Any:
        """One number for each channel."""
        return self.full()

    @value.setter
    def value(self, value: Any) -> None:
        """Stores the numbers of representatives."""
        self.set_value(value)


def _computed(name: str) -> Any:
    """An operator that computes with one number for each channel."""

    def operator(self: Any, *others: Any) -> Any:
        seen = [other[...] if isinstance(other, nnx.Variable) else other for other in others]
        return getattr(self.full(), name)(*seen)

    return operator


_BINARY = ("add", "sub", "mul", "matmul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor", "lshift", "rshift")
_OTHERS = ("neg", "pos", "abs", "invert", "round", "lt", "le", "gt", "ge", "eq", "ne", "len", "iter", "contains")
for _name in (*_BINARY, *[f"r{name}" for name in _BINARY], *_OTHERS):
    setattr(OrbitParam, f"__{_name}__", _computed(f"__{_name}__"))
