"""Products of pictures with pictures, as in attention: which axes are summed, which are left, and which count channels.

Where channels meet channels, none are left; where other numbers weigh them, they are lost.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

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


class Sums(NamedTuple):
    """Where the features of a dense layer stand that is written as a sum of products, counted from the last axis.

    Attributes:
        read, made: their axes in what it reads, and in what it answers; None where there is none.
        rows, columns: their axes in the kernel, counted from the first.
    """

    read: int | None
    made: int
    rows: int | None
    columns: int | None

    @classmethod
    def of(cls, equation: str, letters: str) -> "Sums":
        """Of an equation, and of the letters of both axes in it (a dot for one that there is not)."""
        read, kernel, answer = _terms(equation)
        row, column = letters[0], letters[1]
        return cls(
            read.index(row) - len(read) if row in read else None,
            answer.index(column) - len(answer) if column in answer else -1,
            kernel.index(row) if row in kernel else None,
            kernel.index(column) if column in kernel else None,
        )


def letters_summed(equation: str, axis: int | None) -> str | None:
    """The letters of the features that a dense layer reads and makes; None where it sums over other axes alone.

    Args:
        equation: how the layer is written.
        axis: where the features stand in what it reads, counted from the last axis; None: nothing there counts them.
    """
    if equation.split(",")[0].endswith("..."):  # axes counted from the first are another matter
        return None
    read, kernel, answer = _terms(equation)
    summed = [letter for letter in read if letter in kernel and letter not in answer]
    made = [letter for letter in answer if letter in kernel and letter not in read]
    row = (summed or ["."])[-1] if axis is None else read[axis] if -axis <= len(read) else "."
    if axis is not None and row not in summed:
        return None
    return row + (made or ["."])[-1]


def _terms(equation: str) -> tuple[str, str, str]:
    """What is read, the kernel, and what is answered; without dots, which hold no features where they stand first."""
    left, answer = equation.split("->")
    read, kernel = left.split(",")
    return read.replace("...", ""), kernel, answer.replace("...", "")
