"""What a layer was made with, functions among it as they live here: a config knows them by name at best."""

from types import FunctionType
from typing import Any

import keras
from keras import layers

_FUNCTIONS = ("activation", "_initializer", "_regularizer", "_constraint")


def config_of(old: Any) -> dict[str, Any]:
    """The config of a layer, in which functions that the host does not have by itself stand as they are."""
    found = vars(old).items()
    own = {name: value for name, value in found if name.endswith(_FUNCTIONS) and _is_own(value)}
    try:
        for name in own:  # what has no name cannot be written down
            setattr(old, name, keras.activations.linear if name.endswith("activation") else None)
        config = dict(old.get_config())
    finally:
        for name, value in own.items():
            setattr(old, name, value)
    return {**config, **{name: value for name, value in own.items() if name in config}}


def lambda_of(old: Any, **instead: Any) -> Any:
    """A `Lambda` of the same function, which a config would tear out of what is around it."""
    base = {**layers.Layer.get_config(old), **instead}
    return layers.Lambda(old.function, old._output_shape, old.mask, old.arguments, **base)


def widened(config: Any, dtype: str) -> Any:
    """A config of layers in other layers, all of them computing in this type."""
    if isinstance(config, (list, tuple)):
        return type(config)(widened(one, dtype) for one in config)
    if not isinstance(config, dict):
        return config
    known = config.get("dtype")
    floats = isinstance(known, dict) or (isinstance(known, str) and keras.backend.is_float_dtype(known))
    return {key: dtype if key == "dtype" and floats else widened(value, dtype) for key, value in config.items()}


def _is_own(value: Any) -> bool:
    """Whether something can be called, and is no activation or object of the host's."""
    place = getattr(value, "__module__", None) or ""  # of an object, that of its class
    theirs = "keras.src.activations." if isinstance(value, FunctionType) else "keras."
    return callable(value) and not place.startswith(theirs)
