"""The last word on a converted network: the law, with random numbers everywhere."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import keras
from keras import ops

from symmetric_layers.errors import SymmetryError
from symmetric_layers.keras.channels import channel_axis
from symmetric_layers.keras.convert.rebuild import rebuilt
from symmetric_layers.keras.convert.walk import is_network, layers_of
from symmetric_layers.keras.law import answers_of, deviations, difference

ALLOWED = 1e-4  # relative; breaches are above 1e-3, rounding (float32 is all that some layers know) below 1e-5

Report = Callable[[str], Any] | None
_Symmetry = Mapping[str, int | str] | None


def randomised(model: Any) -> Any:
    """A copy in double precision whose numbers are all random, of a size that networks can bear."""
    seeds = keras.random.SeedGenerator(0)

    def make(layer: Any) -> Any:
        config = layer.get_config()
        config["dtype"] = "float64"
        for random in ("rate", "stddev"):  # dropout and noise tell left from right
            if random in config and not layer.weights:
                config[random] = 0.0
        new = type(layer).from_config(config)
        return new, lambda: new.set_weights([_random(weight, seeds) for weight in layer.weights])

    return rebuilt(model, make, "float64")


def _random(weight: Any, seeds: Any) -> Any:
    """Filters with the variance that keeps signals at their size, scales and variances about 1, offsets about 0."""
    shape = tuple(weight.shape)
    if not keras.backend.is_float_dtype(weight.dtype):
        return ops.convert_to_numpy(weight)
    inner = math.prod(shape[:-1])
    if len(shape) > 1 and inner > 1:
        drawn = math.sqrt(2 / inner) * keras.random.normal(shape, dtype="float64", seed=seeds)
    elif weight.name in ("bias", "beta", "moving_mean", "mean"):
        drawn = 0.3 * keras.random.normal(shape, dtype="float64", seed=seeds)
    else:
        drawn = keras.random.uniform(shape, 0.5, 1.5, dtype="float64", seed=seeds)
    return ops.convert_to_numpy(drawn)


def random_input(model: Any, example: Any) -> Any:
    """Pictures of the sizes that the model expects, or of the example's, with nothing alike in them."""
    seeds = keras.random.SeedGenerator(1)
    known = model.inputs if isinstance(model, keras.Sequential) else keras.tree.flatten(model.input)
    given = known if example is None else keras.tree.flatten(example)
    drawn = []
    for tensor, seen in zip(known, given, strict=True):
        shape = tuple(tensor.shape[:1]) + tuple(seen.shape[1:])
        if None in shape[1:]:
            raise SymmetryError(
                f"example: None does not say at which size the model is to be measured, whose input is "
                f"{tuple(tensor.shape)}. Expected pictures. Pass some of a usual size, or measure=False."
            )
        shape = (shape[0] or 2, *shape[1:])
        if keras.backend.is_float_dtype(tensor.dtype):
            drawn.append(keras.random.normal(shape, dtype="float64", seed=seeds))
        else:
            drawn.append(ops.zeros(shape, tensor.dtype))
    structure = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
    return keras.tree.pack_sequence_as(structure, drawn)


def law_error(model: Any, x: Any, axes: str, axis: int, training: bool) -> float:
    """How far the model is from the law, relatively."""
    rows = deviations(model, x, axes, None, lambda name: None, axis, training)
    return max((row.relative for row in rows), default=0.0)


def refuse_breach(
    model: Any, x: Any, axes: str, axis: int, report: Report, arranged: Callable[[str], _Symmetry]
) -> None:
    """Refuses a network that breaks the law, in its answers or in the orbits on the way, and names the first layer."""
    wild = randomised(model)
    answers = {f"answer {index}": tensor for index, tensor in enumerate(wild.outputs)}
    orbits = {layer.name: layer.output for layer in wild.layers if arranged(layer.name) and _answers_once(layer)}
    looked_at = keras.Model(wild.inputs, {**orbits, **answers})
    x = keras.tree.flatten(x)
    for training in (False, True):
        mode = "training" if training else "evaluation"
        rows = deviations(looked_at, x, axes, None, arranged, axis, training)
        found = {row.output: row for row in sorted(rows, key=lambda row: row.relative)}
        broken = [found[name] for name in (*orbits, *answers) if found[name].relative > ALLOWED]
        if not broken:
            continue
        first, worst = broken[0], max(row.relative for row in broken)
        if first.relative <= 10 * _shaken(looked_at, x, training, first.output):
            if report is not None:
                report(f"In {mode} mode rounding grows too large in this network to measure the law ({worst:.1e}).")
            continue
        raise SymmetryError(
            f"model: the converted network breaks the law by {worst:.1e} in {mode} mode, first at {first.output!r}. "
            f"Expected at most {ALLOWED:.0e}. Write that part with layers of Keras that mirror, or keep it ordinary "
            "with keep."
        )


def _answers_once(layer: Any) -> bool:
    """Whether a layer is called once, and answers one tensor; what models inside answer is told in their own graphs."""
    try:
        return not is_network(layer) and hasattr(layer.output, "shape")
    except (AttributeError, ValueError):
        return False


def _shaken(model: Any, x: Any, training: bool, name: str) -> float:
    """How far an answer moves when pictures do by a millionth: as far as rounding may carry it."""
    seeds = keras.random.SeedGenerator(2)

    def shake(tensor: Any) -> Any:
        if not keras.backend.is_float_dtype(tensor.dtype):
            return tensor
        return tensor + 1e-6 * keras.random.normal(ops.shape(tensor), dtype=tensor.dtype, seed=seeds)

    straight = answers_of(model, x, training)
    shaken = answers_of(model, keras.tree.map_structure(shake, x), training)
    return difference(straight[name], shaken[name])[1]


def channels_of(model: Any) -> int:
    """Where the model's pictures have their channels, -1 or 1."""
    formats = [getattr(layer, "data_format", None) for _, layer in layers_of(model)]
    return channel_axis(next((one for one in formats if one), keras.config.image_data_format()))
