"""The last word on a converted network: the law in double precision, with random numbers everywhere."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from symmetric_layers.errors import SymmetryError
from symmetric_layers.flax.convert.follow import Follower
from symmetric_layers.flax.convert.spied import modules_of, spied, variables_of
from symmetric_layers.flax.convert.traced import arrays_of, is_array, reason_of
from symmetric_layers.flax.law import call, deviations, named

ALLOWED = 1e-4  # relative; breaches are above 1e-3, rounding (of what a model computes in float32) below 1e-5

Report = Callable[[str], Any] | None
Answers = Callable[[Any], dict[str, Array]]


def without_chance(model: nnx.Module) -> nnx.Module:
    """A copy that drops nothing: dropout tells left from right."""
    model = nnx.clone(model)
    for _, module in modules_of(model):
        if isinstance(module, nnx.Dropout):
            module.rate = 0.0
    return model


def randomised(model: nnx.Module) -> nnx.Module:
    """A copy in the widest precision at hand whose numbers are all random, of a size that networks can bear."""
    model, generator = without_chance(model), np.random.default_rng(0)
    for name, variable in variables_of(model):
        stored = variable.get_raw_value()
        if hasattr(stored, "dtype") and jnp.issubdtype(stored.dtype, jnp.floating):
            drawn = _random(name.rpartition(".")[-1], stored.shape, generator)
            variable.set_raw_value(jnp.asarray(drawn))
    for _, module in modules_of(model):
        if vars(module).get("dtype") is not None:
            module.dtype = None
    return model


def _random(name: str, shape: tuple[int, ...], generator: np.random.Generator) -> Any:
    """Filters with the variance that keeps signals at their size, scales and variances about 1, offsets about 0."""
    inner = math.prod(shape[:-1])
    if len(shape) > 1 and inner > 1:
        return math.sqrt(2 / inner) * generator.standard_normal(shape)
    if name in ("bias", "mean"):
        return 0.3 * generator.standard_normal(shape)
    return generator.uniform(0.5, 1.5, shape)


def random_input(example: Any) -> Any:
    """Pictures of the example's sizes, with nothing alike in them; whole numbers that are no pictures stay."""
    generator, axes = np.random.default_rng(1), max(array.ndim for array in arrays_of(example)[0])

    def drawn(leaf: Any) -> Any:
        if not is_array(leaf):
            return leaf
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            return jnp.asarray(generator.standard_normal(leaf.shape))
        if leaf.ndim < axes or not (jnp.issubdtype(leaf.dtype, jnp.integer) or leaf.dtype == bool):
            return leaf
        return jnp.asarray(generator.integers(0, 2 if leaf.dtype == bool else 128, leaf.shape)).astype(leaf.dtype)

    return jax.tree.map(drawn, example)


def law_error(model: nnx.Module, example: Any, kind: str, follower: Follower) -> dict[bool, float]:
    """How far a network's answers are from the law, by whether it is in training mode.

    In double precision; in single precision where a model computes with float32 numbers of its own and no others.
    """
    try:
        return _measured(model, example, kind, follower, wide=True)
    except Exception as first:
        try:
            return _measured(model, example, kind, follower, wide=False)
        except Exception as error:
            raise SymmetryError(
                f"model: the converted network does not run with random numbers ({reason_of(error)}). Expected a model "
                "that computes in the type of its input. Pass measure=False."
            ) from first


def _measured(model: nnx.Module, example: Any, kind: str, follower: Follower, wide: bool) -> dict[bool, float]:
    found = {}
    with jax.enable_x64(wide):
        wild, x = randomised(model), random_input(example)
        for training in (False, True):
            (wild.train if training else wild.eval)()
            rows = deviations(_compiled(wild, x, follower), x, kind, None, lambda name: None)
            found[training] = max((row.relative for row in rows), default=0.0)
    return found


def _compiled(model: nnx.Module, x: Any, follower: Follower) -> Answers:
    """What a model answers, compiled once; maps that have no axis for channels with one."""
    graph, state = nnx.split(model)
    _, filled = arrays_of(x)

    @jax.jit
    def run(numbers: Any, given: Any) -> dict[str, Array]:
        found = named(call(nnx.merge(graph, numbers), filled(given)))
        pairs = enumerate(found.items())
        return {name: answer[..., None] if place in follower.maps else answer for place, (name, answer) in pairs}

    return lambda given: run(state, arrays_of(given)[0])


def _first_breach(model: nnx.Module, example: Any, kind: str, follower: Follower, training: bool) -> str:
    """The name of the first layer whose answer breaks the law; that of no layer where none is seen to."""
    try:
        return _first(model, example, kind, follower, training)
    except Exception:  # of a model that runs in single precision alone
        return ""


def _first(model: nnx.Module, example: Any, kind: str, follower: Follower, training: bool) -> str:
    with jax.enable_x64(True):
        wild, x, notes = randomised(model), random_input(example), dict[str, Array]()
        (wild.train if training else wild.eval)()
        axes = max(array.ndim for array in arrays_of(x)[0])

        def see(name: str, own: Any, *arguments: Any, **others: Any) -> Any:
            answer = own(*arguments, **others)
            if follower.shows(name, axes) and not isinstance(answer, jax.core.Tracer):
                notes.setdefault(name, answer)
            return answer

        def answers(given: Any) -> dict[str, Array]:
            notes.clear()
            call(spied(wild, see), given)
            return dict(notes)

        rows = deviations(answers, x, kind, None, lambda name: follower.arranged(name, kind))
        return next((row.output for row in rows if row.relative > ALLOWED), "")


def refuse_breach(model: nnx.Module, example: Any, kind: str, follower: Follower) -> None:
    """Refuses a network that breaks the law, and names the first layer that does."""
    for training, worst in law_error(model, example, kind, follower).items():
        if worst <= ALLOWED:
            continue
        first = _first_breach(model, example, kind, follower, training)
        mode = "training" if training else "evaluation"
        raise SymmetryError(
            f"model: the converted network breaks the law by {worst:.1e} in {mode} mode, first at "
            f"{first or 'its answer'!r}. Expected at most {ALLOWED:.0e}. Write that part with layers that mirror, or "
            "keep it ordinary with keep."
        )
