"""Puts new layers into a network that is to obey the law, and shares within orbits what stands outside of layers."""

import copy
import math
from functools import partial
from typing import Any

import torch
from torch import nn

from symmetric_layers.letters import LETTERS
from symmetric_layers.orbits import plan
from symmetric_layers.start import Start
from symmetric_layers.torch.convert.follow import Follower
from symmetric_layers.torch.convert.maker import Maker, attends, pads_itself
from symmetric_layers.torch.convert.operators import PIXELS
from symmetric_layers.torch.convert.parts import Spread
from symmetric_layers.torch.convert.sentences import lies_on_plain, sparse
from symmetric_layers.torch.convert.surgery import exchange_modules
from symmetric_layers.torch.convert.tables import SpreadTable

_FUSED = (nn.TransformerEncoder, nn.TransformerEncoderLayer)


def inside(name: str, kept: list[str]) -> bool:
    """Whether a module is one of those that stay ordinary, or a part of one."""
    return any(name == one or name.startswith(one + ".") or not one for one in kept)


class Surgeon:
    """Makes the new layers of one model, all of them before the first one is put in."""

    def __init__(self, model: nn.Module, kind: str, follower: Follower, kept: list[str], start: Start) -> None:
        self._model, self._kind, self._follower, self._kept, self._start = model, kind, follower, kept, start
        self._maker = Maker(model, kind, follower, start)
        self.names: dict[int, str] = {}
        self.evened: list[str] = []  # buffers whose numbers differed within orbits

    @property
    def unreached(self) -> list[str]:
        """The layers that the example did not reach, and that stay ordinary."""
        return self._maker.unreached

    def operate(self) -> nn.Module:
        """Converts the model."""
        new: dict[int, nn.Module] = {}
        modules = list(self._model.named_modules())
        whole = [name for name, module in modules if self._maker.is_seen_whole(name, module, self._kept)]
        parts = [f"{name}.out_proj".lstrip(".") for name, module in modules if attends(module)]
        for name, module in modules:
            made: nn.Module | None
            if name in whole and not inside(name, self._kept):
                made = self._maker.seen_whole(module)
            else:
                made = None if inside(name, [*self._kept, *whole, *parts]) else self._maker.made(name, module)
            if made is not None:
                new[id(module)], self.names[id(made)] = made, name
        names = {id(module): name for name, module in modules}
        shared = list(self._shared())
        for module, key, spread, values in shared:
            if key in module._buffers:
                known = self._start.width == 1 and not values.is_meta
                if known and not torch.equal(spread.full_of(values), module._buffers[key]):
                    self.evened.append(f"{names[id(module)]}.{key}".lstrip("."))
                module._buffers[key] = values
            else:
                self._maker.numbers.put(module, key, module._parameters[key], values)
            spread.install(module)
        for module in self._model.modules():
            if pads_itself(module) and any(id(child) in new for child in module.children()):
                config: Any = copy.copy(module.config)
                config.tf_padding = False  # the convolution pads now
                module.config = config
            if isinstance(module, _FUSED) and any(id(part) in new for part in module.modules()):
                # its layers are called one by one
                vars(module).update(activation_relu_or_gelu=0, use_nested_tensor=False)
        return exchange_modules(self._model, new)

    def divisor(self) -> int:
        """The largest number of channels that all banks of orbits consist of, over and over."""
        counts = []
        for name, layer in self._model.named_modules():
            made: Any = layer
            written = None if inside(name, self._kept) else self._follower.writes.get(name)
            if self._maker.is_plain(written) or isinstance(layer, PIXELS):
                continue
            if attends(layer):
                counts.append(made.embed_dim // made.num_heads)
            elif isinstance(layer, nn.Linear):
                counts.append(made.out_features)
            else:
                depthwise = not self._follower.state(name) and made.groups == made.in_channels == made.out_channels
                counts.append(made.out_channels // (1 if depthwise else made.groups))
        return math.gcd(*counts) or 1

    def _shared(self) -> Any:
        """The parameters and buffers outside layers that meet orbits: module, name, hooks, stored values."""
        modules = dict(self._model.named_modules())
        for (name, key), (source, axis) in self._follower.parameters.items():
            if self._follower.sets.is_plain(source) or inside(name, self._kept):
                continue
            parameter = modules[name]._parameters.get(key, modules[name]._buffers.get(key))
            if parameter is None or not self._follower.meets(source):
                continue
            if getattr(modules[name], "sparse", False):
                raise sparse(name)
            yield self._stored(modules[name], key, parameter, f"{name}.{key}".lstrip("."), axis, Spread)
        for called, (source, layout) in self._follower.tables.items():
            name, _, key = called.rpartition(".")
            if inside(name, self._kept):
                continue
            if self._follower.sets.is_plain(source):
                raise lies_on_plain(called)
            table = modules[name]._parameters[key]
            yield self._stored(modules[name], key, table, called, layout.channels, partial(SpreadTable, layout=layout))

    def _stored(self, module: nn.Module, key: str, numbers: Any, called: str, axis: int, build: Any) -> Any:
        channels = numbers.shape[axis]
        arranged = plan(self._maker.whole(called, channels), self._start.wide(channels), len(LETTERS))
        chosen = torch.tensor(self._start.chosen(channels), device=numbers.device)
        return module, key, build(key, arranged, axis), numbers.detach().index_select(axis, chosen)
