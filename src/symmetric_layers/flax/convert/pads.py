"""Lopsided padding before convolutions, which becomes part of these: who pads zeros, and who reads them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from flax import nnx

from symmetric_layers.flax.convert.spied import host_of
from symmetric_layers.flax.grid import each

Sides = tuple[tuple[int, int], ...]  # zeros before and after, along every axis of positions

_SAME = {"convert_element_type", "copy", "copy_p", "broadcast_in_dim"}  # what leaves zeros what they are


@dataclass
class Pad:
    """One step that pads more on one side than on the other.

    Attributes:
        place: the module or function that it is in.
        source: the set of channels that it pads.
        sides: how many zeros; nothing where it is something else that is padded.
        readers: the names of layers that read what is padded, and nothing for other steps.
    """

    place: str
    source: int
    sides: Sides
    readers: list[str] = field(default_factory=list)


class Pads:
    """The lopsided padding of a model's graphs.

    Attributes:
        found: all steps that pad so.
        calls: by the name of a layer: what was padded of what it read, each time.
    """

    def __init__(self) -> None:
        self.found: list[Pad] = []
        self.calls: dict[str, list[Pad | None]] = {}
        self._padded: dict[Any, Pad] = {}
        self._zeros: set[Any] = set()

    def forget(self) -> None:
        """Another graph begins."""
        self._padded, self._zeros = {}, set()

    def same(self, one: Any, other: Any) -> None:
        """Both are one array."""
        if self._is_zero(one):
            self._zeros.add(other)
        if not hasattr(one, "val") and one in self._padded:
            self._padded[other] = self._padded[one]

    def read(self, eqn: Any) -> None:
        """Notes what a step reads."""
        sort = eqn.primitive.name
        if sort in _SAME and len(eqn.invars) == 1 and (sort != "broadcast_in_dim" or self._is_zero(eqn.invars[0])):
            self.same(eqn.invars[0], eqn.outvars[0])
            return
        pads = [self._padded.get(var) if not hasattr(var, "val") else None for var in eqn.invars]
        name = eqn.params["name"] if sort == "layer" else ""
        for index, pad in enumerate(pads):
            if pad is not None:
                pad.readers.append("" if index else name)
        if name:
            self.calls.setdefault(name, []).append(pads[0])

    def hand_out(self, answers: Sequence[Any]) -> None:
        """Notes that these are answers of the model."""
        for var in answers:
            if not hasattr(var, "val") and var in self._padded:
                self._padded[var].readers.append("")

    def pad(self, eqn: Any, source: int, place: str) -> None:
        """Notes a step that pads more on one side than on the other."""
        config = [tuple(map(int, sides)) for sides in eqn.params["padding_config"]]
        positions = config[1:-1]
        bare = all(sides == (0, 0, 0) for sides in (config[0], config[-1]))
        grows = all(low >= 0 and high >= 0 and not inside for low, high, inside in positions)
        zeros = bare and grows and self._is_zero(eqn.invars[1])
        pad = Pad(place, source, tuple((low, high) for low, high, _ in positions) if zeros else ())
        self.found.append(pad)
        self._padded[eqn.outvars[0]] = pad

    def before(self, name: str, layer: Any, in_the_mirror: Callable[[Pad], bool]) -> Sides:
        """What is padded before every call of a convolution; nothing where that cannot become part of it."""
        calls = self.calls.get(name, [])
        known = {pad.sides if pad is not None and not in_the_mirror(pad) else () for pad in calls}
        (sides, *others) = known or {()}
        fits = host_of(layer, (nnx.Conv,)) and not others and _takes(layer)
        return sides if fits else ()

    def compare(self, other: "Pads") -> None:
        """Notes the layers before which other numbers of zeros are padded in a graph of another size."""
        for name in self.calls:
            if self._sides(name) != other._sides(name):
                self.calls[name].append(None)

    def _sides(self, name: str) -> set[Sides]:
        return {() if pad is None else pad.sides for pad in self.calls.get(name, [])}

    def _is_zero(self, var: Any) -> bool:
        if not hasattr(var, "val"):
            return var in self._zeros
        return not var.aval.shape and bool(var.val == 0)


def _takes(layer: Any) -> bool:
    """Whether zeros may be added to those that a convolution pads by itself."""
    own = layer.padding == "VALID" or not isinstance(layer.padding, str)
    return own and all(spread == 1 for spread in each(layer.input_dilation, layer.kernel_size))
