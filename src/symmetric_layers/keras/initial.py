"""How what is stored starts: as the representatives of a full bank that the host's initializer has drawn."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from symmetric_layers.orbits import Plan


class Representatives:
    """Draws the full bank as the host's layer does, and keeps the representatives: their variance is the host's."""

    def __init__(self, initializer: Any, shape: Sequence[int], axis: int, plan: Plan) -> None:
        self.initializer = keras.initializers.get("glorot_uniform" if initializer is None else initializer)
        self.shape = tuple(shape)
        self.axis = axis
        self.first = list(plan.firsts)

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Any:
        return ops.take(self.initializer(self.shape, dtype=dtype), self.first, axis=self.axis)
