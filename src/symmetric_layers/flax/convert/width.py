"""How wide a converted network has to be to have about as many weights as before, and how wide it can be."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import jax
from flax import nnx

from symmetric_layers.flax.convert.surgeon import Surgeon
from symmetric_layers.flax.convert.traced import arrays_of, is_array, quiet, reason_of
from symmetric_layers.flax.law import call, named
from symmetric_layers.letters import orbit_size
from symmetric_layers.start import Start, equal_width, too_wide

Make = Callable[[Start], Surgeon]


def as_many_parameters(model: nnx.Module, kind: str, make: Make) -> Fraction:
    """The width that brings the number of parameters nearest to the model's, of those that make whole orbits."""
    size = orbit_size(kind)
    graph, state = nnx.split(model)

    def bare_of(leaf: Any) -> Any:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) if is_array(leaf) else leaf

    def sizes_at(width: Fraction) -> list[int]:
        bare = nnx.merge(graph, jax.tree.map(bare_of, state))  # with variables of its own
        make(Start(width, size)).operate(bare)
        return [leaf.size for leaf in jax.tree.leaves(nnx.state(bare, nnx.Param))]

    divisor = make(Start()).divisor(model)
    return equal_width(parameters_of(model), divisor, size, Fraction(size), sizes_at)


def parameters_of(model: nnx.Module) -> int:
    """How many numbers are trained."""
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))


def refuse_too_wide(old: nnx.Module, new: nnx.Module, example: Any, width: int | str) -> None:
    """Refuses a width that a model has written its own numbers of channels against."""
    try:
        shapes = [_answers(model, example) for model in (old, new)]
    except Exception as error:
        raise too_wide(width, reason_of(error)) from error
    if shapes[0] != shapes[1]:
        raise too_wide(width, f"it answers {shapes[1]} in the place of {shapes[0]}")


def _answers(model: nnx.Module, example: Any) -> list[tuple[int, ...]]:
    """The shapes of what a model answers."""
    graph, state = nnx.split(model)
    arrays, filled = arrays_of(example)

    def run(numbers: Any, given: Any) -> Any:
        return named(call(nnx.merge(graph, numbers), filled(given)))

    with quiet():
        return [answer.shape for answer in jax.eval_shape(run, state, arrays).values()]
