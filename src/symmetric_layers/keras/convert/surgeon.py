"""Makes the layers of a network that obeys the law, once it is known what meets pictures and what gives answers."""

from typing import Any

import keras

from symmetric_layers.errors import SymmetryError
from symmetric_layers.keras.convert.follow import Follower
from symmetric_layers.keras.convert.kinds import CONVS, DEPTHWISE, NORMS, OPERATORS, SEPARABLE, WEIGHS, kind_of
from symmetric_layers.keras.convert.made import (
    Made,
    Orbits,
    conv,
    dense,
    depthwise,
    in_the_mirror,
    invariant_conv,
    orbit_norm,
    orbit_prelu,
    passing,
    separable,
    shared,
)
from symmetric_layers.keras.convert.walk import article, unreadable
from symmetric_layers.letters import orbit_size


class Surgeon:
    """Makes the new layers, once it is known what meets pictures and what gives answers."""

    def __init__(self, kind: str, follower: Follower, hybrid: bool) -> None:
        self._kind, self._follower = kind, follower
        self._hybrid = hybrid  # whether something stays ordinary, and with it what is between that and pictures

    def made(self, layer: Any) -> Made | None:
        """What becomes of a layer; None where it stays."""
        if id(layer) in self._follower.kept:
            return None
        name = self._follower.layers[id(layer)][0]
        try:
            return self._form(name, layer)
        except ValueError as refusal:
            if str(refusal).startswith("model:"):
                raise
            raise SymmetryError(f"model: {name!r} cannot be converted. {refusal}") from None

    def _form(self, name: str, layer: Any) -> Made | None:
        if kind_of(layer, WEIGHS):
            return self._weighing(name, layer)
        if any(layer is pad and self._pads(reader) for reader, pad in self._follower.pads.items()):
            return passing(layer)
        if self._follower.is_plain(layer):
            if kind_of(layer, DEPTHWISE):
                self._refuse_pictures(name, layer)
            return None
        if kind_of(layer, DEPTHWISE):
            return depthwise(layer, Orbits(*[self._through(name, layer)] * 2), self._follower.pads.get(id(layer)))
        if kind_of(layer, NORMS):
            return orbit_norm(layer, {self._kind: "100%"})
        if kind_of(layer, (keras.layers.PReLU,)):
            return self._slopes(name, layer)
        if id(layer) in self._follower.vectors:
            return shared(layer, {self._kind: "100%"})
        if kind_of(layer, OPERATORS):
            return in_the_mirror(layer, {self._kind: "100%"})
        return None

    def _weighing(self, name: str, layer: Any) -> Made | None:
        unreadable(name, layer)
        plain, answers = self._follower.is_plain(layer), self._follower.answers_plain(layer)
        whole = {self._kind: "100%"}
        if plain and (kind_of(layer, SEPARABLE) or (answers and kind_of(layer, CONVS))):
            self._refuse_pictures(name, layer)
            return None
        if kind_of(layer, SEPARABLE):
            reads = self._through(name, layer)

            def out(second: Any) -> Made:
                return (
                    invariant_conv(second, reads)
                    if answers
                    else conv(second, self._orbits(name, layer, whole), "mirrored")
                )

            return separable(layer, reads, out, self._follower.pads.get(id(layer)))
        if kind_of(layer, (keras.layers.Dense,)):
            if plain and answers:
                return None
            return dense(layer, Orbits(None if plain else whole, None if answers else self._whole(name, layer.units)))
        if not answers:
            orbits = self._orbits(name, layer, None if plain else whole)
            return conv(layer, orbits, "mirrored", self._follower.pads.get(id(layer)))
        return invariant_conv(layer, whole)

    def _refuse_pictures(self, name: str, layer: Any) -> None:
        """Refuses layers that read pictures and cannot make orbits of them; beside what is kept they are ordinary."""
        if self._hybrid:
            return
        if kind_of(layer, CONVS):
            raise SymmetryError(
                f"model: {name!r} reads a picture and gives an answer, with no orbits between. Expected two layers at "
                "least, one into orbits and one out of them. Add one, or keep it ordinary with keep."
            )
        raise SymmetryError(
            f"model: {name!r}, {article(layer)}, reads a picture channel by channel. Expected an ordinary "
            "convolution there. Use one, or keep that part ordinary with keep."
        )

    def _pads(self, reader: int) -> bool:
        """Whether the convolution of this id can do the padding before it by itself."""
        _, layer = self._follower.layers[reader]
        if kind_of(layer, CONVS):
            return not self._follower.answers_plain(layer)
        return not self._follower.is_plain(layer)

    def _orbits(self, name: str, layer: Any, inputs: Any) -> Orbits:
        groups = getattr(layer, "groups", 1)
        depthwise = inputs is not None and groups == layer.filters and layer.kernel.shape[-2] == 1
        return Orbits(inputs, self._whole(name, layer.filters, 1 if depthwise else groups))

    def _whole(self, name: str, channels: int, groups: int = 1) -> dict[str, int]:
        size = orbit_size(self._kind) * groups
        if channels % size:
            raise SymmetryError(
                f"model: {name!r} has {channels} output channels, which are no whole orbits of {self._kind!r}. "
                f"Expected a multiple of {size}. Use such a number, or keep that part ordinary with keep."
            )
        return {self._kind: channels}

    def _through(self, name: str, layer: Any) -> dict[str, str]:
        """How the channels of a depthwise convolution are arranged, before and after."""
        if layer.depth_multiplier != 1:
            raise SymmetryError(
                f"model: {name!r} makes {layer.depth_multiplier} channels of each one. Expected depth_multiplier=1. "
                "Use that, or keep that part ordinary with keep."
            )
        return {self._kind: "100%"}

    def _slopes(self, name: str, layer: Any) -> Made | None:
        long = [size for size in layer.alpha.shape if size > 1]
        if not long:
            return None
        if len(long) > 1:
            raise SymmetryError(
                f"model: {name!r} has slopes for each position. Expected slopes for channels alone. "
                "Use shared_axes, or keep that part ordinary with keep."
            )
        return orbit_prelu(layer, {self._kind: "100%"})
