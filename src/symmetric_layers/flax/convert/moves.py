"""Where the channels are after each step that sends numbers elsewhere, or takes several together."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from symmetric_layers.flax.convert.marks import Marks
from symmetric_layers.flax.convert.products import product
from symmetric_layers.flax.convert.reshapes import reshape
from symmetric_layers.flax.convert.steps import WEIGHTS, part, weighty
from symmetric_layers.sets import Mark

Move = Callable[[Marks, Any, str], None]


def _broadcast(marks: Marks, eqn: Any, place: str) -> None:
    (var, *_), (answer,) = eqn.invars, eqn.outvars
    mark = marks.of(var)
    if mark is not None and mark.dim is not None:
        dim = eqn.params["broadcast_dimensions"][mark.dim]
        if var.aval.shape[mark.dim] != answer.aval.shape[dim]:  # one number for all channels
            marks.sets.make_plain(mark.source)
            mark = Mark(mark.source, None)
        else:
            mark = mark._replace(dim=dim)
    marks.put(answer, mark, place)


def _transpose(marks: Marks, eqn: Any, place: str) -> None:
    mark = marks.of(eqn.invars[0])
    order = list(eqn.params["permutation"])
    dim = None if mark is None or mark.dim is None else order.index(mark.dim)
    marks.put(eqn.outvars[0], mark and mark._replace(dim=dim), place)


def _without(axes: Sequence[int], dim: int) -> int:
    """Where an axis stands when others are gone."""
    return dim - sum(axis < dim for axis in axes)


def _squeeze(marks: Marks, eqn: Any, place: str) -> None:
    mark, axes = marks.of(eqn.invars[0]), eqn.params["dimensions"]
    if mark is not None and mark.dim is not None:
        mark = marks.alone(mark) if mark.dim in axes else mark._replace(dim=_without(axes, mark.dim))
    marks.put(eqn.outvars[0], mark, place)


def _reduce(marks: Marks, eqn: Any, place: str) -> None:
    axes, chooses = eqn.params["axes"], eqn.primitive.name.startswith("arg")
    for var, answer in zip(eqn.invars, eqn.outvars, strict=False):
        mark = marks.of(var)
        if mark is not None and mark.lost.startswith(WEIGHTS) and not answer.aval.shape:
            mark = marks.none()  # one number
        elif mark is not None and mark.dim is not None and mark.dim in axes:
            if var.aval.shape[mark.dim] == 1:
                marks.alone(mark)
            mark = marks.loses(mark, eqn.primitive.name) if chooses else marks.none()
        elif mark is not None and mark.dim is not None:
            mark = mark._replace(dim=_without(axes, mark.dim))
        marks.put(answer, mark, place)


def _pad(marks: Marks, eqn: Any, place: str) -> None:
    """Zeros beside channels are channels that no mirror changes: whole orbits of them may be added."""
    mark = marks.of(eqn.invars[0])
    if mark is not None and mark.dim is not None:
        low, high, inside = eqn.params["padding_config"][mark.dim]
        if inside or low < 0 or high < 0:
            mark = marks.loses(mark, "pad")
        else:
            marks.cut(mark, place, low)
            marks.cut(mark, place, high)
    marks.put(eqn.outvars[0], mark, place)


def _written(marks: Marks, eqn: Any, place: str) -> None:
    """Numbers that are written into an array: it keeps its channels, and what is written belongs to them."""
    mark, whole = marks.of(eqn.invars[0]), eqn.invars[0].aval.shape
    for var in eqn.invars[1:]:
        other = marks.of(var)
        if mark is not None and other is not None and mark.dim is not None and other.dim is not None:
            behind = len(whole) - mark.dim == len(var.aval.shape) - other.dim
            if behind and whole[mark.dim] == var.aval.shape[other.dim]:
                marks.sets.join(mark.source, other.source)
            else:
                mark = marks.loses(mark, eqn.primitive.name)
    marks.put(eqn.outvars[0], mark, place)


def _along(param: str) -> Move:
    """Steps along one axis, which is not to be that of the channels."""

    def move(marks: Marks, eqn: Any, place: str) -> None:
        axis = eqn.params[param]
        for var, answer in zip(eqn.invars, _padded(eqn.outvars, len(eqn.invars)), strict=False):
            mark = marks.of(var)
            if mark is not None and mark.dim == axis % len(var.aval.shape):
                mark = marks.loses(mark, eqn.primitive.name)
            marks.put(answer, mark, place)

    return move


def _padded(found: Sequence[Any], count: int) -> list[Any]:
    return [*found, *[found[-1]] * (count - len(found))]


def _top(marks: Marks, eqn: Any, place: str) -> None:
    mark = marks.of(eqn.invars[0])
    if mark is not None and mark.dim == len(eqn.invars[0].aval.shape) - 1:
        mark = marks.loses(mark, "top_k")
    for answer in eqn.outvars:
        marks.put(answer, mark, place)


def _untouched(touched: Callable[[Any, int], bool]) -> Move:
    """Steps that leave every axis where it is; `touched` says whether they do something along that of the channels."""

    def move(marks: Marks, eqn: Any, place: str) -> None:
        mark = marks.of(eqn.invars[0])
        if mark is not None and mark.dim is not None and touched(eqn, mark.dim):
            mark = marks.loses(mark, eqn.primitive.name)
        marks.put(eqn.outvars[0], mark, place)

    return move


def _slice(marks: Marks, eqn: Any, place: str) -> None:
    (var,), (answer,), mark = eqn.invars, eqn.outvars, marks.of(eqn.invars[0])
    if mark is not None and mark.dim is not None:
        dim, steps = mark.dim, eqn.params["strides"]
        if steps is not None and steps[dim] != 1:
            mark = marks.loses(mark, "slice")
        elif var.aval.shape != answer.aval.shape:
            marks.cut(mark, place, eqn.params["start_indices"][dim])
            marks.cut(mark, place, eqn.params["limit_indices"][dim])
    marks.put(answer, mark, place)


def _dynamic_slice(marks: Marks, eqn: Any, place: str) -> None:
    mark, sizes = marks.of(eqn.invars[0]), eqn.params["slice_sizes"]
    if mark is not None and mark.dim is not None and sizes[mark.dim] != eqn.invars[0].aval.shape[mark.dim]:
        if sizes[mark.dim] == 1:
            marks.cut(mark, place, 1)
        else:
            mark = marks.loses(mark, "dynamic_slice")
    marks.put(eqn.outvars[0], mark, place)


def _split(marks: Marks, eqn: Any, place: str) -> None:
    mark, start = marks.of(eqn.invars[0]), 0
    for answer, size in zip(eqn.outvars, eqn.params["sizes"], strict=True):
        start += size
        if mark is not None and mark.dim == eqn.params["axis"]:
            marks.cut(mark, place, start)
        marks.put(answer, mark, place)


def _unstack(marks: Marks, eqn: Any, place: str) -> None:
    mark, axis = marks.of(eqn.invars[0]), eqn.params["axis"]
    if mark is not None and mark.dim is not None:
        mark = marks.alone(mark) if mark.dim == axis else mark._replace(dim=_without([axis], mark.dim))
    for answer in eqn.outvars:
        marks.put(answer, mark, place)


def _concatenate(marks: Marks, eqn: Any, place: str) -> None:
    found = marks.known(eqn)
    marks.put(eqn.outvars[0], marks.beside(found, place, eqn.params["dimension"]), place)


def _stack(marks: Marks, eqn: Any, place: str) -> None:
    found = marks.known(eqn)
    mark = marks.beside(found, place, -1)
    dim = None if mark.dim is None else mark.dim + (eqn.params["axis"] <= mark.dim)
    marks.put(eqn.outvars[0], mark._replace(dim=dim), place)


def _gather(marks: Marks, eqn: Any, place: str) -> None:
    """Picks along some axes; those that are taken whole keep their order."""
    (var, *_), (answer,), how = eqn.invars, eqn.outvars, eqn.params["dimension_numbers"]
    mark = marks.of(var)
    if mark is not None and mark.dim is not None:
        batch = tuple(getattr(how, "operand_batching_dims", ()))
        left = [axis for axis in range(len(var.aval.shape)) if axis not in (*how.collapsed_slice_dims, *batch)]
        if eqn.params["slice_sizes"][mark.dim] == var.aval.shape[mark.dim] and mark.dim in left:
            mark = mark._replace(dim=how.offset_dims[left.index(mark.dim)])
        elif mark.dim in how.collapsed_slice_dims and math.prod(eqn.invars[1].aval.shape[:-1]) == 1:
            mark = marks.alone(mark)
        else:
            mark = marks.loses(mark, "an index")
    marks.put(answer, mark, place)


def _convolve(marks: Marks, eqn: Any, place: str) -> None:
    found = marks.known(eqn)
    how = next((one.lost for one in found[1:] if one.lost), eqn.primitive.name)
    for mark in found:
        marks.refuse(mark, weighty(place, how))
        marks.stop(mark, part(place, how))
    marks.put(eqn.outvars[0], marks.loses(found[0], eqn.primitive.name), place)


_WINDOWED = _untouched(lambda eqn, dim: eqn.params["window_dimensions"][dim] != 1)
_CUMULATED, _ORDERED = _along("axis"), _along("dimension")

MOVES: dict[str, Move] = {
    "reshape": reshape, "broadcast_in_dim": _broadcast, "transpose": _transpose, "squeeze": _squeeze,
    "slice": _slice, "split": _split, "concatenate": _concatenate, "stack": _stack, "unstack": _unstack,
    "gather": _gather,
    "dot_general": product, "conv_general_dilated": _convolve, "sort": _ORDERED, "top_k": _top,
    "rev": _untouched(lambda eqn, dim: dim in eqn.params["dimensions"]),
    "pad": _pad,
    "dynamic_slice": _dynamic_slice,
    **dict.fromkeys(("dynamic_update_slice", "scatter", "scatter_add", "scatter-add", "scatter_mul"), _written),
    "tile": _untouched(lambda eqn, dim: eqn.params["reps"][dim] != 1),
    **{f"reduce_{sort}": _reduce for sort in ("sum", "max", "min", "prod", "and", "or", "xor")},
    **{f"arg{sort}": _reduce for sort in ("max", "min")},
    **{f"cum{sort}": _CUMULATED for sort in ("sum", "prod", "max", "min", "logsumexp")},
    **{f"reduce_window{sort}": _WINDOWED for sort in ("", "_sum", "_max", "_min")},
}  # fmt: skip
