"""Makes what every layer of a network becomes that obeys the law: one layer after the other."""

import math
from functools import partial
from typing import Any

from torch import nn

from symmetric_layers.errors import SymmetryError
from symmetric_layers.start import Start
from symmetric_layers.torch.convert.alone import MirroredModule, breaks_alone
from symmetric_layers.torch.convert.attention import orbit_attention
from symmetric_layers.torch.convert.banks import (
    NORMS,
    invariant_conv,
    invariant_form,
    linear,
    orbit_norm,
    symmetric_conv,
    symmetric_form,
)
from symmetric_layers.torch.convert.flat import whole_maps
from symmetric_layers.torch.convert.follow import Follower
from symmetric_layers.torch.convert.operators import PIXELS, is_operator
from symmetric_layers.torch.convert.own import own_conv
from symmetric_layers.torch.convert.padded import PADDED_BEFORE, PaddedBeforePool, SamePaddedConv2d
from symmetric_layers.torch.convert.parts import UpCat
from symmetric_layers.torch.convert.surgery import HOSTS, Numbers, host_of, inherit
from symmetric_layers.torch.mirrored import Mirrored
from symmetric_layers.torch.pixels import OrbitPixelShuffle, OrbitPixelUnshuffle


class Maker:
    """What the layers of one model become, once it is known what meets pictures and what gives answers.

    Attributes:
        numbers: the new parameters, made once for layers that share them.
        unreached: the layers that the example did not reach.
    """

    def __init__(self, model: nn.Module, kind: str, follower: Follower, start: Start) -> None:
        self._model, self._kind, self._follower, self._start = model, kind, follower, start
        self.numbers = Numbers()
        self.unreached: list[str] = []

    def made(self, name: str, module: Any) -> nn.Module | None:
        """What a module becomes; None where it stays."""
        every = {self._kind: "100%"}
        try:
            if isinstance(module, HOSTS):
                return self._conv(name, module)
            if isinstance(module, nn.Linear):
                return self._linear(name, module)
            if attends(module):
                return self._attention(name, module)
            if type(module) in PIXELS:
                return self._pixels(name, module)
            if isinstance(module, NORMS):
                return self._norm(name, module)
            if is_operator(module) and self._follower.state(name) is False:
                padded = self._follower.padding_before(name, module, self._kind)
                new = PaddedBeforePool(module, every, padded) if padded else Mirrored(module, every)
                return new.train(module.training)
            if _is_up_cat(module) and not self.is_plain(self._follower.answers.get(f"{name}.upsample".lstrip("."))):
                return UpCat(module, every).train(module.training)
        except ValueError as refusal:
            if str(refusal).startswith("model:"):
                raise
            raise SymmetryError(f"model: {name!r} cannot be converted. {refusal}") from None
        return None

    def is_plain(self, source: int | None) -> bool:
        """Whether channels are ordinary."""
        return source is None or self._follower.sets.is_plain(source)

    def whole(self, name: str, channels: int, groups: int = 1) -> dict[str, int]:
        """The orbits of a layer that had so many channels."""
        return self._start.whole(name, channels, self._kind, groups)

    def _orbits(self, channels: int) -> dict[str, int]:
        return {self._kind: self._start.wide(channels)}

    def _conv(self, name: str, conv: Any) -> nn.Module | None:
        host = host_of(conv)
        state = self._follower.state(name)
        if state is None:
            self.unreached.append(name)
            return None
        in_symmetry = None if state else self._orbits(conv.in_channels)
        plain = self.is_plain(self._follower.writes[name])
        depthwise = not state and conv.groups == conv.in_channels == conv.out_channels
        if host is None:
            if plain or conv.transposed or self._start.width != 1:
                raise _strange(name, conv)
            symmetry = self.whole(name, conv.out_channels, 1 if depthwise else conv.groups)
            return own_conv(conv, symmetry, in_symmetry, self.numbers)
        if plain:
            return invariant_conv(conv, invariant_form(host), in_symmetry, self._kind, self.numbers, self._start)
        symmetry = self.whole(name, conv.out_channels, 1 if depthwise else conv.groups)
        build = symmetric_form(host)
        padded = self._follower.padding_before(name, conv, self._kind)
        if any(pads_itself(parent) and parent.convolution is conv for parent in self._model.modules()):
            build = SamePaddedConv2d
        elif padded:
            build = partial(PADDED_BEFORE[len(conv.kernel_size) - 1], padded=padded)
        return symmetric_conv(conv, build, symmetry, in_symmetry, "mirrored", self.numbers, self._start)

    def _linear(self, name: str, old: Any) -> nn.Module | None:
        state = self._follower.state(name)
        if state is None:
            self.unreached.append(name)
            return None
        answers, sizes = self.is_plain(self._follower.writes[name]), self._follower.flat.get(name)
        if state and answers and not sizes:
            return None
        if host_of(old, (nn.Linear,)) is None:
            raise _strange(name, old)
        channels = old.in_features // math.prod(sizes or ())
        in_symmetry = None if state else self._orbits(channels)
        symmetry = None if answers else self.whole(name, old.out_features)
        if sizes:
            return whole_maps(old, sizes, symmetry, in_symmetry, self._kind, self.numbers, self._start)
        return linear(old, symmetry, in_symmetry, self.numbers, self._start)

    def _attention(self, name: str, old: Any) -> nn.Module | None:
        state = self._follower.state(name)
        if state is None:
            self.unreached.append(name)
            return None
        plain = self.is_plain(self._follower.writes[name])
        told = {self.is_plain(source) for source in self._follower.keys[name]}  # of keys and values: whether they are
        if state and plain and told == {True}:
            return None
        alike = old._qkv_same_embed_dim or told == {True}
        if state or plain or len(told) > 1 or not alike or type(old) is not nn.MultiheadAttention:
            raise SymmetryError(
                f"model: {name!r}, a {type(old).__name__}, attends to orbits and gives plain features, or the reverse, "
                "or has keys of another size. Expected queries and answers that are orbits, and keys and values that "
                "are as many, or plain. Put linear layers before and behind it, or keep that part ordinary with keep."
            )
        self.whole(name, old.embed_dim, old.num_heads)  # heads of whole orbits
        return orbit_attention(old, self._orbits(old.embed_dim), told == {True}, self.numbers, self._start)

    def _pixels(self, name: str, old: Any) -> nn.Module | None:
        """Channels that become pixels, or the reverse: those with the pixels may be plain."""
        reads, answers = self._follower.state(name), self.is_plain(self._follower.writes.get(name))
        shuffles = isinstance(old, nn.PixelShuffle)
        torn, whole = (reads, answers) if shuffles else (answers, reads)
        factor = old.upscale_factor if shuffles else old.downscale_factor
        if reads is None or torn or factor == 1:  # the law says what that breaks
            return None
        if whole and self._start.width != 1:
            raise SymmetryError(
                f"model: the pixels of {name!r} are plain channels, as many at every width. Expected width=1 for such "
                "a network. Use that."
            )
        how: Any = {"axes": self._kind} if whole else {"symmetry": {self._kind: "100%"}}
        new = (
            OrbitPixelShuffle(old.upscale_factor, **how)
            if shuffles
            else OrbitPixelUnshuffle(old.downscale_factor, **how)
        )
        inherit(old, new)
        return new

    def _norm(self, name: str, norm: Any) -> nn.Module | None:
        own = [*norm.parameters(recurse=False), *norm.buffers(recurse=False)]
        if self._follower.state(name) is not False or not (own or self._start.width != 1):
            return None
        host = host_of(norm, NORMS)
        if host is None:  # it computes something of its own, which was followed function by function
            return None
        channels = norm.num_channels if host is nn.GroupNorm else getattr(norm, "num_features", None)
        whole = self.whole(name, channels) if channels else {self._kind: "100%"}
        return orbit_norm(norm, host, whole, self.numbers, self._start)

    def is_seen_whole(self, name: str, module: nn.Module, kept: list[str]) -> bool:
        """Whether a module treats channel by channel, and has to be seen in the mirror."""
        shape = self._follower.alone.get(name)
        if shape is None or self.is_plain(self._follower.answers.get(name)):
            return False
        owners = [
            owner for (owner, _), (source, _) in self._follower.parameters.items() if self._follower.meets(source)
        ]
        if any(one == name or one.startswith(f"{name}.") for one in [*owners, *(f"{one}." for one in kept)]):
            return False  # what knows channels is shared within orbits, what is kept is kept
        known = self._follower.broken_alone
        if name not in known:
            known[name] = breaks_alone(module, shape, self._kind)
        return known[name] and self._follower.state(name) is False

    def seen_whole(self, module: nn.Module) -> nn.Module:
        """Such a module, seen in the mirror."""
        return MirroredModule(module, {self._kind: "100%"}).train(module.training)


def attends(module: nn.Module) -> bool:
    """Whether a module is the host's attention, or of its kind."""
    return isinstance(module, nn.MultiheadAttention)


def pads_itself(module: Any) -> bool:
    """Whether a block (as in transformers' MobileNets) pads like TensorFlow before it convolves."""
    return bool(getattr(getattr(module, "config", None), "tf_padding", False)) and hasattr(module, "convolution")


def _is_up_cat(module: nn.Module) -> bool:
    return type(module).__name__ == "UpCat" and type(module).__module__.startswith("monai.")


def _strange(name: str, module: nn.Module) -> SymmetryError:
    return SymmetryError(
        f"model: {name!r} is a {type(module).__name__}, which computes something of its own. "
        "Expected a layer of torch.nn. Use one, or keep that part ordinary with keep."
    )
