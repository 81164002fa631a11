"""The law, measured: how far a network is from mirroring its answer with its picture."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import keras
from keras import ops

from symmetric_layers.errors import SymmetryError
from symmetric_layers.keras.channels import act, channel_axis, flip, known_format
from symmetric_layers.letters import LETTERS, canonical_kind
from symmetric_layers.letters import axes as axes_of
from symmetric_layers.orbits import Plan, plan

_Symmetry = Mapping[str, int | str] | None


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
    in_symmetry: _Symmetry = None,
    symmetry: _Symmetry = None,
    data_format: str | None = None,
    training: bool = False,
) -> list[Deviation]:
    """Measures how far a network is from the law: mirrored picture, mirrored answer.

    Outputs that are maps are mirrored, vectors and classes are compared as they are (what has one axis less than a map
    may be either, a mask without channels, tokens, or a picture of a film: the smaller deviation counts); of channels
    that `symmetry` arranges those are measured whose orbits know the letter. Statistics and random states are put back
    afterwards.

    Equivalent to: `ops.max(ops.abs(model(ops.flip(x, 2)) - ops.flip(model(x), 2)))` for `'h'` and one map.

    Args:
        model: the network, layer or function, with the numbers that it is to be measured with.
        x: pictures, `(batch, *positions, channels)`, or with the channels after the batch; for a model of several
            inputs in its structure, where those with fewer axes are left as they are.
        axes: the letters to measure: `'h'`, `'hv'`, ...
        in_symmetry, symmetry: how the channels of the input and of the outputs are arranged, where they are orbits.
        data_format: where the channels are, `'channels_last'` or `'channels_first'`; None as Keras is configured.
        training: the mode in which it is measured. Dropout tells left from right.

    Returns:
        One `Deviation` for each letter and output.

    Raises:
        SymmetryError: for unknown axes, for inputs without pictures, for channels that a symmetry does not fit.

    Example:
        >>> layer = keras.layers.Conv2D(4, 3)
        >>> equivariance_error(layer, keras.random.normal((1, 8, 8, 1)), 'h')[0].relative > 1e-3
        True
    """
    x = keras.tree.map_structure(ops.convert_to_tensor, x)
    shapes = [tuple(tensor.shape) for tensor in keras.tree.flatten(x)]
    if not any(1 <= len(shape) - 2 <= len(LETTERS) for shape in shapes):
        raise SymmetryError(
            f"x: a tensor of shape {shapes[0]} is no batch of pictures. Expected (batch, *positions, channels) "
            f"with 1 to {len(LETTERS)} positions. Add the axes that are missing."
        )
    return deviations(
        model, x, axes, in_symmetry, lambda _: symmetry, channel_axis(known_format(data_format)), training
    )


def deviations(
    model: Callable[..., Any],
    x: Any,
    axes: str,
    in_symmetry: _Symmetry,
    symmetry_of: Callable[[str], _Symmetry],
    axis: int,
    training: bool,
) -> list[Deviation]:
    """How far each output is from the law; `symmetry_of` says by an output's name how its channels are arranged."""
    rank = max(len(tensor.shape) for tensor in keras.tree.flatten(x))
    letters = canonical_kind(axes, rank - 2, "axes")
    straight = answers_of(model, x, training)
    found = []
    for letter in letters:
        seen = answers_of(model, _seen(x, rank, in_symmetry, letter, axis), training)
        if straight.keys() != seen.keys():
            raise SymmetryError(
                f"model: the answer to the picture mirrored along {letter!r} has other parts ({sorted(seen)}) than "
                f"the answer to the picture ({sorted(straight)}). Expected the same. Measure in a mode where "
                "both are the same."
            )
        for name, answer in straight.items():
            symmetry = symmetry_of(name)
            outputs = _plan(symmetry, answer.shape[axis]) if symmetry and len(answer.shape) > 1 else None
            if len(answer.shape) == rank:
                expected = act(answer, outputs, letter, axis)
            else:
                expected = answer if outputs is None else ops.take(answer, outputs.exchange(letter), axis=axis)
            pairs = [[_known(one, outputs, letter, axis) for one in (expected, seen[name])]]
            if len(answer.shape) == rank - 1 and outputs is None:  # a map without channels, or tokens
                pairs.append([ops.flip(answer, axes_of(letter)), seen[name]])
                if rank > 4 and letter != LETTERS[-1]:  # or a picture of a whole film
                    pairs.append([flip(answer, letter, axis), seen[name]])
            found.append(Deviation(letter, name, *min(difference(*pair) for pair in pairs)))
    return found


def _seen(x: Any, rank: int, in_symmetry: _Symmetry, letter: str, axis: int) -> Any:
    """The input with its pictures mirrored; of several inputs, those with as many axes as pictures have."""

    def mirrored(tensor: Any) -> Any:
        if len(tensor.shape) != rank:
            return tensor
        return act(tensor, _plan(in_symmetry, tensor.shape[axis]), letter, axis)

    return keras.tree.map_structure(mirrored, x)


def _plan(symmetry: _Symmetry, channels: int) -> Plan | None:
    return plan(symmetry, channels, len(LETTERS)) if symmetry else None


def answers_of(model: Callable[..., Any], x: Any, training: bool) -> dict[str, Any]:
    """All tensors that a model answers, by name; the model stays as it was."""
    if not isinstance(model, keras.layers.Layer):
        answer = model(x)
    else:
        before = [(variable, ops.copy(variable.value)) for variable in model.non_trainable_variables]
        try:
            answer = model(x, training=training)
        finally:
            for variable, value in before:
                variable.assign(value)
    names = [".".join(map(str, path)) for path, _ in keras.tree.flatten_with_path(answer)]
    return dict(zip(names, map(ops.stop_gradient, keras.tree.flatten(answer)), strict=True))


def _known(answer: Any, outputs: Plan | None, letter: str, axis: int) -> Any:
    """The channels of which the law speaks: those of orbits that know the letter."""
    if outputs is None or answer.shape[axis] != outputs.filters:
        return answer
    kinds = [block.kind for block in outputs.blocks for _ in range(block.filters)]
    return ops.take(answer, [index for index, kind in enumerate(kinds) if letter in kind], axis=axis)


def difference(expected: Any, answer: Any) -> tuple[float, float]:
    """The largest absolute deviation, and the same over the largest value expected; infinite where shapes differ."""
    if tuple(expected.shape) != tuple(answer.shape):
        return float("inf"), float("inf")
    if 0 in tuple(expected.shape):
        return 0.0, 0.0
    wide = "float64" if keras.backend.standardize_dtype(expected.dtype) == "float64" else "float32"
    expected, answer = ops.cast(expected, wide), ops.cast(answer, wide)
    absolute = float(ops.max(ops.abs(expected - answer)))
    if absolute != absolute:
        return float("inf"), float("inf")
    return absolute, absolute / max(float(ops.max(ops.abs(expected))), 1e-300)
