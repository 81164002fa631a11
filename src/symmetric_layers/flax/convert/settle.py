"""What is left ordinary, once it is known which channels meet which."""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from flax import nnx

from symmetric_layers.flax.convert.kinds import EMBEDS, groups_of, is_depthwise
from symmetric_layers.flax.convert.marks import Marks
from symmetric_layers.flax.convert.pads import Pad, Sides
from symmetric_layers.flax.convert.spied import host_of
from symmetric_layers.flax.convert.steps import crooked
from symmetric_layers.sets import Mark

Layers = Mapping[str, tuple[Any, Collection[int], int]]  # with the sets of channels that they read, and make


def settle_lookups(marks: Marks, layers: Layers, seeing: Collection[str]) -> None:
    """Leaves lookups ordinary that meet no channels of layers that see pictures."""
    embeds = {name for name, (layer, _, _) in layers.items() if host_of(layer, EMBEDS)}
    met = {marks.sets.find(made) for name, (_, _, made) in layers.items() if name in seeing and name not in embeds}
    for name in embeds:
        if marks.sets.find(layers[name][2]) not in met:
            marks.sets.make_plain(layers[name][2])


def settle_depthwise(marks: Marks, layers: Layers, whole: Callable[[int], bool]) -> Iterable[str]:
    """Finds depthwise layers that have to be ordinary on both sides, because they are on one.

    Args:
        marks: what is known of the channels; more of them are plain afterwards.
        layers: those that may be converted.
        whole: whether so many filters for each channel make whole orbits.

    Returns:
        Their names.
    """
    alone = {name: one for name, one in layers.items() if host_of(one[0], (nnx.Conv,)) and is_depthwise(one[0])}
    found: set[str] = set()
    while True:
        more = {name for name in alone if name not in found and _settles(marks, *alone[name], whole)}
        if not more:
            return found
        found |= more
        for name in more:
            _, read, made = alone[name]
            for source in (*read, made):
                marks.sets.make_plain(source)
                marks.stop(Mark(source, None), f"{name!r}, depthwise beside ordinary channels")


def settle_pads(marks: Marks, layers: Layers, in_the_mirror: Callable[[Pad], bool]) -> dict[str, Sides]:
    """Finds what is padded before convolutions and can become part of them; other lopsided padding is refused.

    Args:
        marks: what is known of the channels.
        layers: those that may be converted.
        in_the_mirror: whether a function pads that will be seen in the mirror.

    Returns:
        By the names of layers: the zeros on both sides; nothing where there are none.
    """
    found = {name: marks.pads.before(name, layer, in_the_mirror) for name, (layer, _, _) in layers.items()}
    for pad in marks.pads.found:
        if not all(found.get(reader) for reader in pad.readers) and not in_the_mirror(pad):
            marks.refuse(Mark(pad.source, None), crooked(pad.place, "pad"))
    return found


def _settles(marks: Marks, layer: Any, read: Collection[int], made: int, whole: Callable[[int], bool]) -> bool:
    """Whether one side of a depthwise layer is plain, and the other cannot be orbits therefore."""
    plain, answers = all(map(marks.sets.is_plain, read)), marks.sets.is_plain(made)
    return not plain if answers else plain and not whole(layer.out_features // groups_of(layer))
