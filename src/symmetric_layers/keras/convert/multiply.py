"""Products of pictures with pictures, as in attention: which axes are summed, which are left, and which count channels.

Where channels meet channels, none are left; where other numbers weigh them, they are lost.
"""

from collections.abc import Sequence
from typing import Any

import keras

from symmetric_layers.keras.convert.kinds import kind_of

Axes = list[str]  # a name for every axis of a tensor; axes of one name go together


def axes_in_product(operation: Any, given: Sequence[Any]) -> tuple[list[Axes], Axes] | None:
    """The names of the axes of two tensors and of their product; None where an operation is no product."""
    ranks = [len(tensor.shape) for tensor in given]
    if len(ranks) != 2 or min(ranks) < 2:
        return None
    sort = type(operation).__name__
    if sort == "Matmul":
        batch = [[f"batch {place}" for place in range(rank - 2, 0, -1)] for rank in ranks]
        return [[*batch[0], "n", "m"], [*batch[1], "m", "k"]], [*max(batch, key=len), "n", "k"]
    if sort == "Einsum" and "." not in operation.subscripts and "->" in operation.subscripts:
        left, right = operation.subscripts.replace(" ", "").split("->")
        return [list(term) for term in left.split(",")], list(right)
    if kind_of(operation, (keras.layers.Dot,)):
        axes = [operation.axes] * 2 if isinstance(operation.axes, int) else operation.axes
        summed = [axis % rank for axis, rank in zip(axes, ranks, strict=True)]
        names = [
            ["batch" if not axis else "summed" if axis == here else f"{place} {axis}" for axis in range(rank)]
            for place, (rank, here) in enumerate(zip(ranks, summed, strict=True))
        ]
        return names, ["batch", *(name for term in names for name in term if name not in ("batch", "summed"))]
    return None
