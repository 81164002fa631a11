"""How what is stored starts: as the representatives of a full bank that the host's initializer has drawn."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import nnx

from symmetric_layers.orbits import Plan

Initializer = Callable[..., Any]
KERNEL: Initializer = nnx.initializers.lecun_normal()  # what the host's layers start with
ONES: Initializer = nnx.initializers.ones_init()
ZEROS: Initializer = nnx.initializers.zeros_init()


def representatives(initializer: Initializer, bank: Plan, axis: int) -> Initializer:
    """Draws the full bank as the host's layer does, and keeps the representatives: their variance is the host's."""
    if not bank.orbits:
        return initializer
    first = jnp.array(bank.firsts)

    def draw(*arguments: Any) -> Any:
        drawn = initializer(*arguments)
        if isinstance(drawn, nnx.VariableMetadata):  # what `nnx.with_partitioning` makes of an initializer
            return dataclasses.replace(drawn, raw_value=jnp.take(drawn.raw_value, first, axis))
        return jnp.take(drawn, first, axis)

    return draw
