"""Where the channels are after a reshape: they may be split into heads and put together again."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from symmetric_layers.flax.convert.marks import Marks

Run = tuple[list[int], list[int]]


def reshape(marks: Marks, eqn: Any, place: str) -> None:
    """Follows channels through a `reshape`."""
    (var, *_), (answer,) = eqn.invars, eqn.outvars
    order = list(eqn.params["dimensions"] or range(len(var.aval.shape)))  # axes may change places before
    mark, old, new = marks.of(var), [var.aval.shape[axis] for axis in order], answer.aval.shape
    dim = None if mark is None or mark.dim is None else order.index(mark.dim)
    still, heads = ({order.index(axis) for axis in axes} for axes in (marks.still.of(var), marks.still.heads(var)))
    runs = list(_runs(old, new))
    how = next(filter(None, (_mixed(ours, dim, still, heads) for ours, _ in runs)), "")
    _keep(marks, answer, runs, (dim, still, heads))
    if mark is not None and dim is not None:
        stands = _stands(runs, old, new, dim)
        mark = marks.loses(mark, how or "reshape") if how or stands is None else mark._replace(dim=stands)
        if stands is not None and not how and new[stands] != old[dim]:
            marks.cut(mark, place, new[stands])
        if how == "reshape" and order == sorted(order) and (dim, len(old)) == (marks.axes - 1, marks.axes):
            marks.flatten(answer, _whole_map(runs, old, new))
    marks.put(answer, mark, place)


def _runs(old: Sequence[int], new: Sequence[int]) -> Iterator[Run]:
    """The shortest runs of axes that become one another; axes of size 1 are in none of them."""
    left, right = (_sizes(shape) for shape in (old, new))
    if math.prod(left.values()) != math.prod(right.values()):  # of nothing, anything can be made
        yield list(left), list(right)
        return
    while left:
        ours, theirs = [next(iter(left))], [next(iter(right))]
        most = [left.pop(ours[0]), right.pop(theirs[0])]
        while most[0] != most[1]:
            side = int(most[1] < most[0])
            axis = next(iter((left, right)[side]))
            (ours, theirs)[side].append(axis)
            most[side] *= (left, right)[side].pop(axis)
        yield ours, theirs


def _sizes(shape: Sequence[int]) -> dict[int, int]:
    """The sizes of axes, those of size 1 left out; an empty one has a size that no other has."""
    return {axis: size or 2**31 - 1 for axis, size in enumerate(shape) if size != 1}


def _mixed(ours: list[int], dim: int | None, still: set[int], heads: set[int]) -> str:
    """How the channels cannot be told apart any more from what is along these axes; nothing where they can."""
    if dim not in ours and heads.isdisjoint(ours):
        return ""
    if not still.issuperset(set(ours) - {dim}):
        return "reshape"
    return "" if dim not in ours or dim == ours[-1] else "a shuffle of channels"


def _stands(runs: list[Run], old: Sequence[int], new: Sequence[int], dim: int) -> int | None:
    """Where the channels stand: on the last axis that theirs becomes."""
    if old[dim] != 1:
        return next(theirs[-1] for ours, theirs in runs if dim in ours)
    before = math.prod(old[:dim])
    return max((axis for axis, size in enumerate(new) if size == 1 and math.prod(new[:axis]) == before), default=None)


def _whole_map(runs: list[Run], old: Sequence[int], new: Sequence[int]) -> Sequence[int]:
    """The shape of a map, all of which but the batch becomes one axis, the last one; else nothing."""
    return old[1:] if ([axis for axis in range(1, len(old)) if old[axis] != 1], [len(new) - 1]) in runs else ()


def _keep(marks: Marks, answer: Any, runs: list[Run], known: tuple[int | None, set[int], set[int]]) -> None:
    """Notes the axes that no mirror moves."""
    dim, still, heads = known
    after = {axis for axis, size in enumerate(answer.aval.shape) if size == 1}
    split: set[int] = set()
    for ours, theirs in runs:
        if still.issuperset(set(ours) - {dim}):
            after.update(theirs[:-1] if dim in ours else theirs)
            split.update((theirs[:-1] if dim in ours else theirs) if dim in ours or not heads.isdisjoint(ours) else ())
    marks.still.put(answer, frozenset(after), frozenset(split))
