"""The last word on a converted network: the law, with random numbers everywhere."""

import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
from keras import ops

from symmetric_layers.errors import SymmetryError
from symmetric_layers.keras.convert.drawn import wide_for, widest, with_channels
from symmetric_layers.keras.convert.follow import Follower
from symmetric_layers.keras.convert.made import again
from symmetric_layers.keras.convert.rebuild import rebuilt
from symmetric_layers.keras.convert.walk import inputs_of, is_network
from symmetric_layers.keras.law import answers_of, deviations, difference

ALLOWED = 1e-4  # relative; breaches are above 1e-3, rounding (float32 is all that some layers know) below 1e-5

BLIND = 1e-8  # relative: how far an answer moves at most that does not see its picture, when that moves by 1e-6

Report = Callable[[str], Any] | None


def randomised(model: Any) -> Any:
    """A copy in double precision whose numbers are all random, of a size that networks can bear."""
    seeds, wide = keras.random.SeedGenerator(0), widest()

    def make(layer: Any) -> Any:
        still = {"rate": 0.0, "stddev": 0.0} if not layer.weights else {}  # dropout and noise tell left from right
        new = again(layer, wide_for(layer), **still)
        return new, lambda: new.set_weights([_random(weight, seeds, wide) for weight in layer.weights])

    return rebuilt(model, make, wide)


def _random(weight: Any, seeds: Any, wide: str) -> Any:
    """Filters with the variance that keeps signals at their size, scales and variances about 1, offsets about 0."""
    shape = tuple(weight.shape)
    if not keras.backend.is_float_dtype(weight.dtype):
        return ops.convert_to_numpy(weight)
    inner = math.prod(shape[:-1])
    if len(shape) > 1 and inner > 1:
        drawn = math.sqrt(2 / inner) * keras.random.normal(shape, dtype=wide, seed=seeds)
    elif weight.name in ("bias", "beta", "moving_mean", "mean"):
        drawn = 0.3 * keras.random.normal(shape, dtype=wide, seed=seeds)
    else:
        drawn = keras.random.uniform(shape, 0.5, 1.5, dtype=wide, seed=seeds)
    return ops.convert_to_numpy(drawn)


def refuse_other_shapes(old: Any, new: Any) -> None:
    """Refuses a network whose answers have other shapes than those of the old one."""
    shapes = [[tuple(tensor.shape) for tensor in one.outputs] for one in (old, new)]
    if shapes[0] != shapes[1]:
        raise SymmetryError(
            f"model: the converted network answers {shapes[1]}, and the old one {shapes[0]}. Expected the same. "
            "Keep ordinary with keep what pads on one side only."
        )


def refuse_other_batches(old: Any, new: Any) -> None:
    """Raises where channels have become pictures: a reshape that knows channels by number makes more rows of more."""

    def rows(model: Any) -> list[Any]:
        def filled(tensor: Any) -> Any:
            return keras.KerasTensor((tensor.shape[0] or 3, *tensor.shape[1:]))

        given = keras.tree.map_structure(filled, inputs_of(model))
        return [tensor.shape[0] for tensor in keras.tree.flatten(model.compute_output_spec(given))]

    if rows(old) != rows(new):
        raise ValueError(f"it answers {rows(new)[0]} pictures for {rows(old)[0]}")


def law_error(model: Any, x: Any, axes: str, axis: int) -> float:
    """How far the model's answers are from the law, relatively, in evaluation mode."""
    looked_at = with_channels(model, x, axis)
    rows = deviations(looked_at, x, axes, None, lambda name: None, axis, False)
    return max((row.relative for row in rows), default=0.0)


def refuse_breach(model: Any, x: Any, axes: str, axis: int, report: Report, follower: Follower) -> None:
    """Refuses a network that breaks the law in its answers, and names the first layer that does.

    Where no answer sees its picture, the orbits on the way are held to the law; they may lie on other axes elsewhere.
    """
    wild = randomised(model)
    rank = max(len(tensor.shape) for tensor in keras.tree.flatten(x))
    answers = {f"answer {index}": tensor for index, tensor in enumerate(wild.outputs)}
    shown = {
        layer.name: layer.output
        for layer in wild.layers
        if follower.shows(layer.name, rank, axis) and _answers_once(layer)
    }
    orbits = [name for name in shown if follower.arranged(name, axes)]
    x = keras.tree.flatten(x)
    looked_at = with_channels(keras.Model(wild.inputs, {**shown, **answers}), x, axis)
    for training in (False, True):
        mode = "training" if training else "evaluation"
        if training and len(wild.variables) > len(wild.weights):  # states of random numbers
            _tell(report, "In training mode something is random in this network: the law is not measured there.")
            continue
        rows = deviations(looked_at, x, axes, None, lambda name: follower.arranged(name, axes), axis, training)
        by_size = sorted(rows, key=lambda row: row.relative)  # the largest one of several letters counts
        broken = {row.output: row.relative for row in by_size if row.relative > ALLOWED}
        if not broken:
            continue
        shaken = _shaken(looked_at, x, training)
        blind = all(shaken[name] < BLIND and keras.backend.is_float_dtype(answers[name].dtype) for name in answers)
        decisive = [name for name in (*answers, *(orbits if blind else ())) if name in broken]
        if not decisive:
            continue
        if all(broken[name] <= 10 * shaken[name] for name in decisive):
            worst = max(broken[name] for name in decisive)
            _tell(report, f"In {mode} mode rounding grows too large in this network to measure the law ({worst:.1e}).")
            continue
        first = next(name for name in (*shown, *answers) if name in broken)
        raise SymmetryError(
            f"model: the converted network breaks the law by {max(broken.values()):.1e} in {mode} mode, first at "
            f"{first!r}. Expected at most {ALLOWED:.0e}. Write that part with layers of Keras that mirror, or keep it "
            "ordinary with keep."
        )


@contextmanager
def runs(model: Any) -> Iterator[None]:
    """While a network is called with what was drawn: what it does not take is refused in a sentence."""
    try:
        yield
    except SymmetryError:
        raise
    except Exception as error:
        whole = [tensor for tensor in model.inputs if not keras.backend.is_float_dtype(tensor.dtype)]
        if not whole:
            raise
        raise SymmetryError(
            f"example: the model does not take the whole numbers that were drawn ({reason_of(error)}). Expected "
            "numbers that it takes. Pass an example with such, or measure=False."
        ) from error


def reason_of(error: Exception) -> str:
    """What an error says, without the frame that the host puts around it."""
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip() for line in str(error).splitlines()]
    told = [line for line in lines if line and not line.startswith("Exception encountered when calling")]
    return (told or [type(error).__name__])[0].rstrip(".")


def _tell(report: Report, sentence: str) -> None:
    if report is not None:
        report(sentence)


def _answers_once(layer: Any) -> bool:
    """Whether a layer is called once, and answers one tensor; what models inside answer is told in their own graphs."""
    try:
        return not is_network(layer) and hasattr(layer.output, "shape")
    except (AttributeError, ValueError):
        return False


def _shaken(model: Any, x: Any, training: bool) -> dict[str, float]:
    """How far each answer moves when pictures do by a millionth: as far as rounding may carry it."""
    seeds = keras.random.SeedGenerator(2)

    def shake(tensor: Any) -> Any:
        if not keras.backend.is_float_dtype(tensor.dtype):
            return tensor
        return tensor + 1e-6 * keras.random.normal(ops.shape(tensor), dtype=tensor.dtype, seed=seeds)

    straight = answers_of(model, x, training)
    shaken = answers_of(model, keras.tree.map_structure(shake, x), training)
    return {name: difference(answer, shaken[name])[1] for name, answer in straight.items()}
