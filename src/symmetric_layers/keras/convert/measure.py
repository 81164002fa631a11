"""The last word on a converted network: the law, with random numbers everywhere."""

import math
from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from symmetric_layers.errors import SymmetryError
from symmetric_layers.keras.channels import channel_axis
from symmetric_layers.keras.convert.rebuild import rebuilt
from symmetric_layers.keras.law import Deviation, deviations
from symmetric_layers.sets import Mark

ALLOWED = 1e-4  # relative; breaches are above 1e-3, rounding (of layers that know float32 alone, too) is below 1e-5

_Symmetry = Mapping[str, int | str]


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
    """Filters with the variance that keeps signals at their size; all else positive (variances among it)."""
    shape = tuple(weight.shape)
    if not keras.backend.is_float_dtype(weight.dtype):
        return ops.convert_to_numpy(weight)
    inner = math.prod(shape[:-1])
    if len(shape) > 1 and inner > 1:
        return ops.convert_to_numpy(keras.random.normal(shape, dtype="float64", seed=seeds)) / math.sqrt(inner)
    return ops.convert_to_numpy(keras.random.uniform(shape, 0.5, 1.5, dtype="float64", seed=seeds))


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


def law_error(model: Any, x: Any, axes: str, axis: int, training: bool) -> list[Deviation]:
    """How far the model is from the law."""
    return deviations(model, x, axes, None, lambda name: None, axis, training)


def refuse_breach(model: Any, x: Any, axes: str, axis: int, answers: Mapping[str, Mark], is_plain: Any) -> None:
    """Refuses a network that breaks the law, and names the first layer that does."""
    wild = randomised(model)
    for training in (False, True):
        worst = max((row.relative for row in law_error(wild, x, axes, axis, training)), default=0.0)
        if worst <= ALLOWED:
            continue
        name = _offender(wild, x, axes, axis, training, answers, is_plain)
        raise SymmetryError(
            f"model: the converted network breaks the law by {worst:.1e} in {'training' if training else 'evaluation'} "
            f"mode, first at {name!r}. Expected at most {ALLOWED:.0e}. Write that part with layers of Keras that "
            "mirror, or keep it ordinary with keep."
        )


def _offender(
    model: Any, x: Any, axes: str, axis: int, training: bool, answers: Mapping[str, Mark], is_plain: Any
) -> str:
    """The first layer whose answer breaks the law by what its channels are."""
    outputs, arranged = {}, {}
    for layer in model.layers:
        mark = answers.get(layer.name)
        try:
            output = layer.output
        except (AttributeError, ValueError):  # an input, or a layer that is called several times
            continue
        if mark is not None and mark.dim is not None and hasattr(output, "shape"):
            outputs[layer.name] = output
            arranged[layer.name] = None if is_plain(mark.source) else {axes: "100%"}
    all_of_them = keras.Model(model.inputs, outputs)
    for row in deviations(all_of_them, x, axes, None, arranged.__getitem__, axis, training):
        if row.relative > ALLOWED:
            return row.output
    return "its answer"


def channels_of(model: Any) -> int:
    """Where the model's pictures have their channels, -1 or 1."""
    formats = [getattr(layer, "data_format", None) for layer in model.layers]
    return channel_axis(next((one for one in formats if one), keras.config.image_data_format()))
