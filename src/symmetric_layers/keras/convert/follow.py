"""Follows the channels of a model through its graph: which of them meet, where they come from, where they go.

Every symbolic tensor carries a mark: which axis counts its channels, and which set of channels these belong to.
Channels that are added, multiplied or concatenated belong to one set; a set that holds an input or an answer of the
model is plain, every other one may be orbits.
"""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from symmetric_layers.errors import SymmetryError
from symmetric_layers.keras.convert.attend import Attending
from symmetric_layers.keras.convert.kinds import (
    ATTENDS,
    DEPTHWISE,
    GLOBAL_POOLS,
    KNOWN,
    LOOKS_UP,
    MERGES,
    MOVES,
    MOVING,
    OPERATORS,
    PADS,
    PICKING,
    REDUCING,
    SEES,
    SUMS,
    WEIGHS,
    axis_of,
    each_of,
    is_vector,
    kind_of,
    pads_of,
)
from symmetric_layers.keras.convert.multiply import axes_in_product
from symmetric_layers.keras.convert.order import Flat, flat_of
from symmetric_layers.keras.convert.pads import Pads
from symmetric_layers.keras.convert.sentences import lost, strange, weighty
from symmetric_layers.keras.convert.stops import Stops
from symmetric_layers.keras.convert.walk import Seen, data_format_of, inputs_like, is_network, walk
from symmetric_layers.sets import Mark, Sets


class Follower(Attending):
    """What one model does with its channels."""

    def __init__(self, model: Any, kept: Sequence[str], positions: int, size: int, led_out: Sequence[str] = ()) -> None:
        super().__init__()
        self.sets, self.stops, self.positions = Sets(), Stops(), positions
        self.layers: dict[int, tuple[str, Any]] = {}  # by id, in the order of the calls: where a layer is, and itself
        self.kept: set[int] = set()
        self.reads: dict[int, list[int]] = {}  # by layer: the sets of channels that it met
        self.writes: dict[int, int] = {}  # by layer that makes channels of its own: their set
        self._answers: dict[str, tuple[Mark, int]] = {}  # by the name of a layer: and how many axes the answer has
        self.vectors: set[int] = set()  # layers of somebody's own whose weights are numbers for each channel
        self.entries: dict[int, list[tuple[int, int | None]]] = {}  # by model inside: its inputs' sets and axes
        self.maps: set[int] = set()  # layers that read maps, and not words beside them
        self.flats: dict[int, Flat] = {}  # by dense layer: the map that it reads flattened
        self._flats: dict[int, Flat] = {}  # by tensor
        self.pads = Pads()
        self._marks: dict[int, Mark] = {}
        self._alive: list[Any] = []  # so that ids stay theirs
        self._faults: list[tuple[int, SymmetryError]] = []
        self._joined: list[tuple[str, int, int]] = []
        self._inputs: set[int] = set()
        self._names, self._size, self._led_out = kept, size, led_out
        inputs = inputs_like(model)
        for tensor in keras.tree.flatten(inputs):
            source = self.sets.new(plain=True)
            self._inputs.add(source)
            self._set(tensor, Mark(source, _channels_in(model, tensor)))
        answers = self._through(model, inputs, "", False)
        for tensor in keras.tree.flatten(answers):
            self.sets.make_plain(self._mark(tensor).source)
            self.pads.read(None, tensor, self.reads)
        self._check()

    def is_plain(self, layer: Any) -> bool:
        """Whether a layer meets plain channels. Refuses a layer that meets both sorts."""
        met = {self.sets.is_plain(source) for source in self.reads.get(id(layer), [])}
        if len(met) > 1:
            raise SymmetryError(
                f"model: {self.layers[id(layer)][0]!r} is used both on pictures and on orbits. Expected one of both. "
                "Use two layers, one for each."
            )
        return met != {False}

    def answers_plain(self, layer: Any) -> bool:
        """Whether a layer makes plain channels."""
        return self.sets.is_plain(self.writes[id(layer)])

    def reads_picture(self, layer: Any) -> bool:
        """Whether a layer reads an input of the model."""
        pictures = {self.sets.find(source) for source in self._inputs}
        return any(self.sets.find(source) in pictures for source in self.reads[id(layer)])

    def arranged(self, name: str, kind: str) -> dict[str, str] | None:
        """How the channels are arranged that a layer answers; None where they are ordinary."""
        return None if self.orbits_at(name) is None else {kind: "100%"}

    def orbits_at(self, name: str) -> int | None:
        """The axis along which orbits stand in what a layer answers; None where its channels are ordinary."""
        mark, _ = self._answers.get(name, (None, 0))
        return None if mark is None or self.sets.is_plain(mark.source) else mark.dim

    def shows(self, name: str, rank: int, axis: int) -> bool:
        """Whether what a layer answers can be held beside the law: maps with channels where pictures have them."""
        mark, own = self._answers.get(name, (None, 0))
        if mark is None or mark.dim is None:
            return False
        return (own == rank and mark.dim == axis % rank) or (own == 2 and mark.dim == 1)

    def _leave_words(self) -> None:
        """What is looked up, or said of words alone, is ordinary where it meets no channels that see positions."""
        writes = [(key, source, self.layers[key][1]) for key, source in self.writes.items()]
        seen: set[int] = set()
        more = {self.sets.find(source) for _, source, layer in writes if kind_of(layer, SEES)}
        while more - seen:
            seen |= more
            read = ((source, self.reads.get(key, [])) for key, source, _ in writes)
            more = {self.sets.find(source) for source, others in read if seen & set(map(self.sets.find, others))}
        for _, source, layer in writes:
            if kind_of(layer, (*LOOKS_UP, *ATTENDS, *SUMS)) and self.sets.find(source) not in seen:
                self.sets.make_plain(source)

    def _check(self) -> None:
        self._leave_words()
        name = self.sets.meet(self._joined)
        if name is not None:
            raise SymmetryError(
                f"model: {name!r} concatenates an input of the model with channels of layers. Expected one sort of "
                "channels. Put a convolution (for vectors a Dense layer) between the two, or keep that part "
                "ordinary with keep."
            )
        for source, fault in self._faults:
            if not self.sets.is_plain(source):
                raise fault

    def _through(self, model: Any, inputs: Any, prefix: str, kept: bool) -> Any:
        def visit(operation: Any, *arguments: Any, **others: Any) -> Any:
            answers = Seen(operation, f"call_{len(self._alive)}")(*arguments, **others)
            name = prefix + operation.name
            here = kept or name in self._names or operation.name in self._names
            given = [
                tensor for tensor in keras.tree.flatten((arguments, others)) if keras.backend.is_keras_tensor(tensor)
            ]
            self._note(operation, name, here, given, keras.tree.flatten(answers), (arguments, others))
            return answers

        return walk(model, inputs, visit)

    def _note(self, operation: Any, name: str, kept: bool, given: list[Any], answers: list[Any], call: Any) -> None:
        layer = each_of(operation)
        if isinstance(layer, keras.layers.Layer):
            self.layers.setdefault(id(layer), (name, layer))
        if kept:
            self.kept.add(id(layer))
        for tensor in given:
            self.pads.read(None if kept else layer, tensor, self.reads)
        if is_network(operation):
            self._enter(operation, name, kept, given, answers)
        elif kept:
            for tensor in given:
                self.sets.make_plain(self._mark(tensor).source)
            for tensor in answers:
                self._set(tensor, Mark(self.sets.new(plain=True), axis_of(operation, len(tensor.shape))))
        elif given:
            self._follow(operation, name, given, answers, call)
            if id(layer) not in self.writes:
                own = id(layer) not in self.vectors and not kind_of(layer, KNOWN) and getattr(layer, "weights", None)
                self.stops.hand_on(given, answers, (name, operation) if own else None)
        for tensor in answers[:1]:
            self._answers[name] = self._mark(tensor), len(tensor.shape)
        for tensor in answers if {name, operation.name} & {*self._led_out} else ():
            self.sets.make_plain(self._mark(tensor).source)

    def _enter(self, model: Any, name: str, kept: bool, given: list[Any], answers: list[Any]) -> None:
        inner = inputs_like(model)
        marks = [(self._mark(tensor), id(tensor) in self._flats) for tensor in given]
        self.entries.setdefault(id(model), [(mark.source, 1 if flat else mark.dim) for mark, flat in marks])
        for tensor, seen in zip(given, keras.tree.flatten(inner), strict=False):
            self._carry(tensor, seen)
        found = self._through(model, inner, f"{name}/", kept)
        for tensor in keras.tree.flatten(found):
            self.pads.read(None, tensor, self.reads)
        for tensor, seen in zip(answers, keras.tree.flatten(found), strict=True):
            self._carry(seen, tensor)

    def _carry(self, tensor: Any, seen: Any) -> None:
        """The same tensor, inside of a model and outside."""
        self._set(seen, self._mark(tensor))
        self._flatten(seen, self._flats.get(id(tensor)))
        self.stops.hand_on([tensor], [seen])

    def _follow(self, operation: Any, name: str, given: list[Any], answers: list[Any], call: Any) -> None:
        layer, first = each_of(operation), given[0]
        sort, terms = type(layer).__name__, axes_in_product(operation, given)
        if kind_of(operation, ATTENDS):
            self._attend(operation, name, call, answers)
        elif kind_of(operation, SUMS):
            self._sum(operation, name, first, answers[0])
        elif kind_of(layer, KNOWN) or isinstance(layer, WEIGHS):
            self._meet(operation, name, first)
            for tensor in answers:
                weighs = id(layer) in self.writes
                axis = axis_of(operation, len(tensor.shape))
                self._set(tensor, Mark(self.writes[id(layer)], axis) if weighs else self._mark(first))
        elif kind_of(layer, OPERATORS):
            self._meet(operation, name, first)
            self._set(answers[0], self._mark(first))
            if kind_of(layer, PADS) and any(before != after for before, after in pads_of(layer)):
                self.pads.pad(answers[0], layer)
        elif kind_of(operation, (keras.layers.Concatenate,)) or sort in ("Concatenate", "Stack"):
            self._concatenate(operation, name, given, answers[0])
        elif terms is not None:
            marks = [self._mark(tensor) for tensor in given]
            self._set(answers[0], self.sets.product(type(operation).__name__, marks, *terms) or marks[0])
        elif kind_of(operation, MERGES) or len(given) > 1:
            self._combine(operation, name, given, answers)
        elif kind_of(layer, LOOKS_UP):
            self.sets.make_plain(self._mark(first).source)
            made = self.writes.setdefault(id(layer), self.sets.new())
            self._set(answers[0], Mark(made, len(answers[0].shape) - 1))
        elif kind_of(layer, (*MOVES, *GLOBAL_POOLS)) or sort in MOVING | REDUCING:
            self._move(operation, first, answers, call)
        else:
            self._alone(operation, name, first, answers)
            lost = any(self._mark(tensor).dim is None for tensor in answers)
            if lost and not getattr(layer, "variables", None):  # a function of somebody's own
                self._move(operation, first, answers, call)
            for tensor in answers:  # number by number
                self._flatten(tensor, self._flats.get(id(first)) if tensor.shape == first.shape else None)

    def _meet(self, operation: Any, name: str, tensor: Any) -> None:
        """Notes what a layer reads, and what no layer could read."""
        mark, axis, layer = self._mark(tensor), axis_of(operation, len(tensor.shape)), each_of(operation)
        flat = self._flats.get(id(tensor)) if kind_of(layer, (keras.layers.Dense,)) else None
        if flat is not None and self.flats.setdefault(id(layer), flat) == flat:
            pass
        elif mark.lost or mark.dim not in (None, axis):
            self._faults.append((mark.source, lost(name, layer, mark.lost or "an exchange of axes")))
        if isinstance(layer, WEIGHS) and not kind_of(layer, KNOWN):
            self._faults.append((mark.source, strange(name, layer)))
        self.reads.setdefault(id(layer), []).append(mark.source)
        self.stops.meet(layer, tensor)
        if len(tensor.shape) == self.positions + 2:
            self.maps.add(id(layer))
        if kind_of(layer, DEPTHWISE) and layer.depth_multiplier > 1:
            self.writes.setdefault(id(layer), self.sets.new())
        if isinstance(layer, WEIGHS) and id(layer) not in self.writes:
            self.writes[id(layer)] = self.sets.new()
            if not kind_of(layer, KNOWN):
                self._faults.append((self.writes[id(layer)], strange(name, layer)))

    def _concatenate(self, operation: Any, name: str, given: list[Any], answer: Any) -> None:
        marks = [self._mark(tensor) for tensor in given]
        axis = operation.axis % len(answer.shape)
        first = next((mark for mark in marks if mark.source not in self._inputs), marks[0])
        stacks = type(operation).__name__ == "Stack"
        for mark in marks:
            if not stacks and mark.dim == axis and (mark.source in self._inputs) != (first.source in self._inputs):
                self._joined.append((name, mark.source, first.source))
            else:
                self.sets.join(first.source, mark.source)
        dim = first.dim
        if stacks and dim is not None and axis <= dim:
            dim += 1
        self._set(answer, Mark(first.source, dim, next((mark.lost for mark in marks if mark.lost), "")))

    def _combine(self, operation: Any, name: str, given: list[Any], answers: list[Any]) -> None:
        """Several tensors: of those that are combined number by number, channels belong together."""
        tensor, mark = max(
            ((tensor, self._mark(tensor)) for tensor in given),
            key=lambda one: (one[1].dim is not None, math.prod(size or 1 for size in one[0].shape)),
        )
        for other in given:
            second = self._mark(other)
            if other is tensor or mark.dim is None or second.dim is None:
                continue
            behind, there = len(tensor.shape) - mark.dim, len(other.shape) - second.dim
            if behind != there:
                self._faults.append((second.source, lost(name, operation, "an exchange of axes")))
                self._faults.append((mark.source, lost(name, operation, "an exchange of axes")))
            elif other.shape[second.dim] == tensor.shape[mark.dim]:
                self.sets.join(mark.source, second.source)
            else:  # one number for all channels
                self.sets.make_plain(second.source)
        self._alone(operation, name, tensor, answers)

    def _alone(self, operation: Any, name: str, tensor: Any, answers: list[Any]) -> None:
        """Whatever treats channels alike, as far as shapes tell; the last word has the measurement."""
        mark = self._mark(tensor)
        if getattr(operation, "weights", None):
            channels = None if mark.dim is None else tensor.shape[mark.dim]
            if channels and all(is_vector(weight.shape, channels) for weight in operation.weights):
                self.vectors.add(id(each_of(operation)))
                self.reads.setdefault(id(each_of(operation)), []).append(mark.source)
            else:
                self._faults.append((mark.source, weighty(name, operation)))
        for answer in answers:
            dim = mark.dim
            same = dim is None or (len(answer.shape) == len(tensor.shape) and answer.shape[dim] == tensor.shape[dim])
            how = mark.lost or type(operation).__name__
            self._set(answer, mark if same else Mark(mark.source, None, how))

    def _move(self, operation: Any, tensor: Any, answers: list[Any], call: Any) -> None:
        """Follows the channels by sending their numbers the same way."""
        mark = self._mark(tensor)
        if mark.dim is None or tensor.shape[mark.dim] in (1, None):
            for answer in answers:
                same = len(answer.shape) == len(tensor.shape)
                self._set(answer, mark if same else mark._replace(dim=None))
            return
        flat = flat_of(operation, call, tensor, answers[0], mark.dim)
        if flat is not None:
            self._set(answers[0], Mark(mark.source, None, type(operation).__name__))
            self._flatten(answers[0], flat)
            return
        sizes = [8 if size is None else size for size in tensor.shape]
        sizes[0] = _rows(tensor, answers[0]) if tensor.shape[0] is None else sizes[0]
        count = [sizes[axis] if axis == mark.dim else 1 for axis in range(len(sizes))]
        numbers = ops.broadcast_to(ops.reshape(ops.arange(sizes[mark.dim], dtype="float32"), count), sizes)
        arguments, others = keras.tree.map_structure(lambda given: numbers if given is tensor else given, call)
        try:
            moved = keras.tree.flatten(operation(*arguments, **others))
        except Exception:  # sizes that are open have another size here
            moved = [None] * len(answers)
        for answer, seen in zip(answers, moved, strict=True):
            found = Mark(mark.source, None, type(each_of(operation)).__name__)
            if seen is not None:
                found = self._found(ops.convert_to_numpy(seen), mark, operation, sizes[mark.dim])
            self._set(answer, found)

    def _found(self, seen: Any, mark: Mark, operation: Any, count: int) -> Mark:
        """Where the numbers of so many channels stand now."""
        seen = seen.round()  # means of many equal numbers
        varying = [axis for axis, size in enumerate(seen.shape) if size > 1 and (seen != seen.take([0], axis)).any()]
        if not varying:  # one number for all channels
            if type(operation).__name__ in PICKING:
                self._pick(mark, operation)
            kept = mark.dim is not None and mark.dim < seen.ndim and seen.shape[mark.dim] == 1
            return Mark(self.sets.new(plain=True), mark.dim if kept else None, mark.lost)
        line = seen[tuple(slice(None) if axis == varying[0] else 0 for axis in range(seen.ndim))]
        if len(varying) > 1 or not (line[1:] - line[:-1] == 1).all():
            return Mark(mark.source, None, type(each_of(operation)).__name__)
        torn = len(line) < count and (line[0] % self._size or len(line) % self._size)
        if torn and type(operation).__name__ in ("GetItem", "Take"):  # the others cut wider channels elsewhere
            self._pick(mark, operation)
        return Mark(mark.source, varying[0], mark.lost)

    def _pick(self, mark: Mark, operation: Any) -> None:
        """Channels of which some are picked, and no whole orbits, are ordinary."""
        self.sets.make_plain(mark.source)
        self.stops.make(mark.source, (operation.name, operation))

    def _mark(self, tensor: Any) -> Mark:
        if id(tensor) not in self._marks:
            self._set(tensor, Mark(self.sets.new(plain=True), None))
        return self._marks[id(tensor)]

    def _flatten(self, tensor: Any, flat: Flat | None) -> None:
        if flat is not None:
            self._flats[id(tensor)] = flat

    def _set(self, tensor: Any, mark: Mark) -> None:
        self._alive.append(tensor)
        self._marks[id(tensor)] = mark


def _rows(tensor: Any, answer: Any) -> int:
    """How many rows an open batch needs at least to be reshaped to the answer's sizes."""
    known, wanted = (math.prod(size for size in one.shape if size) for one in (tensor, answer))
    return max(wanted // known, 1) if wanted % known == 0 else 1


def _channels_in(model: Any, tensor: Any) -> int | None:
    """Which axis of an input holds its channels."""
    rank = len(tensor.shape)
    if rank < 2:
        return None
    return 1 if rank > 2 and data_format_of(model) == "channels_first" else rank - 1
