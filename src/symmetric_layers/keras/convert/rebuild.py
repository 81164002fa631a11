"""Makes a model again with other layers in some places; what was there before stays as it is."""

from collections.abc import Callable
from typing import Any

import keras

from symmetric_layers.keras.convert.made import Made, copied
from symmetric_layers.keras.convert.walk import inputs_like


def rebuilt(model: Any, make: Callable[[Any], Made | None], dtype: str | None = None) -> Any:
    """A model of the same graph, with what `make` gives for a layer, and a copy where it gives None.

    Args:
        model: a Sequential or functional model; models inside it are made again, too.
        make: gives a new layer and what fills it with numbers once the new model is built.
        dtype: the type of the new model's inputs, where they are floating and are to be of another.
    """
    fills: list[Callable[[], None]] = []

    def clone(operation: Any) -> Any:
        if not isinstance(operation, keras.layers.Layer):
            return type(operation).from_config(operation.get_config())
        new, fill = make(operation) or copied(operation)
        fills.append(fill)
        return new

    inputs = inputs_like(model, dtype) if dtype else None
    new = keras.models.clone_model(model, input_tensors=inputs, clone_function=clone, recursive=True)
    if not new.built:
        new.build(model.input_shape)
    for fill in fills:
        fill()
    if model.compiled and not new.compiled:  # older hosts leave Sequential models uncompiled
        new.compile_from_config(model.get_compile_config())
    return new
