"""Follows the channels of a model through its graph: which of them meet, where they come from, where they go.

Every array carries a mark: which axis counts its channels, and which set of channels these belong to. Channels that
are added, multiplied or concatenated belong to one set; a set that holds an input or an answer of the model is plain,
every other one may be orbits.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
from flax import nnx

from symmetric_layers.errors import SymmetryError
from symmetric_layers.flax.convert.combine import combine
from symmetric_layers.flax.convert.kinds import EMBEDS, KNOWN, WEIGHS, axes_read, is_layer
from symmetric_layers.flax.convert.marks import Marks
from symmetric_layers.flax.convert.moves import MOVES
from symmetric_layers.flax.convert.operators import Calls
from symmetric_layers.flax.convert.pads import Pad, Sides
from symmetric_layers.flax.convert.settle import settle_depthwise, settle_lookups, settle_pads
from symmetric_layers.flax.convert.spied import FUNCTION, host_of
from symmetric_layers.flax.convert.steps import (
    ALIKE,
    ALONE,
    INNER,
    WEIGHTS,
    chosen,
    crooked,
    crooked_along,
    lost,
    part,
    strange,
)
from symmetric_layers.flax.convert.traced import Traced
from symmetric_layers.letters import orbit_size
from symmetric_layers.sets import Mark


class Follower:
    """What one model does with its channels; `follow` fills it, once per mode of the model.

    Args:
        modules: the model's modules by their names.
        kind: the letters along which the model is to mirror.
        kept: whether what has this name stays ordinary.
        times: how many times as many channels there are to be, where that is known.

    Attributes:
        reads, writes: by the name of a layer: the sets of channels that it met, and the one that it makes.
        channels: by the name of a layer: how many channels it read.
        vectors: by the name of a variable outside of layers with one number for each channel: its set, and the axis.
        flat: by the name of a layer: the shape of the map that it read in a row; of others, nothing.
        functions: by the name of a function that is a module's attribute: how it was called.
        maps: by their places: answers of the model that are maps without an axis for channels.
        seeing: the names of layers that see something of a picture.
        palindromes: those of depthwise layers that have to be ordinary on both sides, because they are on one.
        padded: by the name of a convolution: the zeros that its model pads before it, more on one side; else nothing.
    """

    def __init__(self, modules: Mapping[str, Any], kind: str, kept: Callable[[str], bool], times: int = 1) -> None:
        self.reads: dict[str, list[int]] = {}
        self.writes: dict[str, int] = {}
        self.channels: dict[str, int] = {}
        self.flat: dict[str, tuple[int, ...]] = {}
        self.vectors: dict[str, tuple[int, int]] = {}
        self.functions: dict[str, Calls] = {}
        self.maps: set[int] = set()
        self.seeing: set[str] = set()
        self.palindromes: set[str] = set()
        self.padded: dict[str, Sides] = {}
        self._axes = 0
        self._marks = Marks()
        self._modules, self._kind, self._kept, self._times = modules, kind, kept, times
        self._answers: dict[str, tuple[Mark, int]] = {}
        self._variables: dict[str, int] = {}

    def follow(self, graph: Traced) -> None:
        """Takes notes of a graph."""
        marks, jaxpr = self._marks, graph.jaxpr.jaxpr
        marks.forget()
        count = len(graph.variables)
        for name, var in zip(graph.variables, jaxpr.invars[:count], strict=True):
            self._variable(name, var)
        self._axes = marks.axes = max((len(var.aval.shape) for var in jaxpr.invars[count:]), default=0)
        for name, tries in graph.functions.items():
            calls = self.functions.setdefault(name, Calls())
            calls.tries += [one for one in tries if len(one[1]) == self._axes]
            calls.others = calls.others or any(len(shape) != self._axes for _, shape in tries)
        for var in jaxpr.invars[count:]:
            if jax.dtypes.issubdtype(var.aval.dtype, jax.dtypes.prng_key):
                continue
            source, axes = marks.sets.new(plain=True), len(var.aval.shape)
            marks.inputs.add(source)
            if axes == self._axes:
                marks.picture(var)
            marks.put(var, Mark(source, axes - 1 if axes > 1 else None), "")
            marks.still.put(var, frozenset([0] if axes else []))
        self._through(jaxpr)
        marks.pads.hand_out(jaxpr.outvars)
        for place, var in enumerate(jaxpr.outvars):
            mark = marks.of(var)
            if mark is not None:
                marks.sets.make_plain(mark.source)
                known = not mark.lost or mark.lost.startswith("arg")
                if mark.dim is None and known and len(var.aval.shape) == self._axes - 1:
                    self.maps.add(place)

    def lead_out(self, name: str) -> None:
        """Makes ordinary what this layer makes; refused where it makes no channels."""
        if name not in self.writes:
            raise SymmetryError(
                f"plain: {name!r} makes no channels by itself, with this example. Expected a convolution or a linear "
                "layer. Name the last one in it."
            )
        self._marks.sets.make_plain(self.writes[name])

    @property
    def pads_before(self) -> bool:
        """Whether anything is padded more on one side than on the other."""
        return bool(self._marks.pads.found)

    def compare(self, graph: Traced | None) -> None:
        """Notes before which layers other numbers of zeros are padded in pictures of another size."""
        if graph is not None:
            other = Follower(self._modules, self._kind, self._kept, self._times)
            other.follow(graph)
            self._marks.pads.compare(other._marks.pads)

    def check(self) -> None:
        """Refuses what orbits cannot go through, once it is known which channels are orbits."""
        self._settle()
        self._marks.check(self._kind)

    def _settle(self) -> None:
        """Leaves ordinary what cannot be, or need not be, orbits."""
        makes = [name for name in self.writes if not self._kept(name)]
        layers = {name: (self._modules[name], self.reads[name], self.writes[name]) for name in makes}
        settle_lookups(self._marks, layers, self.seeing)
        size = orbit_size(self._kind)
        self.palindromes.update(
            settle_depthwise(self._marks, layers, lambda filters: filters * self._times % size == 0)
        )
        self.padded = settle_pads(self._marks, layers, self._in_the_mirror)

    def _in_the_mirror(self, pad: Pad) -> bool:
        """Whether something is padded by a function that will be seen in the mirror."""
        return pad.place in self.functions and self.are_orbits([pad.source])

    def is_plain(self, name: str) -> bool:
        """Whether a layer meets plain channels. Refuses a layer that meets both sorts."""
        met = {self._marks.sets.is_plain(source) for source in self.reads.get(name, [])}
        if len(met) > 1:
            raise SymmetryError(
                f"model: {name!r} is used both on pictures and on orbits. Expected one of both. "
                "Use two layers, one for each."
            )
        return met != {False}

    def answers_plain(self, name: str) -> bool:
        """Whether a layer makes plain channels."""
        return self._marks.sets.is_plain(self.writes[name])

    def stopped(self, name: str) -> str:
        """The part without a form for orbits that the channels of a layer meet; nothing where there is none."""
        return self._marks.stopped([*self.reads[name], self.writes[name]])

    def are_orbits(self, sources: Iterable[int]) -> bool:
        """Whether any of these channels are orbits."""
        return any(not self._marks.sets.is_plain(source) for source in sources)

    def axes(self, name: str) -> int:
        """How many axes the answer of a layer has."""
        return self._answers[name][1]

    def arranged(self, name: str, kind: str) -> dict[str, str] | None:
        """How the channels are arranged that a layer answers; None where they are ordinary."""
        mark, _ = self._answers[name]
        return {kind: "100%"} if mark.dim is not None and self.are_orbits([mark.source]) else None

    def shows(self, name: str, axes: int) -> bool:
        """Whether what a layer answers can be held beside the law: maps or vectors with their channels last."""
        mark, own = self._answers.get(name, (None, 0))
        return mark is not None and mark.dim == own - 1 and own in (2, axes)

    def _variable(self, name: str, var: Any) -> None:
        """A variable: of one that no layer reads as a whole, one number may belong to each channel."""
        long = [axis for axis, size in enumerate(var.aval.shape) if size > 1]
        owner = self._modules.get(name.rpartition(".")[0])
        vector = len(long) == 1 and not (owner is not None and is_layer(owner))
        plain = not vector or self._kept(name)
        source = self._variables.setdefault(name, self._marks.sets.new(plain))
        if vector:
            self.vectors[name] = source, long[0]
            self._marks.put(var, Mark(source, long[0]), "")
        elif long:
            self._marks.put(var, Mark(source, None, WEIGHTS + name), "")

    def _through(self, jaxpr: Any) -> None:
        for eqn in jaxpr.eqns:
            known = [var for var in eqn.invars if self._marks.of(var) is not None]
            if known or eqn.primitive.name == "layer":
                self._step(eqn, next(filter(None, map(self._marks.place, known)), ""))
            if eqn.primitive.name not in INNER:
                self._marks.sees(eqn.invars, eqn.outvars)
            if eqn.primitive.name not in (*INNER, "place"):
                self._marks.pads.read(eqn)

    def _step(self, eqn: Any, place: str) -> None:
        sort = eqn.primitive.name
        if sort == "layer":
            name = eqn.params["name"]
            if self._marks.sees(eqn.invars[:1]):
                self.seeing.add(name)
            looked_up = host_of(self._modules[name], EMBEDS)
            (self._embed if looked_up else self._layer)(eqn, name, place)
        elif sort == "place":
            self._enter(eqn, eqn.params["name"])
        elif sort in INNER:
            self._inside(eqn)
        elif not sort.startswith("random_"):  # what is drawn has no channels, and knows nothing of the key's
            self._marks.still.follow(eqn)
            self._between(eqn, place)

    def _between(self, eqn: Any, place: str) -> None:
        """A step between layers."""
        sort = eqn.primitive.name
        if sort in MOVES:
            self._look(eqn, place)
            MOVES[sort](self._marks, eqn, place)
        elif sort in ALONE:
            combine(self._marks, eqn, place, self._variables.values())
        else:
            self._unknown(eqn, place)

    def _layer(self, eqn: Any, name: str, place: str) -> None:
        module, picture, (answer,) = self._modules[name], eqn.invars[0], eqn.outvars
        marks, rank, last = self._marks, len(picture.aval.shape), len(answer.aval.shape) - 1
        read = axes_read(module, rank)
        known, weighs = (host_of(module, hosts) if read else None for hosts in (KNOWN, WEIGHS))
        mark, heads = marks.of(picture) or marks.none(), frozenset(range(rank - read, last)) if weighs else frozenset()
        shape = marks.flat(picture) if weighs is nnx.Linear else ()
        mixed = "" if marks.still.of(picture).issuperset(range(rank - read, rank - 1)) else "reshape"
        known_by = self.flat.setdefault(name, shape) == shape
        if (mark.lost and not shape) or not known_by or mixed or mark.dim not in (None, rank - 1):
            marks.refuse(mark, lost(name, type(module).__name__, mark.lost or mixed or "an exchange of axes"))
        self.reads.setdefault(name, []).append(mark.source)
        self.channels[name] = picture.aval.shape[-1]
        if mark.dim is not None and self.channels[name] == 1:
            marks.alone(mark)
        for other in marks.known(eqn) if not known else ():
            marks.refuse(other, strange(name, type(module).__name__))
        for other in marks.known(eqn) if self._kept(name) else ():
            marks.sets.make_plain(other.source)
        if weighs or not known:
            if name not in self.writes:
                self.writes[name] = marks.sets.new(plain=not known or self._kept(name))
            mark = Mark(self.writes[name], last)
        if not known and not self._kept(name):
            marks.stop(mark, f"{name!r}, {type(module).__name__}")
        marks.put(answer, mark, place)
        marks.still.put(answer, (marks.still.of(picture) & frozenset(range(min(rank - read, last)))) | heads, heads)
        self._answers[name] = mark, last + 1

    def _embed(self, eqn: Any, name: str, place: str) -> None:
        """A layer that looks up labels: it reads no channels, and makes some."""
        labels, (answer,), marks, kept = eqn.invars[0], eqn.outvars, self._marks, self._kept(name)
        for mark in marks.known(eqn):
            marks.refuse(mark, chosen(name, type(self._modules[name]).__name__))
        self.reads.setdefault(name, [])
        if name not in self.writes:
            self.writes[name] = marks.sets.new(plain=kept)
        last = len(labels.aval.shape)
        marks.put(answer, Mark(self.writes[name], last), place)
        marks.still.put(answer, marks.still.of(labels))
        self._answers[name] = marks.of(answer) or marks.none(), last + 1

    def _enter(self, eqn: Any, name: str) -> None:
        mark = self._marks.of(eqn.invars[0])
        if mark is not None and self._kept(name):
            self._marks.sets.make_plain(mark.source)
        if mark is not None and name.endswith(FUNCTION):
            self.functions[name].sources.append(mark.source)
        self._marks.same(eqn.invars[0], eqn.outvars[0], name)

    def _inside(self, eqn: Any) -> None:
        marks, inner = self._marks, next(filter(None, map(_graph, eqn.params.values())))
        for var, seen in zip(eqn.invars, inner.invars, strict=True):
            marks.same(var, seen, marks.place(var))
        self._through(inner)
        for var, found in zip(eqn.outvars, inner.outvars, strict=True):
            marks.same(found, var, marks.place(found))

    def _look(self, eqn: Any, place: str) -> None:
        """Notes what looks at more than one pixel: of functions, mirrors can be made if these lie otherwise there."""
        var = eqn.invars[0]
        mark, shape = self._marks.of(var), var.aval.shape
        if mark is None or mark.dim != len(shape) - 1 or len(shape) != self._axes:
            return
        lopsided = crooked_along(eqn, shape, self._kind, self._marks.still.of(var))
        if lopsided and eqn.primitive.name == "pad":
            self._marks.pads.pad(eqn, mark.source, place)
        if place in self.functions:
            self.functions[place].looks |= eqn.primitive.name not in ALIKE
        elif lopsided and eqn.primitive.name != "pad":
            self._marks.refuse(mark, crooked(place, eqn.primitive.name))

    def _unknown(self, eqn: Any, place: str) -> None:
        """A step of which nothing is known: channels end there."""
        found = sorted(self._marks.known(eqn), key=lambda mark: mark.dim is None)
        for mark in found[1:]:
            if mark.dim is not None or mark.lost:
                self._marks.sets.join(found[0].source, mark.source)
        self._marks.stop(found[0], part(place, eqn.primitive.name))
        for var in eqn.outvars:
            self._marks.put(var, self._marks.loses(found[0], eqn.primitive.name), place)


def _graph(value: Any) -> Any:
    """The graph inside of a step; None for its other parameters."""
    value = getattr(value, "jaxpr", value)
    return value if hasattr(value, "eqns") else None
