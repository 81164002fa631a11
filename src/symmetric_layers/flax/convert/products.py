"""Where the channels are after sums of products: positions may be weighed, channels only with their like."""

from typing import Any

from symmetric_layers.flax.convert.marks import Marks
from symmetric_layers.flax.convert.steps import WEIGHTS, lost, part, weighty
from symmetric_layers.flax.convert.still import sides
from symmetric_layers.sets import Mark


def product(marks: Marks, eqn: Any, place: str) -> None:
    """Follows channels through a `dot_general`."""
    left, right = (marks.of(var) for var in eqn.invars)
    if _stands(left) and _stands(right):
        found = _of_both(marks, eqn, place, left, right)
    elif _stands(left) or _stands(right):
        found = _of_one(marks, eqn, place, 0 if _stands(left) else 1)
    else:
        known = [mark for mark in (left, right) if mark is not None and mark.lost]
        found = marks.loses(known[0], known[0].lost) if known else marks.none()
    marks.put(eqn.outvars[0], found, place)


def _stands(mark: Mark | None) -> bool:
    return mark is not None and mark.dim is not None


def _of_both(marks: Marks, eqn: Any, place: str, left: Any, right: Any) -> Mark:
    """Both have channels: these are summed over together, or go side by side."""
    (inner, batch), dims = eqn.params["dimension_numbers"], (left.dim, right.dim)
    if dims in zip(*inner, strict=True) or dims in zip(*batch, strict=True):
        marks.sets.join(left.source, right.source)
        summed = left.dim in inner[0]
        return marks.none() if summed else left._replace(dim=_axes(eqn).index((0, left.dim)))
    for mark in (left, right):
        marks.refuse(mark, lost(place, "", "dot_general"))
    return marks.loses(left, "dot_general")


def _of_one(marks: Marks, eqn: Any, place: str, side: int) -> Mark:
    """One has channels: the other weighs its positions, or the channels, which nobody may but layers."""
    inner, batch = eqn.params["dimension_numbers"]
    mark: Any = marks.of(eqn.invars[side])
    if mark.dim in inner[side]:
        other = marks.of(eqn.invars[1 - side])
        how = other.lost if other is not None and other.lost.startswith(WEIGHTS) else "dot_general"
        marks.refuse(mark, weighty(place, how))
        marks.stop(mark, part(place, how))
        return marks.loses(mark, "dot_general")
    stands = (0, batch[0][batch[1].index(mark.dim)]) if side and mark.dim in batch[1] else (side, mark.dim)
    return mark._replace(dim=_axes(eqn).index(stands))


def _axes(eqn: Any) -> list[tuple[int, int]]:
    """Which axis of which side every axis of the answer is."""
    return [(1, right) if left is None else (0, left) for left, right in sides(eqn)]
