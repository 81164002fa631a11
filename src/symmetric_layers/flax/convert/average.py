"""Whether a network starts as the average of an old one over all mirrored inputs."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from symmetric_layers.flax.channels import flip
from symmetric_layers.flax.convert.follow import Follower
from symmetric_layers.flax.convert.measure import ALLOWED, compiled, random_input, untyped
from symmetric_layers.flax.convert.spied import variables_of
from symmetric_layers.flax.convert.traced import arrays_of
from symmetric_layers.letters import mirrors
from symmetric_layers.start import no_average

AVERAGED = 1e-5  # relative: more than rounding to float32


def refuse_other_than_average(old: nnx.Module, new: nnx.Module, example: Any, kind: str, follower: Follower) -> None:
    """Refuses a network that does not compute the old one's average over all mirrored inputs, in evaluation mode.

    In double precision; in single precision where a model computes with float32 numbers of its own and no others.
    """
    try:
        worst, most = _off(old, new, example, kind, follower, wide=True), AVERAGED
    except Exception:
        worst, most = _off(old, new, example, kind, follower, wide=False), ALLOWED
    if worst > most:
        raise no_average(worst)


def _off(old: nnx.Module, new: nnx.Module, example: Any, kind: str, follower: Follower, wide: bool) -> float:
    """How far the new network's answers are from the average, relatively."""
    axes = max(array.ndim for array in arrays_of(example)[0])

    def turned(array: Any, letters: str) -> Any:
        return flip(array, letters) if array.ndim == axes else array

    with jax.enable_x64(wide):
        x, total = random_input(example), dict[str, Array]()
        answer, found = (compiled(_widened(one), example, follower) for one in (old, new))
        for letters in mirrors(kind):
            arrays, filled = arrays_of(x)
            for name, seen in answer(filled([turned(array, letters) for array in arrays])).items():
                total[name] = total.get(name, 0) + turned(seen, letters) / len(mirrors(kind))
        return max((_relative(total[name], seen) for name, seen in found(x).items()), default=0.0)


def _relative(expected: Array, answer: Array) -> float:
    if not answer.size:
        return 0.0
    return float(jnp.abs(expected - answer).max() / jnp.maximum(jnp.abs(expected).max(), 1e-30))


def _widened(model: nnx.Module) -> nnx.Module:
    """A copy in the widest precision at hand, in evaluation mode."""
    model = nnx.clone(model)
    for _, variable in variables_of(model):
        stored = variable.get_raw_value()
        if hasattr(stored, "dtype") and jnp.issubdtype(stored.dtype, jnp.floating):
            variable.set_raw_value(jnp.asarray(stored, jnp.asarray(0.0).dtype))
    model.eval()
    return untyped(model)
