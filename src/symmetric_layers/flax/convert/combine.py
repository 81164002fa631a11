"""Where the channels are after arrays are combined number by number."""

import math
from collections.abc import Collection
from typing import Any

from symmetric_layers.flax.convert.marks import Marks
from symmetric_layers.flax.convert.steps import WEIGHTS, lost, weighty
from symmetric_layers.sets import Mark


def combine(marks: Marks, eqn: Any, place: str, variables: Collection[int]) -> None:
    """Arrays that are combined number by number: their channels belong together.

    Args:
        marks: what is known of the arrays.
        eqn: the step.
        place: the module or function that it is in.
        variables: the sets of channels of variables that are no layer's.
    """
    shape = eqn.outvars[0].aval.shape
    marked = [var for var in eqn.invars if marks.of(var) is not None]
    flat = {marks.flat(var) for var in marked}
    heads = frozenset[int]().union(*map(marks.still.heads, marked))
    known: list[Any] = [(var.aval.shape, _beside(marks, marks.of(var), heads, variables)) for var in marked]
    known.sort(key=lambda one: (one[1].dim is None or one[0][one[1].dim] != shape[one[1].dim], -math.prod(one[0])))
    lead, how = known[0][1], next((mark.lost for _, mark in known if mark.lost), "")
    for own, mark in known[1:]:
        if mark.dim is None or lead.dim is None:
            if how and not (mark.lost + lead.lost).startswith(WEIGHTS):
                marks.sets.join(lead.source, mark.source)  # what is lost belongs to it all the same
            continue
        if mark.dim != lead.dim:
            for one in (mark, lead):
                marks.refuse(one, lost(place, "", "an exchange of axes"))
        elif own[mark.dim] == shape[mark.dim]:
            marks.sets.join(lead.source, mark.source)
        else:  # one number for all channels
            marks.sets.make_plain(mark.source)
    if how.startswith(WEIGHTS) and lead.dim is not None:
        marks.refuse(lead, weighty(place, how))
    for var in eqn.outvars:
        marks.put(var, marks.loses(lead, how) if how else lead, place)
        if len(flat) == 1:
            marks.flatten(var, *flat)


def _beside(marks: Marks, mark: Any, heads: Collection[int], variables: Collection[int]) -> Mark:
    """What is known of an array that is combined with others that have heads: a number for each of these is one."""
    if mark.dim not in heads or mark.source not in variables:
        return mark
    marks.sets.make_plain(mark.source)
    return Mark(mark.source, None)
