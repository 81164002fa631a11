"""The law, measured: how far a network is from mirroring its answer with its picture."""

import math
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
    model: Callable[..., Any],
    x: Any,
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
        x: pictures, `(batch, *positions, channels)`; a tuple of inputs or a dict of keyword arguments for a model that
            takes several, of which those with as many axes as pictures are mirrored.
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
    return deviations(lambda given: _answers(model, given), x, axes, in_symmetry, lambda name: symmetry)


def deviations(
    answers: Callable[[Any], dict[str, Array]],
    x: Any,
    axes: str,
    in_symmetry: Mapping[str, int | str] | None,
    arranged: Callable[[str], Mapping[str, int | str] | None],
) -> list[Deviation]:
    """How far all answers are from the law; `arranged` says of each how its channels are."""
    ndim = _ndim(x)
    letters, straight, found = canonical_kind(axes, ndim - 2, "axes"), answers(x), []
    for letter in letters:
        seen = answers(_mirrored_input(x, ndim, letter, in_symmetry))
        if straight.keys() != seen.keys():
            raise SymmetryError(
                f"model: the answer to the picture mirrored along {letter!r} has other parts ({sorted(seen)}) than "
                f"the answer to the picture ({sorted(straight)}). Expected the same. Measure in a mode where "
                "both are the same."
            )
        for name, (absolute, largest) in _differences(straight, seen, letter, ndim, arranged).items():
            found.append(Deviation(letter, name, absolute, absolute / max(largest, 1e-300)))
    return found


def _differences(
    straight: dict[str, Array],
    seen: dict[str, Array],
    letter: str,
    ndim: int,
    arranged: Callable[[str], Mapping[str, int | str] | None],
) -> dict[str, tuple[float, float]]:
    """The largest deviation of every answer and the largest value that was expected, computed in one go."""

    def compare(straight: dict[str, Array], seen: dict[str, Array]) -> dict[str, tuple[Any, Any]]:
        found = {}
        for name, answer in straight.items():
            symmetry = arranged(name)
            outputs = plan_of(symmetry, answer.shape[-1]) if symmetry and answer.ndim > 1 else None
            expected = _mirrored(answer, ndim, letter, outputs)
            found[name] = _difference(_known(expected, outputs, letter), _known(seen[name], outputs, letter))
        return found

    found = jax.jit(compare)(straight, seen)
    pairs = {name: (float(found[name][0]), float(found[name][1])) for name in straight}
    return {name: (math.inf, 1.0) if math.isnan(pair[0]) else pair for name, pair in pairs.items()}


def call(model: Callable[..., Any], x: Any) -> Any:
    """What a model answers to one input, to a tuple of inputs, or to a dict of keyword arguments."""
    if isinstance(x, dict):
        return model(**x)
    return model(*x) if isinstance(x, tuple) else model(x)


def _ndim(x: Any) -> int:
    """How many axes pictures have."""
    shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(x)]
    ndim = max(map(len, shapes), default=0)
    if 1 <= ndim - 2 <= len(LETTERS):
        return ndim
    came = f"an array of shape {shapes[0]}" if len(shapes) == 1 else f"{shapes}"
    raise SymmetryError(
        f"x: {came} is no batch of pictures. Expected (batch, *positions, channels) with 1 to "
        f"{len(LETTERS)} positions. Add the axes that are missing."
    )


def _mirrored_input(x: Any, ndim: int, letter: str, in_symmetry: Mapping[str, int | str] | None) -> Any:
    def seen(leaf: Any) -> Any:
        if jnp.ndim(leaf) != ndim:
            return leaf
        return act(leaf, plan_of(in_symmetry, leaf.shape[-1]), letter)

    return jax.tree.map(seen, x)


def _answers(model: Callable[..., Any], x: Any) -> dict[str, Array]:
    """All arrays that a model answers, by name; the model stays as it was."""
    return named(call(nnx.clone(model) if isinstance(model, nnx.Module) else model, x))


def named(answer: Any) -> dict[str, Array]:
    """The arrays of an answer by their names."""
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


def _difference(expected: Array, answer: Array) -> tuple[Any, Any]:
    """The largest absolute deviation, and the largest value expected; infinite where shapes differ."""
    if expected.shape != answer.shape:
        return math.inf, 1.0
    if not expected.size:
        return 0.0, 0.0
    wide = jnp.promote_types(expected.dtype, jnp.float32)
    expected, answer = expected.astype(wide), answer.astype(wide)
    return jnp.abs(expected - answer).max(), jnp.abs(expected).max()
