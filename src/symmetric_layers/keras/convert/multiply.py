"""Products of pictures with pictures, as in attention: which axes are summed, which are left, and which count channels.

Where channels meet channels, none are left; where other numbers weigh them, they are lost.
"""

from collections.abc import Sequence
from typing import Any

import keras

from symmetric_layers.keras.convert.kinds import kind_of
from symmetric_layers.sets import Mark, Sets

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


def product(sets: Sets, name: str, marks: Sequence[Mark], terms: Sequence[Axes], answer: Axes) -> Mark:
    """What is known of a product of two tensors."""
    places = [term[mark.dim] if mark.dim is not None else "" for term, mark in zip(terms, marks, strict=True)]
    counting = {place: mark for place, mark in zip(places, marks, strict=True) if place}
    for place, mark in zip(places, marks, strict=True):
        if place:
            sets.join(counting[place].source, mark.source)
    left = [axis for axis in counting if axis in answer]
    weighed = [
        axis
        for axis in counting
        if axis not in answer and any(axis in term and axis != place for term, place in zip(terms, places, strict=True))
    ]
    lost = next((mark.lost for mark in marks if mark.lost), name if weighed or len(left) > 1 else "")
    if lost:
        sets.join(marks[0].source, marks[1].source)
        return Mark(marks[0].source, None, lost)
    if left:
        return Mark(counting[left[0]].source, answer.index(left[0]))
    return Mark(sets.new(plain=True) if counting else marks[0].source, None)
