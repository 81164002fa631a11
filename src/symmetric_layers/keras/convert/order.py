"""In which order a map is flattened: sent through with its places for numbers, it tells."""

import math
from typing import Any, NamedTuple

import keras
from keras import ops

from symmetric_layers.keras.convert.kinds import kind_of


class Flat(NamedTuple):
    """The map behind a vector: its sizes in the order in which it is flattened, and which of them are the channels."""

    shape: tuple[int, ...]
    axis: int


def flat_of(operation: Any, call: Any, tensor: Any, answer: Any, dim: int) -> Flat | None:
    """What an operation has flattened; None where it does something else, or where there are no positions."""
    sizes = tuple(tensor.shape[1:])
    reshapes = kind_of(operation, (keras.layers.Flatten, keras.layers.Reshape)) or type(operation).__name__ == "Reshape"
    if not reshapes or len(answer.shape) != 2 or None in sizes or tuple(answer.shape[1:]) != (math.prod(sizes),):
        return None
    if math.prod(sizes) == sizes[dim - 1] or dim == 0:
        return None
    numbers = ops.reshape(ops.arange(math.prod(sizes), dtype="int32"), (1, *sizes))
    arguments, others = keras.tree.map_structure(lambda given: numbers if given is tensor else given, call)
    seen = ops.convert_to_numpy(operation(*arguments, **others)).ravel()
    places, others_first = ops.convert_to_numpy(numbers)[0], [axis for axis in range(len(sizes)) if axis != dim - 1]
    if (seen == places.ravel()).all():
        return Flat(sizes, dim - 1 - (len(sizes) if dim == len(sizes) else 0))
    if (seen == places.transpose(*others_first, dim - 1).ravel()).all():  # as the host does where channels come first
        return Flat((*(sizes[axis] for axis in others_first), sizes[dim - 1]), -1)
    return None
