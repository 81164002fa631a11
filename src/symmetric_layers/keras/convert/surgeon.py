"""Makes the layers of a network that obeys the law, once it is known what meets pictures and what gives answers."""

import math
from typing import Any

import keras

from symmetric_layers.errors import SymmetryError
from symmetric_layers.keras.convert.alone import depthwise, lifting, own_mirror, separable
from symmetric_layers.keras.convert.attention import attention, units_of
from symmetric_layers.keras.convert.einsum import einsum_dense
from symmetric_layers.keras.convert.follow import Follower
from symmetric_layers.keras.convert.kinds import (
    ATTENDS,
    CONVS,
    DEPTHWISE,
    LOOKS_UP,
    NORMS,
    OPERATORS,
    SEPARABLE,
    SUMS,
    WEIGHS,
    each_of,
    is_depthwise,
    kind_of,
)
from symmetric_layers.keras.convert.looked_up import embedding
from symmetric_layers.keras.convert.made import (
    Made,
    Orbits,
    again,
    around,
    conv,
    dense,
    flat_dense,
    in_the_mirror,
    invariant_conv,
    orbit_norm,
    orbit_prelu,
    passing,
    shared,
)
from symmetric_layers.keras.convert.multiply import Sums
from symmetric_layers.keras.convert.sentences import leads_nowhere
from symmetric_layers.keras.convert.walk import inputs_of, unreadable
from symmetric_layers.letters import LETTERS, orbit_size
from symmetric_layers.start import Start


class Surgeon:
    """Makes the new layers, once it is known what meets pictures and what gives answers."""

    def __init__(self, kind: str, follower: Follower, hybrid: bool, start: Start) -> None:
        self._kind, self._follower, self._start = kind, follower, start
        self._hybrid = hybrid  # whether something stays ordinary, and with it what is between that and pictures

    def made(self, layer: Any) -> Made | None:
        """What becomes of a layer; None where it stays."""
        own = each_of(layer)
        if id(own) in self._follower.kept:
            return None
        name = self._follower.layers[id(own)][0]
        try:
            made = self._form(name, own)
            return made if made is None or own is layer else (around(layer, made[0]), made[1])
        except ValueError as refusal:
            if str(refusal).startswith("model:"):
                raise
            raise SymmetryError(f"model: {name!r} cannot be converted. {refusal}") from None

    def shapes(self, model: Any) -> list[Any] | None:
        """Of the inputs of a model inside the model, where these are orbits and others than before."""
        if self._start.width == 1:
            return None
        found = []
        entries = self._follower.entries[id(model)]
        for tensor, (source, axis) in zip(keras.tree.flatten(inputs_of(model)), entries, strict=True):
            shape = list(tensor.shape)
            if axis is not None and not self._follower.sets.is_plain(source) and shape[axis]:
                shape[axis] = self._start.wide(shape[axis])
            found.append(tuple(shape))
        return found

    def divisor(self) -> int:
        """The largest number of channels that all banks of orbits consist of, over and over."""
        counts = []
        for key in self._follower.writes:
            _, layer = self._follower.layers[key]
            if key not in self._follower.kept and not self._follower.answers_plain(layer):
                alone = is_depthwise(layer) and not self._follower.is_plain(layer)
                groups = 1 if alone else getattr(layer, "groups", 1)
                if kind_of(layer, DEPTHWISE) and self._follower.is_plain(layer):
                    groups = layer.kernel.shape[-2]
                counts += [made // groups for made in made_by(layer, self._follower.letters.get(key, ""))]
        return math.gcd(*counts) or 1

    def _form(self, name: str, layer: Any) -> Made | None:
        if kind_of(layer, WEIGHS):
            return self._weighing(name, layer)
        if kind_of(layer, (*ATTENDS, *SUMS, *LOOKS_UP)) and id(layer) in self._follower.writes:
            unreadable(name, layer)
            return self._of_features(name, layer)
        if any(layer is pad and self._pads(reader) for reader, pad in self._follower.pads.before.items()):
            return passing(layer)
        if kind_of(layer, (keras.layers.Reshape,)):
            return self._reshaped(name, layer)
        if self._follower.is_plain(layer):
            return self._alone(name, layer) if kind_of(layer, DEPTHWISE) else None
        if kind_of(layer, DEPTHWISE):
            if not self._makes_orbits(layer):
                raise leads_nowhere(name, layer)
            return depthwise(layer, {self._kind: "100%"}, self._start, self._follower.pads.before.get(id(layer)))
        if kind_of(layer, NORMS):
            return orbit_norm(layer, {self._kind: "100%"}, self._start)
        if kind_of(layer, (keras.layers.PReLU,)):
            return self._slopes(name, layer)
        if id(layer) in self._follower.vectors:
            return shared(layer, {self._kind: "100%"}, self._start)
        if kind_of(layer, OPERATORS):
            return in_the_mirror(layer, {self._kind: "100%"})
        return None

    def _of_features(self, name: str, layer: Any) -> Made | None:
        """Layers that know nothing of positions."""
        plain, answers = self._follower.is_plain, self._follower.answers_plain(layer)
        if kind_of(layer, ATTENDS):
            orbits = self._follower.orbits_of(layer, name)
            return attention(name, layer, self._kind, orbits, self._start) if any(orbits.values()) else None
        if kind_of(layer, LOOKS_UP):
            return None if answers else embedding(layer, self._whole(name, layer.output_dim), self._start)
        if plain(layer) and answers:
            return None
        letters, whole = self._follower.letters[id(layer)], {self._kind: "100%"}
        made = None if answers else self._whole(name, *made_by(layer, letters))
        return einsum_dense(layer, letters, None if plain(layer) else whole, made, self._start)

    def _weighing(self, name: str, layer: Any) -> Made | None:
        unreadable(name, layer)
        plain, answers = self._follower.is_plain(layer), self._follower.answers_plain(layer)
        whole = {self._kind: "100%"}
        if plain and answers and kind_of(layer, CONVS):
            if self._is_gate(layer):
                return own_mirror(layer, self._letters_of(layer))
            self._refuse_pictures(name, layer)
            return None
        if kind_of(layer, SEPARABLE):
            if plain and answers and self._stays(layer):
                return None

            def out(second: Any) -> Made:
                if answers:
                    return invariant_conv(second, whole, self._start)
                return conv(second, self._orbits(name, layer, whole), "mirrored", self._start)

            pad = self._follower.pads.before.get(id(layer))
            return separable(layer, None if plain else whole, whole, out, self._start, pad)
        if kind_of(layer, (keras.layers.Dense,)):
            if plain and answers:
                return None
            made = None if answers else self._whole(name, layer.units)
            flat = self._follower.flats.get(id(layer))
            if flat is not None and (not plain or len(flat.shape) - 1 == self._follower.positions):
                return flat_dense(layer, flat, Orbits(None if plain else whole, made), self._start)
            return dense(layer, Orbits(None if plain else whole, made), self._start)
        if not plain:
            self._refuse_torn(name, layer, answers)
        if not answers:
            orbits = self._orbits(name, layer, None if plain else whole)
            return conv(layer, orbits, "mirrored", self._start, self._follower.pads.before.get(id(layer)))
        return invariant_conv(layer, whole, self._start)

    def _refuse_pictures(self, name: str, layer: Any) -> None:
        """Refuses layers that read pictures and cannot make orbits of them; beside what is kept they are ordinary."""
        if self._hybrid:
            return
        follower = self._follower
        reason = follower.stops.reason(name, layer, follower.sets, follower.writes[id(layer)])
        between = (
            "a picture and gives an answer" if follower.reads_picture(layer) else "ordinary channels and makes such"
        )
        raise reason or SymmetryError(
            f"model: {name!r} reads {between}, with no orbits between. Expected two layers at "
            "least, one into orbits and one out of them. Add one, or keep it ordinary with keep."
        )

    def _alone(self, name: str, layer: Any) -> Made | None:
        """A depthwise convolution that reads ordinary channels."""
        if self._makes_orbits(layer) and id(layer) in self._follower.writes:
            channels, times = layer.kernel.shape[-2:]
            self._whole(name, channels * times, channels)
            pad = self._follower.pads.before.get(id(layer))
            return lifting(layer, {self._kind: "100%"}, self._start, pad)
        letters = self._letters_of(layer)
        return own_mirror(layer, letters) if letters and not self._stays(layer) else None

    def _letters_of(self, layer: Any) -> str:
        return "".join(letter for letter in self._kind if letter in LETTERS[: len(layer.kernel_size)])

    def _is_gate(self, layer: Any) -> bool:
        """Whether a convolution makes too few channels for an orbit out of what others have left of theirs."""
        few = kind_of(layer, CONVS[:3]) and layer.filters < orbit_size(self._kind)
        return (
            bool(few and self._letters_of(layer)) and not self._stays(layer) and not self._follower.reads_picture(layer)
        )

    def _makes_orbits(self, layer: Any) -> bool:
        """Whether a depthwise convolution makes orbits; one channel of each is what that is."""
        return id(layer) not in self._follower.writes or not self._follower.answers_plain(layer)

    def _stays(self, layer: Any) -> bool:
        """Whether a layer between ordinary channels stays as it is: beside what is kept, and on words."""
        return self._hybrid or id(layer) not in self._follower.maps

    def _refuse_torn(self, name: str, layer: Any, answers: bool) -> None:
        """Refuses groups of input channels that hold parts of orbits; mirrors of single channels know each other."""
        groups, size = getattr(layer, "groups", 1), orbit_size(self._kind)
        if groups == 1 or (is_depthwise(layer) and not answers):
            return
        inside = layer.kernel.shape[-2] * self._start.width
        if inside % size:
            raise SymmetryError(
                f"model: {name!r} has {int(inside * groups)} input channels in {groups} groups, which tear orbits of "
                f"{self._kind!r} apart. Expected whole orbits in every group, a multiple of {size} channels. Use fewer "
                "groups, or keep that part ordinary with keep."
            )

    def _pads(self, reader: int) -> bool:
        """Whether the convolution of this id can do the padding before it by itself."""
        _, layer = self._follower.layers[reader]
        if not self._follower.is_plain(layer):
            return not (kind_of(layer, CONVS) and self._follower.answers_plain(layer))
        made = id(layer) in self._follower.writes and not self._follower.answers_plain(layer)
        return made or (kind_of(layer, SEPARABLE) and not self._stays(layer))

    def _orbits(self, name: str, layer: Any, inputs: Any) -> Orbits:
        groups = getattr(layer, "groups", 1)
        alone = inputs is not None and is_depthwise(layer)
        return Orbits(inputs, self._whole(name, layer.filters, 1 if alone else groups))

    def _whole(self, name: str, channels: int, groups: int = 1) -> dict[str, int]:
        return self._start.whole(name, channels, self._kind, groups)

    def _reshaped(self, name: str, layer: Any) -> Made | None:
        """A layer that gives channels new places says how many there are."""
        axis = self._follower.orbits_at(name)
        if self._start.width == 1 or axis is None or layer.target_shape[axis - 1] == -1:
            return None
        shape = list(layer.target_shape)
        shape[axis - 1] = self._start.wide(shape[axis - 1])
        return again(layer, target_shape=shape), lambda: None

    def _slopes(self, name: str, layer: Any) -> Made | None:
        long = [size for size in layer.alpha.shape if size > 1]
        if not long:
            return None
        if len(long) > 1:
            raise SymmetryError(
                f"model: {name!r} has slopes for each position. Expected slopes for channels alone. "
                "Use shared_axes, or keep that part ordinary with keep."
            )
        return orbit_prelu(layer, {self._kind: "100%"}, self._start)


def made_by(layer: Any, letters: str) -> list[int]:
    """How many channels a layer makes, in each of its banks of orbits."""
    if kind_of(layer, ATTENDS):
        return [layer.key_dim, layer.value_dim, *units_of(layer)]
    if kind_of(layer, SUMS):
        return [layer.partial_output_shape[Sums.of(layer.equation, letters).made]]
    if kind_of(layer, DEPTHWISE):
        return [int(layer.kernel.shape[-2] * layer.depth_multiplier)]
    names = ("units", "output_dim", "filters")
    return [next(getattr(layer, name) for name in names if hasattr(layer, name))]
