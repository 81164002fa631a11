"""Functions that a model calls between its layers: whether they look alike in the mirror, found by trying."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from symmetric_layers.flax.channels import flip
from symmetric_layers.letters import orbit_size

Function = Callable[[Array], Any]

CLOSE = 1e-5  # relative: functions are tried in float32


@dataclass
class Calls:
    """How a function that is a module's attribute was called.

    Attributes:
        sources: the sets of channels that it read.
        looks: whether it does more with a picture than one number at a time.
        tries: itself, of one array, and the shapes of the arrays.
    """

    sources: list[int] = field(default_factory=list)
    looks: bool = False
    tries: list[tuple[Function, tuple[int, ...]]] = field(default_factory=list)


def lies_otherwise(function: Function, shape: tuple[int, ...], kind: str) -> bool:
    """Whether a function answers the mirrored picture otherwise than with the mirrored answer."""
    x = _random(shape)
    straight = function(x)
    if not hasattr(straight, "ndim"):
        return False  # several answers
    for letter in kind:
        seen = function(flip(x, letter))
        expected = flip(straight, letter) if straight.ndim == x.ndim else straight
        if not alike(seen, expected):
            return True
    return False


def mixes_channels(function: Function, shape: tuple[int, ...], kind: str) -> bool:
    """Whether a function treats channels other than one by one."""
    x, step = _random(shape), orbit_size(kind)
    try:
        return not alike(function(x[..., ::step]), function(x)[..., ::step])
    except Exception:  # whatever a function says of fewer channels
        return True


def _random(shape: tuple[int, ...]) -> Array:
    return jnp.asarray(np.random.default_rng(0).standard_normal(shape), jnp.float32)


def alike(one: Array, other: Array) -> bool:
    """Whether two answers are the same but for rounding."""
    if one.shape != other.shape:
        return False
    first, second = np.asarray(one), np.asarray(other)
    return bool(np.allclose(first, second, rtol=0, atol=CLOSE * max(float(np.abs(first).max(initial=0.0)), 1e-300)))
