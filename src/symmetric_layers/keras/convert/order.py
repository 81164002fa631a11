"""In which order a map is flattened: sent through with its places for numbers, it tells."""

import math
from typing import Any, NamedTuple

import keras
from keras import ops

from symmetric_layers.keras.convert.kinds import each_of, kind_of


class Flat(NamedTuple):
    """The map behind a vector: its sizes in the order in which it is flattened, and which of them are the channels."""

    shape: tuple[int, ...]
    axis: int


def flat_of(operation: Any, call: Any, tensor: Any, answer: Any, dim: int) -> Flat | None:
    """What an operation has flattened; None where it does something else, or where there are no positions."""
    own, rows = each_of(operation), 1 if each_of(operation) is operation else 2  # pictures, or moments of films
    sizes, dim = tuple(tensor.shape[rows:]), dim - rows
    reshapes = kind_of(own, (keras.layers.Flatten, keras.layers.Reshape)) or type(operation).__name__ == "Reshape"
    if not reshapes or dim < 0 or None in sizes or tuple(answer.shape[rows:]) != (math.prod(sizes),):
        return None
    if math.prod(sizes) == sizes[dim]:
        return None
    numbers = ops.reshape(ops.arange(math.prod(sizes), dtype="int32"), (*[1] * rows, *sizes))
    arguments, others = keras.tree.map_structure(lambda given: numbers if given is tensor else given, call)
    seen = ops.convert_to_numpy(operation(*arguments, **others)).ravel()
    places = ops.convert_to_numpy(numbers).reshape(sizes)
    others_first = [axis for axis in range(len(sizes)) if axis != dim]
    if (seen == places.ravel()).all():
        return Flat(sizes, -1 if dim == len(sizes) - 1 else dim)
    if (seen == places.transpose(*others_first, dim).ravel()).all():  # as the host does where channels come first
        return Flat((*(sizes[axis] for axis in others_first), sizes[dim]), -1)
    return None
