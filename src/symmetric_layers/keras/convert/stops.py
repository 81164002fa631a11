"""Which layers stop orbits: those that make ordinary channels, and have no form that makes others."""

from collections.abc import Sequence
from typing import Any

from symmetric_layers.errors import SymmetryError
from symmetric_layers.keras.convert.walk import article
from symmetric_layers.sets import Sets

Stop = tuple[str, Any]  # a layer, and its name


class Stops:
    """What a model has of them, as far as it is followed."""

    def __init__(self) -> None:
        self._behind: dict[int, Stop] = {}  # by tensor: the last one before it
        self._read: dict[int, Stop] = {}  # by layer: the last one before what it reads
        self._made: list[tuple[int, Stop]] = []  # sets of channels that are ordinary, and whose they are

    def hand_on(self, given: Sequence[Any], answers: Sequence[Any], own: Stop | None = None) -> None:
        """What is behind one tensor is behind those that are made of it."""
        found = own or next((self._behind[id(tensor)] for tensor in given if id(tensor) in self._behind), None)
        if found is not None:
            self._behind.update({id(tensor): found for tensor in answers})

    def meet(self, layer: Any, tensor: Any) -> None:
        """Notes what is before a layer that makes channels."""
        if id(tensor) in self._behind:
            self._read.setdefault(id(layer), self._behind[id(tensor)])

    def make(self, source: int, stop: Stop) -> None:
        """Notes a set of channels that is ordinary because single ones are picked."""
        self._made.append((source, stop))

    def reason(self, name: str, layer: Any, sets: Sets, writes: int) -> SymmetryError | None:
        """Why a convolution neither reads nor makes orbits, where that is another layer's doing."""
        if id(layer) in self._read:
            place, stop = self._read[id(layer)]
            return SymmetryError(
                f"model: {name!r} gets no orbits to read, for {place!r} before it is {article(stop)}, which has no "
                "form that makes any. Expected convolutions, norms and dense layers of Keras. Use these, or keep that "
                "part ordinary with keep."
            )
        for source, (place, stop) in self._made:
            if sets.find(source) == sets.find(writes):
                return SymmetryError(
                    f"model: {name!r} makes no orbits, for {place!r}, {article(stop)}, picks some of its channels, or "
                    "of those that these meet, and leaves others. Expected whole orbits that stay together. Make what "
                    "is picked by a convolution of its own, or keep that part ordinary with keep."
                )
        return None
