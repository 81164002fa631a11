"""Which axes of the arrays in a graph no mirror moves: those of batches, of copies, and of heads of channels."""

from collections.abc import Mapping
from typing import Any

Axes = frozenset[int]

UNKNOWN = -1  # in the place of an axis


class Still:
    """The axes of arrays along which nothing moves in the mirror; of numbers that stand in the graph, all of them.

    Channels that are reshaped to heads stand on the last of the new axes, the others are those of heads: with them
    channels may be put together again, as with copies and batches, and not with positions.
    """

    def __init__(self) -> None:
        self._still: dict[Any, Axes] = {}
        self._heads: dict[Any, Axes] = {}

    def of(self, var: Any) -> Axes:
        """The axes that no mirror moves."""
        return _axes(var) if hasattr(var, "val") else self._still.get(var, _axes(var))

    def heads(self, var: Any) -> Axes:
        """Those of them into which channels were split."""
        return frozenset() if hasattr(var, "val") else self._heads.get(var, frozenset())

    def put(self, var: Any, still: Axes, heads: Axes = frozenset()) -> None:
        """What is known of an array from here on."""
        self._still[var], self._heads[var] = still, heads & still

    def copy(self, one: Any, other: Any) -> None:
        """What is known of the one is known of the other."""
        self.put(other, self.of(one), self.heads(one))

    def follow(self, eqn: Any) -> None:
        """Finds these axes after a step that is no reshape."""
        for answer in eqn.outvars:
            found: dict[int, list[tuple[Any, int]]] = {axis: [] for axis in _axes(answer)}
            for side, var in enumerate(eqn.invars):
                for axis, place in _places(eqn, side, len(answer.aval.shape)).items():
                    if place == UNKNOWN or var.aval.shape[place] != 1:
                        found[axis].append((var, place))
            still = {axis for axis, ones in found.items() if all(place in self.of(var) for var, place in ones)}
            heads = {axis for axis, ones in found.items() if any(place in self.heads(var) for var, place in ones)}
            self.put(answer, frozenset(still), frozenset(heads))


def _axes(var: Any) -> Axes:
    return frozenset(range(len(var.aval.shape)))


def _places(eqn: Any, side: int, rank: int) -> Mapping[int, int]:
    """By the axes of an answer: which ones they were of an array that a step reads."""
    sort, params, own = eqn.primitive.name, eqn.params, len(eqn.invars[side].aval.shape)
    if sort == "transpose":
        return dict(enumerate(params["permutation"]))
    if sort == "broadcast_in_dim":
        return {axis: place for place, axis in enumerate(params["broadcast_dimensions"][:own])}
    if sort == "dot_general":
        return {axis: places[side] for axis, places in enumerate(sides(eqn)) if places[side] is not None}
    if sort in ("squeeze", "unstack") or sort.startswith(("reduce_", "arg")):
        names = {"squeeze": "dimensions", "unstack": "axis"}
        gone = params.get(names.get(sort, "axes"), ())
        gone = (gone,) if isinstance(gone, int) else gone
        return dict(enumerate(axis for axis in range(own) if axis not in gone))
    if sort == "stack":
        return {axis: axis - (axis > params["axis"]) for axis in range(rank) if axis != params["axis"]}
    known = own == rank and sort not in ("gather", "conv_general_dilated")
    return {axis: axis if known else UNKNOWN for axis in range(rank)} if own else {}


def sides(eqn: Any) -> list[tuple[Any, Any]]:
    """What every axis of a product was of both its sides: those that both have, then what each has alone."""
    inner, batch = eqn.params["dimension_numbers"]
    free = [
        [axis for axis in range(len(var.aval.shape)) if axis not in (*inner[side], *batch[side])]
        for side, var in enumerate(eqn.invars)
    ]
    return [*zip(*batch, strict=True), *((axis, None) for axis in free[0]), *((None, axis) for axis in free[1])]
