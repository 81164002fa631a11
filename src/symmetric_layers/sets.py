"""Sets of channels that are arranged alike, and the marks that tensors carry while a model is followed.

Only the standard library is used here.
"""

from __future__ import annotations

from typing import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


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

    def make_plain(self, source: int) -> None:
        """These channels are ordinary pictures or numbers."""
        self._plain.add(self.find(source))

    def is_plain(self, source: int) -> bool:
        """Whether these channels are ordinary."""
        return self.find(source) in self._plain
