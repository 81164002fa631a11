"""Exchanging the numbers of variables without losing anything: what shares a variable goes on sharing it."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from symmetric_layers.errors import SymmetryError


class Numbers:
    """New numbers for variables, which are put into them together: what is asked first reads what was there before."""

    def __init__(self) -> None:
        self._kept: dict[int, tuple[Any, Any, Any]] = {}
        self._then: list[Callable[[], Any]] = []

    def keep(self, variable: Any, axis: int, firsts: Sequence[int]) -> None:
        """Keeps the entries of representatives, along an axis that is counted from the end."""
        if variable is not None:
            how = axis, tuple(firsts)
            known = self._kept.setdefault(id(variable), (variable, taken(variable.get_value(), firsts, axis), how))
            self._agree(known[2] == how)

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
