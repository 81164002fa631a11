"""The marks of the arrays in a graph, what is refused if channels turn out to be orbits, and where they are cut."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from symmetric_layers.errors import SymmetryError
from symmetric_layers.flax.convert.pads import Pads
from symmetric_layers.flax.convert.still import Still
from symmetric_layers.letters import orbit_size
from symmetric_layers.sets import Mark, Sets


class Marks:
    """What is known of every array of a graph."""

    def __init__(self) -> None:
        self.sets, self.still, self.pads = Sets(), Still(), Pads()
        self.inputs: set[int] = set()
        self.axes = 0  # how many of them pictures have
        self._marks: dict[Any, Mark] = {}
        self._places: dict[Any, str] = {}
        self._faults: list[tuple[int, SymmetryError]] = []
        self._flat: dict[Any, tuple[int, ...]] = {}
        self._seen: set[Any] = set()
        self._stops: list[tuple[int, str]] = []
        self._joined: list[tuple[str, int, int]] = []
        self._cuts: list[tuple[str, int, int]] = []

    def forget(self) -> None:
        """Another graph begins; what is known of sets stays known."""
        self._marks, self._places, self._flat, self._seen, self.still = {}, {}, {}, set(), Still()
        self.pads.forget()

    def of(self, var: Any) -> Mark | None:
        """What is known of an array."""
        return None if _is_number(var) else self._marks.get(var)

    def known(self, eqn: Any) -> list[Mark]:
        """What is known of the arrays that a step reads."""
        return [mark for mark in map(self.of, eqn.invars) if mark is not None]

    def place(self, var: Any) -> str:
        """The name of the module or function in which an array is computed."""
        return "" if _is_number(var) else self._places.get(var, "")

    def put(self, var: Any, mark: Mark | None, place: str) -> None:
        """What is known of an array from here on."""
        self._marks.pop(var, None)
        if mark is not None:
            self._marks[var], self._places[var] = mark, place

    def flat(self, var: Any) -> tuple[int, ...]:
        """The shape, positions and channels, of a whole map that stands in a row along the last axis; else nothing."""
        return () if _is_number(var) else self._flat.get(var, ())

    def flatten(self, var: Any, shape: Sequence[int]) -> None:
        """Along the last axis a whole map of this shape stands in a row."""
        if shape:
            self._flat[var] = tuple(shape)

    def same(self, one: Any, other: Any, place: str) -> None:
        """All that is known of the one array is known of the other."""
        self.put(other, self.of(one), place)
        self.still.copy(one, other)
        self.flatten(other, self.flat(one))
        self.sees([one], [other])
        self.pads.same(one, other)

    def picture(self, var: Any) -> None:
        """This array is a picture of the model's input."""
        self._seen.add(var)

    def sees(self, read: Iterable[Any], written: Iterable[Any] = ()) -> bool:
        """Whether any of these arrays is computed from a picture; what is computed from them is so, too."""
        found = any(not _is_number(var) and var in self._seen for var in read)
        self._seen.update(written if found else ())
        return found

    def loses(self, mark: Mark, how: str) -> Mark:
        """Channels that cannot be followed any further."""
        return Mark(mark.source, None, mark.lost or how)

    def none(self) -> Mark:
        """An array without channels: it mirrors with the picture, and no exchange of channels changes it."""
        return Mark(self.sets.new(plain=True), None)

    def alone(self, mark: Mark) -> Mark:
        """One channel that is picked out belongs to no orbit: its set is plain."""
        self.sets.make_plain(mark.source)
        return Mark(mark.source, None, mark.lost)

    def refuse(self, mark: Mark, fault: SymmetryError) -> None:
        """Refuses this, if the channels are orbits."""
        self._faults.append((mark.source, fault))

    def stop(self, mark: Mark, part: str) -> None:
        """This part has no form for orbits, and these are its channels."""
        self._stops.append((mark.source, part))

    def stopped(self, sources: Collection[int]) -> str:
        """The first part without a form for orbits that such channels meet; nothing where there is none."""
        met = {self.sets.find(source) for source in sources}
        return next((part for source, part in self._stops if self.sets.find(source) in met), "")

    def cut(self, mark: Mark, place: str, channel: int) -> None:
        """Channels are cut here."""
        self._cuts.append((place, mark.source, channel))

    def beside(self, marks: Sequence[Mark], place: str, axis: int) -> Mark:
        """Arrays that are laid side by side along an axis."""
        own = [mark for mark in marks if mark.source not in self.inputs]
        first = next((mark for mark in [*own, *marks] if mark.dim is not None), marks[0])
        for mark in marks:
            if mark.dim == axis and (mark.source in self.inputs) != (first.source in self.inputs):
                self._joined.append((place, mark.source, first.source))
            elif mark.dim is not None or mark.lost or first.dim == axis:
                self.sets.join(first.source, mark.source)
        return Mark(first.source, first.dim, next((mark.lost for mark in marks if mark.lost), ""))

    def check(self, kind: str) -> None:
        """Refuses what orbits cannot go through, once it is known which channels are orbits."""
        place = self.sets.meet(self._joined)
        if place is not None:
            raise SymmetryError(
                f"model: {place or 'its call'!r} concatenates an input of the model with channels of layers. "
                "Expected one sort of channels. Put a convolution (for vectors an nnx.Linear) between the two, or "
                "keep that part ordinary with keep."
            )
        for source, fault in self._faults:
            if not self.sets.is_plain(source):
                raise fault
        size = orbit_size(kind)
        for name, source, channel in self._cuts:
            if channel % size and not self.sets.is_plain(source):
                raise SymmetryError(
                    f"model: {name or 'its call'!r} cuts channels at {channel}, which tears orbits of {kind!r} apart. "
                    f"Expected a multiple of {size}. Cut elsewhere, or keep that part ordinary with keep."
                )


def _is_number(var: Any) -> bool:
    """Whether an array is a number that stands in the graph itself."""
    return hasattr(var, "val")
