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
        looks: whether it does more with a picture than can be done alike in the mirror, whatever the size.
        tries: itself, of one picture, and the shapes of the pictures.
        others: whether it was called with arrays that are no pictures, too.
    """

    sources: list[int] = field(default_factory=list)
    looks: bool = False
    tries: list[tuple[Function, tuple[int, ...]]] = field(default_factory=list)
    others: bool = False


def lies_otherwise(function: Function, shape: tuple[int, ...], kind: str) -> bool:
    """Whether a function answers the mirrored picture otherwise than with the mirrored answer.

    That is tried at the size of a picture, and one pixel larger: windows that fit there leave something over here.
    """
    larger = (shape[0], *(size + 1 for size in shape[1:-1]), shape[-1])
    return _lies_otherwise(function, _random(shape), kind) or _at_another_size(function, _random(larger), kind)


def _lies_otherwise(function: Function, x: Array, kind: str) -> bool:
    straight = function(x)
    if getattr(straight, "ndim", None) not in (2, x.ndim):
        return False  # no picture, and no vector that knows no positions: nothing that could be mirrored back
    for letter in kind:
        seen = function(flip(x, letter))
        if not alike(seen, flip(straight, letter) if straight.ndim == x.ndim else straight):
            return True
    return False


def _at_another_size(function: Function, x: Array, kind: str) -> bool:
    try:
        return _lies_otherwise(function, x, kind)
    except Exception:  # whatever a function says of a size that it is not made for
        return False


def mixes_channels(function: Function, shape: tuple[int, ...], kind: str) -> bool:
    """Whether a function treats channels other than one by one."""
    x, step = _random(shape), orbit_size(kind)
    try:
        return not alike(function(x[..., ::step]), function(x)[..., ::step])
    except Exception:  # whatever a function says of fewer channels
        return True


def _random(shape: tuple[int, ...]) -> Array:
    """Positive numbers, of which all functions know the roots."""
    return jnp.asarray(np.random.default_rng(0).uniform(0.1, 2.0, shape), jnp.float32)


def alike(one: Array, other: Array) -> bool:
    """Whether two answers are the same but for rounding."""
    if one.shape != other.shape:
        return False
    first, second = np.asarray(one), np.asarray(other)
    largest = np.abs(first[np.isfinite(first)]).max(initial=0.0)
    return bool(np.allclose(first, second, rtol=0, atol=CLOSE * max(float(largest), 1e-300), equal_nan=True))
