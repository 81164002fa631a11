"""Sets of channels that are arranged alike, and the marks that tensors carry while a model is followed.

Only the standard library is used here.
"""

from __future__ import annotations

from typing import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Mark(NamedTuple):
    """What is known of a tensor: its set of channels, the axis that counts them (None: none), or how they were lost.

    Where whole maps were laid out in a line, `flat` has their sizes.
    """

    source: int
    dim: int | None
    lost: str = ""
    flat: tuple[int, ...] = ()


class Sets:
    """Sets of channels that are arranged alike."""

    def __init__(self) -> None:
        self._parent: list[int] = []
        self._plain: set[int] = set()

    def new(self, plain: bool = False) -> int:
        """A set of its own."""
        self._parent.append(len(self._parent))
        if plain:
            self.make_plain(len(self._parent) - 1)
        return len(self._parent) - 1

    def find(self, source: int) -> int:
        """The set's one name."""
        while self._parent[source] != source:
            self._parent[source] = self._parent[self._parent[source]]
            source = self._parent[source]
        return source

    def join(self, one: int, other: int) -> None:
        """Both are arranged alike."""
        one, other = self.find(one), self.find(other)
        self._parent[other] = one
        if other in self._plain:
            self._plain.add(one)

    def meet(self, pairs: Iterable[tuple[str, int, int]]) -> str | None:
        """Joins pictures with the channels that they are concatenated with; gives where the first ones are orbits."""
        for name, picture, other in pairs:
            if not self.is_plain(other):
                return name
            self.join(picture, other)
        return None

    def product(
        self, name: str, marks: Sequence[Mark | None], terms: Sequence[Sequence[str]], answer: Sequence[str]
    ) -> Mark | None:
        """What is known of a product: channels that meet channels leave none, those that others weigh are lost.

        Args:
            name: of the product, as what channels were lost in.
            marks: of the tensors that are multiplied; None where nothing is known of one.
            terms: a name for every axis of each of them; axes of one name go together, and are summed where the answer
                has none of it.
            answer: the names of the axes of the answer.
        """
        known = [mark for mark in marks if mark is not None]
        places = [term[mark.dim] if mark and mark.dim is not None else "" for term, mark in zip(terms, marks)]
        counting = {place: mark for place, mark in zip(places, marks) if place and mark}
        for place, mark in zip(places, marks):
            if place and mark:
                self.join(counting[place].source, mark.source)
        left = [axis for axis in counting if axis in answer]
        summed = [axis for axis in counting if axis not in answer]
        weighed = any(axis in term and axis != place for axis in summed for term, place in zip(terms, places))
        lost = next((mark.lost for mark in known if mark.lost), name if weighed or len(left) > 1 else "")
        if lost:
            for mark in known[1:]:
                self.join(known[0].source, mark.source)
            return Mark(known[0].source, None, lost)
        if left:
            return Mark(counting[left[0]].source, answer.index(left[0]))
        if counting:
            return Mark(self.new(plain=True), None)
        return Mark(known[0].source, None) if known else None

    def make_plain(self, source: int) -> None:
        """These channels are ordinary pictures or numbers."""
        self._plain.add(self.find(source))

    def is_plain(self, source: int) -> bool:
        """Whether these channels are ordinary."""
        return self.find(source) in self._plain
