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
from symmetric_layers.flax.convert.chance import with_other_chance, without_chance
from symmetric_layers.flax.convert.follow import Follower
from symmetric_layers.flax.convert.spied import modules_of, spied, variables_of
from symmetric_layers.flax.convert.traced import arrays_of, is_array, reason_of
from symmetric_layers.flax.law import call, deviations, named

ALLOWED = 1e-4  # relative; breaches are above 1e-3, rounding (of what a model computes in float32) below 1e-5

Report = Callable[[str], Any] | None
Answers = Callable[[Any], dict[str, Array]]


def randomised(model: nnx.Module) -> nnx.Module:
    """A copy in the widest precision at hand whose numbers are all random, of a size that networks can bear."""
    model, generator = without_chance(model), np.random.default_rng(0)
    for name, variable in variables_of(model):
        stored = variable.get_raw_value()
        if hasattr(stored, "dtype") and jnp.issubdtype(stored.dtype, jnp.floating):
            drawn = _random(name.rpartition(".")[-1], stored.shape, generator)
            variable.set_raw_value(jnp.asarray(drawn))
    return untyped(model)


def untyped(model: nnx.Module) -> nnx.Module:
    """The model, all of whose layers compute in the type of what they are given."""
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
    """Pictures like those of the example, with nothing alike in them; whole numbers that are no pictures stay."""
    generator, axes = np.random.default_rng(1), max(array.ndim for array in arrays_of(example)[0])

    def drawn(leaf: Any) -> Any:
        if not is_array(leaf):
            return leaf
        whole = jnp.issubdtype(leaf.dtype, jnp.integer) or leaf.dtype == bool
        if not jnp.issubdtype(leaf.dtype, jnp.floating) and not (whole and leaf.ndim == axes):
            return leaf
        low, high = _range(leaf)
        if low < high and not whole:
            return jnp.asarray(generator.uniform(low, high, leaf.shape))
        if not whole:
            return jnp.asarray(generator.standard_normal(leaf.shape))
        low, high = (low, high) if low < high else (0, 1 if leaf.dtype == bool else 127)
        return jnp.asarray(generator.integers(int(low), int(high) + 1, leaf.shape)).astype(leaf.dtype)

    return jax.tree.map(drawn, example)


def _range(leaf: Any) -> tuple[float, float]:
    """Between which numbers those of an example are; of a shape alone, nothing is known."""
    if isinstance(leaf, jax.ShapeDtypeStruct) or not leaf.size:
        return 0.0, 0.0
    numbers = np.asarray(leaf).astype(np.float64)
    return float(numbers.min()), float(numbers.max())


def law_error(model: nnx.Module, example: Any, kind: str, follower: Follower) -> dict[bool, float]:
    """How far a network's answers are from the law, by whether it is in training mode.

    In double precision; in single precision where a model computes with float32 numbers of its own and no others.
    """
    try:
        return _measured(model, example, kind, follower, wide=True)
    except SymmetryError:
        raise
    except Exception as first:
        try:
            return _measured(model, example, kind, follower, wide=False)
        except Exception as error:
            raise SymmetryError(
                f"model: the converted network does not run with random numbers ({reason_of(error)}). Expected one "
                "that reads its variables by param[...], not by get_value(), and computes in the type of its input. "
                "Look at it with measure=False."
            ) from first


def _measured(model: nnx.Module, example: Any, kind: str, follower: Follower, wide: bool) -> dict[bool, float]:
    found = {}
    with jax.enable_x64(wide):
        wild, x = randomised(model), random_input(example)
        for training in (False, True):
            (wild.train if training else wild.eval)()
            run = compiled(wild, x, follower)
            rows = deviations(run, x, kind, None, lambda name: None)
            found[training] = max((row.relative for row in rows), default=0.0)
            if math.isinf(found[training]):
                _refuse_nothing(run(x))
    return found


def _refuse_nothing(answers: dict[str, Array]) -> None:
    """Refuses to measure what is no number."""
    if any(bool(jnp.isnan(answer).any()) for answer in answers.values() if jnp.issubdtype(answer.dtype, jnp.floating)):
        raise SymmetryError(
            "example: the converted network answers NaN to random numbers like these. Expected an example with numbers "
            "as the model takes them, between whose least and largest others are drawn. Pass such a one, or "
            "measure=False."
        )


def compiled(model: nnx.Module, x: Any, follower: Follower) -> Answers:
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
        said = f"breaks the law by {worst:.1e} in {mode} mode, first at {first or 'its answer'!r}"
        if _is_random(model, example, follower, training):
            raise SymmetryError(
                f"model: the converted network {said}, and draws random numbers there: with others it answers the same "
                f"picture otherwise. Expected at most {ALLOWED:.0e}, of a network that draws none. Let it draw none in "
                "that mode, or pass measure=False and measure it by equivariance_error where it does not."
            )
        raise SymmetryError(
            f"model: the converted network {said}. Expected at most {ALLOWED:.0e}. Write that part with layers that "
            "mirror, or keep it ordinary with keep."
        )


def _is_random(model: nnx.Module, example: Any, follower: Follower, training: bool) -> bool:
    """Whether a network answers one picture otherwise when it draws other random numbers."""
    for wide in (True, False):
        try:
            return _draws(model, example, follower, training, wide)
        except Exception:  # of a model that runs in single precision alone
            continue
    return False


def _draws(model: nnx.Module, example: Any, follower: Follower, training: bool, wide: bool) -> bool:
    with jax.enable_x64(wide):
        (wild, x), found = (randomised(model), random_input(example)), []
        (wild.train if training else wild.eval)()
        for one, given in ((wild, x), with_other_chance(wild, x)):
            found.append(compiled(one, given, follower)(given))
        return any(bool((answer != found[1][name]).any()) for name, answer in found[0].items())
