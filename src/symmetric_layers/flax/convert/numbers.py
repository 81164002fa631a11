"""Exchanging the numbers of variables without losing anything: what shares a variable goes on sharing it."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from symmetric_layers.errors import SymmetryError


class Numbers:
    """Changes the numbers of variables, each once, however many layers have it."""

    def __init__(self) -> None:
        self._done: dict[int, tuple[Any, Any]] = {}

    def keep(self, variable: Any, axis: int, firsts: Sequence[int]) -> None:
        """Keeps the entries of representatives, along an axis that is counted from the end."""
        self.change(variable, (axis, tuple(firsts)), lambda old: taken(old, firsts, axis))

    def change(self, variable: Any, how: Any, new: Callable[[Array], Array]) -> None:
        """Gives a variable the numbers that are made of the ones it has; `how` tells one change from another."""
        if variable is None:
            return
        if id(variable) not in self._done:
            self._done[id(variable)] = variable, how  # which keeps it alive, and its id its own
            variable.set_value(new(variable.get_value()))
        elif self._done[id(variable)][1] != how:
            raise SymmetryError(
                "model: layers that share a variable read it in different ways. Expected layers that are converted "
                "alike. Give each its own variable, or keep them ordinary with keep."
            )


def taken(values: Array, places: Sequence[int], axis: int) -> Array:
    """Some entries along an axis; of numbers on one device without a compiler, which would look at every shape."""
    devices = list(values.devices())
    if len(devices) > 1:
        return jnp.take(values, jnp.array(places, int), axis)
    return jax.device_put(np.asarray(values).take(list(places), axis), devices[0])
