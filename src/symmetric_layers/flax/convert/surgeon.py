"""Makes the layers of a network that obeys the law, once it is known what meets pictures and what gives answers."""

import math
from typing import Any

from flax import nnx

from symmetric_layers.errors import SymmetryError
from symmetric_layers.flax.convert.follow import Follower
from symmetric_layers.flax.convert.kinds import (
    CONVS,
    EMBEDS,
    LINEARS,
    MAKES,
    NORMS,
    WEIGHS,
    groups_of,
    is_depthwise,
    outputs_of,
)
from symmetric_layers.flax.convert.made import (
    conv,
    flat_linear,
    invariant_conv,
    linear,
    orbit_embed,
    orbit_norm,
    orbit_param,
    palindrome_conv,
)
from symmetric_layers.flax.convert.numbers import Numbers
from symmetric_layers.flax.convert.operators import lies_otherwise, mixes_channels
from symmetric_layers.flax.convert.padded import pad_before
from symmetric_layers.flax.convert.spied import FUNCTION, functions_of, host_of, joined, modules_of, put, variables_of
from symmetric_layers.flax.convert.steps import stopped
from symmetric_layers.flax.mirrored import Mirrored
from symmetric_layers.letters import orbit_size
from symmetric_layers.start import Start


class Surgeon:
    """Changes the layers of a model in their places."""

    def __init__(self, kind: str, follower: Follower, hybrid: bool, start: Start, rngs: nnx.Rngs) -> None:
        self._kind, self._follower, self._start = kind, follower, start
        self._hybrid = hybrid  # whether something stays ordinary, and with it what is between that and pictures
        self._numbers = Numbers(rngs)

    def operate(self, model: nnx.Module) -> list[str]:
        """Converts a model; gives the names of layers that the example did not reach, which stay ordinary."""
        unreached = []
        for name, module in list(modules_of(model)):
            if host_of(module, (*MAKES, *NORMS)) and name not in self._follower.reads:
                unreached.append(name)
            else:
                self._one(name, module)
            for attribute, function in functions_of(module):
                if self._mirrors(joined(name, attribute)):
                    put(module, attribute, nnx.data(Mirrored(function, {self._kind: "100%"})))
        variables = dict(variables_of(model))
        for name, (source, dim) in self._follower.vectors.items():
            if self._follower.are_orbits([source]):
                self._shared(name, variables.get(name), dim)
        self._numbers.apply()
        for _, module in modules_of(model) if self._start.width != 1 else ():
            if isinstance(module, nnx.MultiHeadAttention):
                _counted(module)
        return unreached

    def divisor(self, model: nnx.Module) -> int:
        """The largest number of channels that all banks of orbits consist of, over and over."""
        counts = []
        for name, layer in modules_of(model):
            if name in self._follower.writes and host_of(layer, MAKES) and not self._follower.answers_plain(name):
                counts.append(outputs_of(layer) // self._banks(layer, self._follower.is_plain(name)))
        return math.gcd(*counts) or 1

    def _mirrors(self, name: str) -> bool:
        """Whether the mirrors of an orbit have to see a function in the mirror."""
        calls = self._follower.functions.get(name + FUNCTION)
        if calls is None or not calls.looks or not self._follower.are_orbits(calls.sources):
            return False
        if not any(lies_otherwise(function, shape, self._kind) for function, shape in calls.tries):
            return False
        if calls.others or not all(self._follower.are_orbits([source]) for source in calls.sources):
            raise SymmetryError(
                f"model: {name!r} lies otherwise in the mirror, and is used on other arrays than pictures of orbits, "
                "too. Expected one sort. Use two functions, one for each."
            )
        if any(mixes_channels(function, shape, self._kind) for function, shape in calls.tries):
            raise SymmetryError(
                f"model: {name!r} lies otherwise in the mirror, and channels do not go through it one by one. Expected "
                "either. Make two functions of it, or keep that part ordinary with keep."
            )
        return True

    def _one(self, name: str, module: Any) -> None:
        try:
            host = host_of(module, (*MAKES, *NORMS))
            if host in WEIGHS:
                self._weighing(name, module)
            elif host in EMBEDS and not self._follower.answers_plain(name):
                orbit_embed(self._numbers, module, self._whole(name, module, True), self._start)
            elif host in NORMS and not self._follower.is_plain(name):
                self._norm(name, module, host)
        except ValueError as refusal:
            if str(refusal).startswith("model:"):
                raise
            raise SymmetryError(f"model: {name!r} cannot be converted. {refusal}") from None

    def _weighing(self, name: str, layer: Any) -> None:
        plain, answers = self._follower.is_plain(name), self._follower.answers_plain(name)
        whole = {self._kind: "100%"}
        if plain and answers:
            if name in self._follower.palindromes or (is_depthwise(layer) and not self._hybrid):
                palindrome_conv(layer, self._kind)
                self._pads(name, layer)
            elif isinstance(layer, CONVS):
                self._refuse_pictures(name)
            return
        if not plain:
            self._refuse_torn(name, layer, answers)
        symmetry = None if answers else self._whole(name, layer, plain)
        shape = self._follower.flat.get(name)
        if shape:
            flat_linear(self._numbers, layer, shape, symmetry, None if plain else whole, self._start)
        elif isinstance(layer, LINEARS):
            linear(self._numbers, layer, symmetry, None if plain else whole, self._start)
        elif answers:
            invariant_conv(self._numbers, layer, whole, self._start)
        else:
            conv(self._numbers, layer, symmetry, None if plain else whole, "mirrored", self._start)
        self._pads(name, layer)

    def _pads(self, name: str, layer: Any) -> None:
        """What is padded before a layer becomes part of it."""
        padded = self._follower.padded.get(name)
        if padded:
            pad_before(layer, padded)

    def _norm(self, name: str, layer: Any, host: Any) -> None:
        """A norm, of channels alone: what has numbers for each position cannot be shared."""
        axes, count = getattr(layer, "feature_axes", getattr(layer, "axis", -1)), self._follower.axes(name)
        if any(axis % count != count - 1 for axis in ([axes] if isinstance(axes, int) else axes)):
            raise SymmetryError(
                f"model: {name!r} has numbers for axes {axes}. Expected the last one, that of channels. Use that, or "
                "keep that part ordinary with keep."
            )
        orbit_norm(self._numbers, host, layer, {self._kind: self._follower.channels[name]}, self._start)

    def _refuse_torn(self, name: str, layer: Any, answers: bool) -> None:
        """Refuses groups that tear orbits apart, unless every channel is filtered by itself."""
        groups, size = groups_of(layer), orbit_size(self._kind)
        if groups == 1 or (is_depthwise(layer) and not answers):
            return
        channels = self._start.wide(layer.in_features)
        if channels // groups % size:
            alone = "" if answers else ", or as many groups as channels"
            raise SymmetryError(
                f"model: {name!r} reads {channels} channels in {groups} groups of {channels // groups}, which tears "
                f"orbits of {self._kind!r} apart. Expected a multiple of {size} in each group{alone}. Use at most "
                f"{channels // size} groups, or keep that part ordinary with keep."
            )

    def _whole(self, name: str, layer: Any, plain: bool) -> dict[str, int]:
        """The symmetry of all output channels."""
        return self._start.whole(name, outputs_of(layer), self._kind, self._banks(layer, plain))

    def _banks(self, layer: Any, plain: bool) -> int:
        """How many banks of their own a layer has."""
        if isinstance(layer, nnx.LinearGeneral):
            return math.prod(layer.out_features[:-1])
        return (
            1 if isinstance(layer, (nnx.Linear, *EMBEDS)) or (is_depthwise(layer) and not plain) else groups_of(layer)
        )

    def _refuse_pictures(self, name: str) -> None:
        """Refuses layers between a picture and an answer; beside what is kept they are ordinary."""
        if not self._hybrid:
            other = self._follower.stopped(name)
            if other:
                raise stopped(name, other)
            raise SymmetryError(
                f"model: {name!r} reads a picture and gives an answer, with no orbits between. Expected two layers at "
                "least, one into orbits and one out of them. Add one, or keep it ordinary with keep."
            )

    def _shared(self, name: str, variable: Any, dim: int) -> None:
        if type(variable) is not nnx.Param:
            sort = "an array" if variable is None else type(variable).__name__
            raise SymmetryError(
                f"model: {name!r}, {sort}, has one number for each channel of an orbit. Expected an "
                "nnx.Param. Use one, or keep that part ordinary with keep."
            )
        orbit_param(variable, self._kind, dim, self._start)


def _counted(attention: Any) -> None:
    """Tells attention how many channels its layers have now."""
    (attention.in_features,), (attention.in_kv_features,) = attention.query.in_features, attention.key.in_features
    heads, attention.head_dim = attention.query.out_features
    attention.qkv_features = heads * attention.head_dim
    (attention.out_features,) = attention.out.out_features
