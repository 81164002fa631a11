"""The law, measured: how far a network is from mirroring its answer with its picture."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from symmetric_layers.errors import SymmetryError
from symmetric_layers.flax.channels import act, exchange, plan_of
from symmetric_layers.letters import LETTERS, canonical_kind
from symmetric_layers.orbits import Plan


class Deviation(NamedTuple):
    """How far one output is from the law along one axis; `relative` is `absolute` over the largest value expected."""

    axis: str
    output: str
    absolute: float
    relative: float


def equivariance_error(
    model: Callable[[Array], Any],
    x: Array,
    axes: str,
    *,
    in_symmetry: Mapping[str, int | str] | None = None,
    symmetry: Mapping[str, int | str] | None = None,
) -> list[Deviation]:
    """Measures how far a network is from the law: mirrored picture, mirrored answer.

    Outputs that are maps are mirrored, vectors and classes are compared as they are; of channels that `symmetry`
    arranges those are measured whose orbits know the letter. A module is copied before it is called, so that its
    statistics and random numbers are the same afterwards; dropout tells left from right, and is left out by
    `model.eval()`.

    Equivalent to: `jnp.abs(model(jnp.flip(x, -2)) - jnp.flip(model(x), -2)).max()` for `'h'` and one map.

    Args:
        model: the network, layer or function, in the mode and with the numbers that it is to be measured with.
        x: pictures, `(batch, *positions, channels)`.
        axes: the letters to measure: `'h'`, `'hv'`, ...
        in_symmetry, symmetry: how the channels of the input and of the outputs are arranged, where they are orbits.

    Returns:
        One `Deviation` for each letter and output.

    Raises:
        SymmetryError: for unknown axes, for inputs without pictures, for channels that a symmetry does not fit.

    Example:
        >>> layer = nnx.Conv(1, 4, (3, 3), rngs=nnx.Rngs(0))
        >>> equivariance_error(layer, jax.random.normal(jax.random.key(0), (1, 8, 8, 1)), 'h')[0].relative > 1e-3
        True
    """
    if not 1 <= x.ndim - 2 <= len(LETTERS):
        raise SymmetryError(
            f"x: an array of shape {x.shape} is no batch of pictures. Expected (batch, *positions, channels) with 1 to "
            f"{len(LETTERS)} positions. Add the axes that are missing."
        )
    letters, inputs = canonical_kind(axes, x.ndim - 2, "axes"), plan_of(in_symmetry, x.shape[-1])
    straight = _answers(model, x)
    found = []
    for letter in letters:
        seen = _answers(model, act(x, inputs, letter))
        if straight.keys() != seen.keys():
            raise SymmetryError(
                f"model: the answer to the picture mirrored along {letter!r} has other parts ({sorted(seen)}) than "
                f"the answer to the picture ({sorted(straight)}). Expected the same. Measure in a mode where "
                "both are the same."
            )
        for name, answer in straight.items():
            outputs = plan_of(symmetry, answer.shape[-1]) if symmetry and answer.ndim > 1 else None
            expected = _mirrored(answer, x.ndim, letter, outputs)
            difference = _difference(_known(expected, outputs, letter), _known(seen[name], outputs, letter))
            found.append(Deviation(letter, name, *difference))
    return found


def _answers(model: Callable[[Array], Any], x: Array) -> dict[str, Array]:
    """All arrays that a model answers, by name; the model stays as it was."""
    answer = (nnx.clone(model) if isinstance(model, nnx.Module) else model)(x)
    leaves, _ = jax.tree_util.tree_flatten_with_path(answer)
    return {jax.tree_util.keystr(path, simple=True, separator="."): jnp.asarray(leaf) for path, leaf in leaves}


def _mirrored(answer: Array, ndim: int, letter: str, outputs: Plan | None) -> Array:
    """A map mirrored, a vector as it is; channels that are orbits exchanged."""
    if answer.ndim == ndim:
        return act(answer, outputs, letter)
    return answer if outputs is None else exchange(answer, outputs, letter, -1)


def _known(answer: Array, outputs: Plan | None, letter: str) -> Array:
    """The channels of which the law speaks: those of orbits that know the letter."""
    if outputs is None or answer.shape[-1] != outputs.filters:
        return answer
    kinds = [block.kind for block in outputs.blocks for _ in range(block.filters)]
    return answer[..., jnp.array([index for index, kind in enumerate(kinds) if letter in kind], int)]


def _difference(expected: Array, answer: Array) -> tuple[float, float]:
    """The largest absolute deviation, and the same over the largest value expected; infinite where shapes differ."""
    if expected.shape != answer.shape:
        return float("inf"), float("inf")
    if not expected.size:
        return 0.0, 0.0
    wide = jnp.promote_types(expected.dtype, jnp.float32)
    absolute = float(jnp.abs(expected.astype(wide) - answer.astype(wide)).max())
    if absolute != absolute:
        return float("inf"), float("inf")
    return absolute, absolute / max(float(jnp.abs(expected.astype(wide)).max()), 1e-300)
