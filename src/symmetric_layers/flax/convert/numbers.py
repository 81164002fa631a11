"""Exchanging the numbers of variables without losing anything: what shares a variable goes on sharing it."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from symmetric_layers.errors import SymmetryError


class Numbers:
    """New numbers for variables, which are put into them together: what is asked first reads what was there before."""

    def __init__(self, rngs: nnx.Rngs | None = None) -> None:
        self._rngs = rngs
        self._kept: dict[int, tuple[Any, Any, Any]] = {}
        self._then: list[Callable[[], Any]] = []

    def keep(self, variable: Any, axis: int, firsts: Sequence[int]) -> None:
        """Keeps the entries of representatives, along an axis that is counted from the end."""
        self._change(variable, (axis, tuple(firsts)), lambda values: taken(values, firsts, axis))

    def lead(self, variable: Any, axis: int, size: int) -> None:
        """Filters that read the first member of each orbit of so many, and nothing of the others."""
        self._change(variable, ("first", axis, size), lambda values: _first_of_orbits(values, axis, size))

    def share(self, variable: Any, count: int) -> None:
        """Divides by a number of members."""
        self._change(variable, ("shared", count), lambda values: values / count)

    def draw(
        self,
        variable: Any,
        shape: Sequence[int],
        axis: int | None = None,
        members: int = 1,
        flat: Sequence[int] | None = None,
    ) -> None:
        """Draws other numbers, as the host does by itself: filters that stand on an axis, else zeros.

        Filters of which one is stored for so many inputs have the variance of those that are written out; those of
        several heads are drawn in a row.
        """

        def drawn(values: Any) -> Any:
            if isinstance(values, jax.ShapeDtypeStruct):
                return jax.ShapeDtypeStruct(tuple(shape), values.dtype)
            if axis is None or self._rngs is None:
                return jnp.zeros(shape, values.dtype)
            draw = nnx.initializers.lecun_normal(*(-1, -2) if axis == -2 else (-2, -1))
            drawn = draw(self._rngs.params(), tuple(flat or shape), values.dtype)
            return drawn.reshape(shape) / math.sqrt(members)

        self._change(variable, ("drawn", tuple(shape)), drawn)

    def _change(self, variable: Any, how: Any, make: Callable[[Any], Any]) -> None:
        if variable is not None:
            if id(variable) not in self._kept:
                self._kept[id(variable)] = variable, make(variable.get_value()), how
            self._agree(self._kept[id(variable)][2] == how)

    def put(self, variable: Any, values: Any) -> None:
        """Puts these numbers in the place of those that a variable has."""
        if variable is not None and values is not None:
            known = self._kept.setdefault(id(variable), (variable, values, None))
            self._agree(known[1] is values or (known[1].shape == values.shape and bool((known[1] == values).all())))

    def then(self, step: Callable[[], Any]) -> None:
        """What is to be done when the new numbers are there."""
        self._then.append(step)

    def apply(self) -> None:
        """Changes all of them."""
        for variable, values, _ in self._kept.values():
            variable.set_value(values)
        for step in self._then:
            step()

    def _agree(self, alike: bool) -> None:
        if not alike:
            raise SymmetryError(
                "model: layers that share a variable read it in different ways. Expected layers that are converted "
                "alike. Give each its own variable, or leave them out of what is converted."
            )


def _first_of_orbits(values: Any, axis: int, size: int) -> Any:
    def spread(array: Any) -> Any:
        shape = list(array.shape)
        shape[axis] *= size
        place = tuple([slice(None)] * (array.ndim + axis) + [slice(None, None, size)])
        return jnp.zeros(shape, array.dtype).at[place].set(array)

    return jax.eval_shape(spread, values) if isinstance(values, jax.ShapeDtypeStruct) else spread(values)


def taken(values: Any, places: Sequence[int], axis: int) -> Any:
    """Some entries along an axis; of numbers on one device without a compiler, which would look at every shape."""
    index = np.array(places, int)
    if isinstance(values, jax.ShapeDtypeStruct):
        return jax.eval_shape(lambda array: jnp.take(array, index, axis), values)
    if isinstance(values, np.ndarray):
        return values.take(index, axis)
    if isinstance(values, jax.core.Tracer) or len(values.devices()) > 1:
        return jnp.take(values, index, axis)
    (device,) = values.devices()
    return jax.device_put(np.asarray(values).take(index, axis), device)
