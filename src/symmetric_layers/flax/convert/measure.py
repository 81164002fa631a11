"""The last word on a converted network: the law in double precision, with random numbers everywhere."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from symmetric_layers.errors import SymmetryError
from symmetric_layers.flax.convert.follow import Follower
from symmetric_layers.flax.convert.spied import modules_of, spied, variables_of
from symmetric_layers.flax.convert.traced import arrays_of
from symmetric_layers.flax.law import Deviation, call, deviations, named

ALLOWED = 1e-4  # relative; breaches are above 1e-3, rounding (of what a model computes in float32) below 1e-5

LAYER = " (a layer)"  # how the names of answers end that are a layer's on the way

Report = Callable[[str], Any] | None


def without_chance(model: nnx.Module) -> nnx.Module:
    """A copy that drops nothing: dropout tells left from right."""
    model = nnx.clone(model)
    for _, module in modules_of(model):
        if isinstance(module, nnx.Dropout):
            module.rate = 0.0
    return model


def randomised(model: nnx.Module) -> nnx.Module:
    """A copy in double precision whose numbers are all random, of a size that networks can bear."""
    model, generator = without_chance(model), np.random.default_rng(0)
    for name, variable in variables_of(model):
        stored = variable.get_raw_value()
        if hasattr(stored, "dtype") and jnp.issubdtype(stored.dtype, jnp.floating):
            drawn = _random(name.rpartition(".")[-1], stored.shape, generator)
            variable.set_raw_value(jnp.asarray(drawn))
    for _, module in modules_of(model):
        if getattr(module, "dtype", None) is not None:
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
    """Pictures of the example's sizes, with nothing alike in them."""
    generator = np.random.default_rng(1)

    def drawn(leaf: Any) -> Any:
        floating = hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)
        return jnp.asarray(generator.standard_normal(leaf.shape)) if floating else leaf

    return jax.tree.map(drawn, example)


def law_error(model: nnx.Module, example: Any, kind: str, follower: Follower) -> dict[bool, list[Deviation]]:
    """How far a network is from the law, in its answers and in its layers' on the way, by whether it is training."""
    with jax.enable_x64(True):
        wild, x, found = randomised(model), random_input(example), {}
        for training in (False, True):
            (wild.train if training else wild.eval)()
            answers = _Run(wild, follower, x).answers
            found[training] = deviations(answers, x, kind, None, partial(_arranged, follower, kind))
        return found


def _arranged(follower: Follower, kind: str, name: str) -> dict[str, str] | None:
    """How the channels of an answer are arranged: those of layers on the way may be orbits."""
    return follower.arranged(name.removesuffix(LAYER), kind) if name.endswith(LAYER) else None


class _Run:
    """A model that gives its layers' answers beside its own, compiled once."""

    def __init__(self, model: nnx.Module, follower: Follower, x: Any) -> None:
        arrays, filled = arrays_of(x)
        notes: dict[str, Array] = {}
        axes = max(array.ndim for array in arrays)
        self._names: list[str] = []

        def see(name: str, own: Any, *arguments: Any, **others: Any) -> Any:
            answer = own(*arguments, **others)
            if follower.shows(name, axes):
                notes.setdefault(name + LAYER, answer)
            return answer

        graph, self._state = nnx.split(spied(model, see))

        def run(state: Any, given: Any) -> list[Array]:
            notes.clear()
            answer = named(call(nnx.merge(graph, state), filled(given)))
            self._names = [*notes, *answer]
            return [*notes.values(), *answer.values()]

        self._run = jax.jit(run)

    def answers(self, x: Any) -> dict[str, Array]:
        """All of them by their names, in the order in which they are computed."""
        answers = self._run(self._state, arrays_of(x)[0])
        return dict(zip(self._names, answers, strict=True))


def refuse_breach(model: nnx.Module, example: Any, kind: str, follower: Follower) -> None:
    """Refuses a network that breaks the law, in its answers or in the orbits on the way, and names the first layer."""
    for training, rows in law_error(model, example, kind, follower).items():
        worst = max((row.relative for row in rows), default=0.0)
        if worst <= ALLOWED:
            continue
        first = next(row.output for row in rows if row.relative > ALLOWED)
        raise SymmetryError(
            f"model: the converted network breaks the law by {worst:.1e} in {'training' if training else 'evaluation'} "
            f"mode, first at {first.removesuffix(LAYER) or 'its answer'!r}. Expected at most {ALLOWED:.0e}. Write that "
            "part with layers that mirror, or keep it ordinary with keep."
        )
