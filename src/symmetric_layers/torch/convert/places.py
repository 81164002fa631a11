"""Which channels of an ordinary network may change places, and the change, after which it computes what it did."""

from typing import Any

import torch
from torch import Tensor, nn

from symmetric_layers.torch.answers import call_alike, difference, tensors, undisturbed
from symmetric_layers.torch.convert.follow import Follower, mark_of
from symmetric_layers.torch.convert.measure import ALLOWED, random_input, run_once
from symmetric_layers.torch.convert.surgery import HOSTS, Numbers, copy_of

Orders = dict[str, list[int]]  # by convolution: the filter that is to stand at each place


class Places(Follower):
    """Follows an example, refuses nothing, and notes which channels may change places.

    Channels that one convolution makes may, if all that reads them reads them alone, one by one, and in no groups.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model, lambda name: True)
        self._layers: dict[str, Any] = dict(model.named_modules())
        self._counts: dict[str, set[int]] = {}

    def readers(self, name: str) -> list[str] | None:
        """The modules that read the channels of this convolution, or None where these have to stay."""
        if name not in self.writes or self.sets.is_plain(self.writes[name]):
            return None
        source, layer = self.sets.find(self.writes[name]), self._layers[name]
        writers = [writer for writer, made in self.writes.items() if self.sets.find(made) == source]
        readers = [other for other, read in self.reads.items() if source in map(self.sets.find, read)]
        alone = all({self.sets.find(made) for made in self.reads[reader]} == {source} for reader in readers)
        whole = all(self._counts.get(reader) == {layer.out_channels} for reader in readers)
        free = not (layer.transposed and layer.groups > 1) and all(_free(self._layers[reader]) for reader in readers)
        return readers if writers == [name] and alone and whole and free else None

    def parameters_on(self, name: str) -> list[tuple[str, str, int]]:
        """Parameters outside layers that meet the channels of this convolution: module, name, axis."""
        source = self.sets.find(self.writes[name])
        return [
            (owner, key, axis) for (owner, key), (met, axis) in self.parameters.items() if self.sets.find(met) == source
        ]

    def _meet(self, name: str, module: nn.Module, tensor: Tensor) -> None:
        super()._meet(name, module, tensor)
        mark = mark_of(tensor)
        if mark is not None and (mark.lost or mark.dim is None):
            self.sets.make_plain(mark.source)
        elif mark is not None and mark.dim is not None:
            last = isinstance(module, (nn.Linear, nn.LayerNorm))
            if mark.dim != (tensor.dim() - 1 if last else 1):
                self.sets.make_plain(mark.source)
            self._counts.setdefault(name, set()).add(tensor.shape[mark.dim])

    def _note(self, name: str, func: Any, args: Any, kwargs: Any, answer: Any) -> None:
        super()._note(name, func, args, kwargs, answer)
        for _, tensor in tensors(answer):
            mark = mark_of(tensor)
            if mark is not None and mark.lost:
                self.sets.make_plain(mark.source)


def settle(model: nn.Module, orders: Orders, example: Any) -> set[str]:
    """Puts the filters of a model in these orders where their channels may change places, and says where they may.

    Whatever reads the channels is changed with them. That the model computes what it did is tried in double precision,
    in training and in evaluation mode; filters whose new order shows are left in their old one.
    """
    watched = copy_of(model)
    places = Places(watched)
    for training in (False, True):
        run_once(places.follow, watched.train(training), example, training)
    for _, picture, other in places.joined:
        places.sets.make_plain(picture)
        places.sets.make_plain(other)
    possible = {name for name in orders if places.readers(name) is not None and not _shares(model, places, name)}
    chosen = possible if _unchanged(model, places, orders, possible, example) else set()
    for name in () if chosen else sorted(possible):
        chosen |= {name} if _unchanged(model, places, orders, chosen | {name}, example) else set()
    _move(model, places, orders, chosen)
    return chosen


def _free(module: Any) -> bool:
    """Whether the channels that a module reads may change places."""
    groups = module.num_groups if isinstance(module, nn.GroupNorm) else getattr(module, "groups", 1)
    return groups == 1 or (isinstance(module, nn.GroupNorm) and groups == module.num_channels)


def _touched(model: nn.Module, places: Places, name: str) -> list[tuple[Any, str, int]]:
    """The parameters and buffers with an axis for the channels that a convolution makes: module, name, axis."""
    modules: dict[str, Any] = dict(model.named_modules())
    conv = modules[name]
    found: list[tuple[Any, str, int]] = [(conv, "weight", 1 if conv.transposed else 0), (conv, "bias", 0)]
    for reader in places.readers(name) or []:
        module = modules[reader]
        if isinstance(module, (*HOSTS, nn.Linear)):
            found.append((module, "weight", 0 if getattr(module, "transposed", False) else 1))
        else:
            found += [(module, key, 0) for key in ("weight", "bias", "running_mean", "running_var")]
    return found + [(modules[owner], key, axis) for owner, key, axis in places.parameters_on(name)]


def _shares(model: nn.Module, places: Places, name: str) -> bool:
    """Whether any of these parameters is another module's too."""
    owners: dict[int, int] = {}
    for module in model.modules():
        for parameter in module._parameters.values():
            owners[id(parameter)] = owners.get(id(parameter), 0) + 1
    held = [module._parameters.get(key) for module, key, _ in _touched(model, places, name)]
    return any(parameter is not None and owners[id(parameter)] > 1 for parameter in held)


def _move(model: nn.Module, places: Places, orders: Orders, chosen: set[str]) -> None:
    numbers = Numbers()
    for name in sorted(chosen):
        for module, key, axis in _touched(model, places, name):
            old = getattr(module, key, None)
            if old is None:
                continue
            moved = old.detach().index_select(axis, torch.tensor(orders[name], device=old.device))
            if key in module._parameters:
                numbers.put(module, key, old, moved)
            else:
                module._buffers[key] = moved


def _unchanged(model: nn.Module, places: Places, orders: Orders, chosen: set[str], example: Any) -> bool:
    """Whether the model answers as before."""
    moved = copy_of(model)
    _move(moved, places, orders, chosen)
    old, moved = copy_of(model).double(), moved.double()
    for training in (False, True):
        x = random_input(old, example, training)
        answers = []
        for one in (old, moved):
            with undisturbed(one):
                answers.append([tensor for _, tensor in tensors(call_alike(one.train(training), x))])
        if any(difference(*pair)[1] > ALLOWED for pair in zip(*answers, strict=True)):
            return False
    return True
