"""Makes a model again with other layers in some places; what was there before stays as it is."""

import sys
import warnings
from collections.abc import Callable
from typing import Any

import keras

from symmetric_layers.errors import SymmetryError
from symmetric_layers.keras.convert.made import Made, copied
from symmetric_layers.keras.convert.walk import inputs_like, is_network, uncompiled

Shapes = Callable[[Any], list[Any] | None]


def rebuilt(
    model: Any, make: Callable[[Any], Made | None], dtype: str | None = None, shapes: Shapes = lambda inner: None
) -> Any:
    """A model of the same graph, with what `make` gives for a layer, and a copy where it gives None.

    Args:
        model: a Sequential or functional model; models inside it are made again, too.
        make: gives a new layer and what fills it with numbers once the new model is built.
        dtype: the type of the new model's inputs, where they are floating and are to be of another.
        shapes: of the inputs of a model inside it, where these are to have others.
    """
    fills: list[Callable[[], None]] = []
    inner: dict[int, Any] = {}  # models that are called several times are made once

    def clone(operation: Any) -> Any:
        if is_network(operation):
            if id(operation) not in inner:
                others = shapes(operation)
                inputs = None if dtype is None and others is None else inputs_like(operation, dtype, others)
                inner[id(operation)] = keras.models.clone_model(operation, inputs, clone)
            return inner[id(operation)]
        if not isinstance(operation, keras.layers.Layer):
            return type(operation).from_config(operation.get_config())
        new, fill = make(operation) or copied(operation)
        fills.append(fill)
        return new

    own = dtype is None and isinstance(model, keras.Sequential)  # which makes its input by itself, name and all
    try:
        with uncompiled(model):
            inputs = None if own else inputs_like(model, dtype)
            new = keras.models.clone_model(model, input_tensors=inputs, clone_function=clone)
            if not new.built:
                new.build(model.input_shape)
    except SymmetryError as refusal:
        if str(refusal).startswith("model:"):
            raise
        raise SymmetryError(f"model: it cannot be converted. {refusal}") from None
    for fill in fills:
        fill()
    _freeze(model, new)
    if dtype is None:
        compile_like(model, new)
    return new


def _freeze(old: Any, new: Any) -> None:
    """Models that are not trained as a whole stay so."""
    if not old.trainable:
        new.trainable = False
    for layer in old.layers:
        if is_network(layer):
            _freeze(layer, new.get_layer(layer.name))


def compile_like(old: Any, new: Any) -> None:
    """Compiles a new model like the old one, as far as configs can tell; says what is lost."""
    if type(new) is not type(old):
        warnings.warn(f"model: the new one is a {type(new).__name__}, no {type(old).__name__}.", stacklevel=outside())
    if not old.compiled:
        return
    try:
        new.compile_from_config(old.get_compile_config())
    except (TypeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        sentence = f"model: the new one is not compiled like the old one ({reason}). Compile it."
        warnings.warn(sentence, stacklevel=outside())


def outside() -> int:
    """How many calls lie between a warning and the line of the user that it is about."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals["__name__"].startswith("symmetric_layers."):
        frame, level = frame.f_back, level + 1
    return level
