"""Models that are called for each moment of a film become models whose layers are."""

from typing import Any

import keras

from symmetric_layers.keras.convert.kinds import MERGES, kind_of
from symmetric_layers.keras.convert.made import Made, again, around
from symmetric_layers.keras.convert.rebuild import rebuilt
from symmetric_layers.keras.convert.walk import inputs_like, is_network, layers_of, uncompiled, walk


def spread_out(model: Any) -> Any:
    """The model with every `TimeDistributed(model)` written out, layer by layer; itself where there is none."""
    if not any(_wraps_network(layer) for _, layer in layers_of(model)):
        return model
    with uncompiled(model):
        return rebuilt(model, lambda layer: _written_out(layer) if _wraps_network(layer) else None)


def _wraps_network(layer: Any) -> bool:
    return kind_of(layer, (keras.layers.TimeDistributed,)) and is_network(layer.layer)


def _written_out(layer: Any) -> Made | None:
    """A model of layers for each moment; None where something in it is no layer that can be called so."""
    pairs: list[tuple[Any, Any]] = []
    try:
        new = _each(layer.layer, layer.name, layer.input.shape[1], pairs)
    except NotImplementedError:
        return None
    if not layer.trainable:
        new.trainable = False

    def fill() -> None:
        for one, other in pairs:
            other.set_weights(one.get_weights())

    return new, fill


def _each(network: Any, name: str, moments: int | None, pairs: list[tuple[Any, Any]]) -> Any:
    made: dict[int, Any] = {}  # what is called several times is made once

    def visit(operation: Any, *arguments: Any, **others: Any) -> Any:
        if id(operation) not in made:
            flat = keras.tree.flatten((arguments, others))
            given = [one for one in flat if keras.backend.is_keras_tensor(one)]
            if is_network(operation):
                made[id(operation)] = _each(operation, operation.name, moments, pairs)
            else:
                made[id(operation)] = _for_each_moment(operation, given)
                pairs.append((operation, made[id(operation)]))
        return made[id(operation)](*arguments, **others)

    shapes = [(tensor.shape[0], moments, *tensor.shape[1:]) for tensor in keras.tree.flatten(inputs_like(network))]
    inputs = inputs_like(network, shapes=shapes)
    new = keras.Model(inputs, walk(network, inputs, visit), name=name)
    if not network.trainable:
        new.trainable = False
    return new


def _for_each_moment(operation: Any, given: list[Any]) -> Any:
    last = kind_of(operation, (keras.layers.Concatenate,)) and operation.axis == -1
    if kind_of(operation, MERGES) or last:  # which do not mind another axis
        return again(operation)
    if not isinstance(operation, keras.layers.Layer) or len(given) != 1:
        raise NotImplementedError(operation.name)
    return around(operation, again(operation))
