"""Follows channels through attention with several heads, and through dense layers that are written as sums."""

import inspect
from typing import Any

import keras

from symmetric_layers.errors import SymmetryError
from symmetric_layers.keras.convert.multiply import letters_summed
from symmetric_layers.keras.convert.sentences import lost, several, sums_elsewhere
from symmetric_layers.sets import Mark, Sets

ROLES = ("query", "key", "value")


class Attending:
    """What a follower does at layers that weigh features, and have several axes or several inputs of these."""

    sets: Sets
    reads: dict[int, list[int]]
    writes: dict[int, int]
    _faults: list[tuple[int, SymmetryError]]

    def __init__(self) -> None:
        self.letters: dict[int, str] = {}  # by EinsumDense: the letters of the features that it reads and makes
        self.roles: dict[int, dict[str, list[int]]] = {}  # by attention: the sets that are queries, keys and values

    def _mark(self, tensor: Any) -> Mark:
        raise NotImplementedError

    def _set(self, tensor: Any, mark: Mark) -> None:
        raise NotImplementedError

    def _attend(self, layer: Any, name: str, call: Any, answers: list[Any]) -> None:
        """Queries, keys and values are arranged by themselves; the weights of the attention are ordinary."""
        given = inspect.signature(keras.layers.MultiHeadAttention.call).bind(None, *call[0], **call[1]).arguments
        given.setdefault("key", given["value"])
        roles = self.roles.setdefault(id(layer), {role: [] for role in ROLES})
        for role, tensor in given.items():
            if not keras.backend.is_keras_tensor(tensor):
                continue
            mark = self._mark(tensor)
            if role not in ROLES:  # masks
                self.sets.make_plain(mark.source)
                continue
            if mark.lost or mark.dim not in (None, len(tensor.shape) - 1):
                self._faults.append((mark.source, lost(name, layer, mark.lost or "an exchange of axes")))
            roles[role].append(mark.source)
            self.reads.setdefault(id(layer), []).append(mark.source)
        made = self.writes.setdefault(id(layer), self.sets.new())
        if len(answers[0].shape) != len(given["query"].shape):
            self._faults.append((made, several(name, answers[0].shape[len(given["query"].shape) - 1 :])))
        self._set(answers[0], Mark(made, len(answers[0].shape) - 1))
        for scores in answers[1:]:
            self._set(scores, Mark(self.sets.new(plain=True), None))

    def _sum(self, layer: Any, name: str, tensor: Any, answer: Any) -> None:
        """A dense layer whose axes have letters."""
        mark = self._mark(tensor)
        axis = None if mark.dim is None else mark.dim - len(tensor.shape)
        letters = letters_summed(layer.equation, axis)
        if mark.lost or letters is None or self.letters.setdefault(id(layer), letters) != letters:
            fault = lost(name, layer, mark.lost) if mark.lost else sums_elsewhere(name, layer)
            self._faults.append((mark.source, fault))
            self._set(answer, Mark(self.sets.new(plain=True), None))
            return
        self.reads.setdefault(id(layer), []).append(mark.source)
        made = self.writes.setdefault(id(layer), self.sets.new(plain=letters[1] == "."))
        place = layer.equation.split("->")[1].replace("...", "")
        dim = len(answer.shape) + place.index(letters[1]) - len(place) if letters[1] in place else None
        self._set(answer, Mark(made, dim))

    def orbits_of(self, layer: Any, name: str) -> dict[str, bool]:
        """Which of query, key, value and answer of an attention are orbits. Refuses what is both."""
        found = {}
        for role, sources in self.roles[id(layer)].items():
            met = {not self.sets.is_plain(source) for source in sources}
            if len(met) > 1:
                raise SymmetryError(
                    f"model: {name!r} is used both on pictures and on orbits. Expected one of both. Use two layers, "
                    "one for each."
                )
            found[role] = met == {True}
        return {**found, "answer": not self.sets.is_plain(self.writes[id(layer)])}
