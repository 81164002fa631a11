"""Exchanging modules inside a model without losing anything: flags, hooks, shared modules, an optimizer."""

import copy
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from symmetric_layers.errors import SymmetryError

Report = Callable[[str], Any] | None
HOSTS: tuple[type[nn.Module], ...] = (
    nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
)  # fmt: skip
_OURS = "symmetric_layers.torch."
_SAYING = ("__call__", "forward", "_conv_forward", "_check_input_dim")  # what says what a layer computes
_ORDERS = {4: torch.channels_last, 5: torch.channels_last_3d}


def copy_of(model: nn.Module) -> nn.Module:
    """A deep copy, of models too that PyTorch refuses to copy: with an answer and its history, or with lazy buffers."""
    memo: dict[int, Any] = {}
    lazy: Any = nn.UninitializedBuffer
    for buffer in model.buffers():
        if torch.nn.parameter.is_lazy(buffer):
            memo[id(buffer)] = lazy(device=buffer.device, dtype=buffer.dtype)
    for module in model.modules():
        for value in vars(module).values():
            for tensor in _loose(value):
                if not tensor.is_leaf:
                    memo[id(tensor)] = tensor.detach().clone()
    return copy.deepcopy(model, memo)


def _loose(value: Any, around: frozenset[int] = frozenset()) -> Iterator[Tensor]:
    """The tensors in a value, which may hold itself."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple, dict)) and id(value) not in around:
        for item in value.values() if isinstance(value, dict) else value:
            yield from _loose(item, around | {id(value)})


def no_module(model: Any) -> None:
    """Refuses what is no module."""
    if not isinstance(model, nn.Module):
        raise SymmetryError(
            f"model: {type(model).__name__!r} is no module. Expected an nn.Module. Pass the network itself."
        )
    compiled = next((type(one).__name__ for one in model.modules() if _is_compiled(one)), None)
    if compiled is not None:
        raise SymmetryError(
            f"model: {compiled!r} is compiled. Expected modules as they were written. Convert the network before "
            "torch.compile, torch.jit.script or torch.jit.trace, and compile the result."
        )


def _is_compiled(module: nn.Module) -> bool:
    return isinstance(module, torch.jit.ScriptModule) or "_orig_mod" in module._modules


def home_of(module: nn.Module) -> type[nn.Module] | None:
    """The class of this package that a module is, or that its class is derived from; None for others."""
    return next((cls for cls in type(module).__mro__ if cls.__module__.startswith(_OURS)), None)


def is_ours(module: nn.Module) -> bool:
    """Whether a module is one of this package, by its class or one that this is derived from."""
    return home_of(module) is not None


def computes_its_own(module: nn.Module, host: type[nn.Module], more: tuple[str, ...] = ()) -> bool:
    """Whether a module, or a class derived from its host, says otherwise than the host what is computed."""
    names = (*_SAYING, *more)
    own = any(getattr(type(module), name, None) is not getattr(host, name, None) for name in names)
    return own or "forward" in vars(module)


def host_of(module: nn.Module, hosts: Any = HOSTS) -> type[nn.Module] | None:
    """The class of `torch.nn` that says what a module computes; None where a class of its own says it."""
    for host in hosts:
        if type(module) is host or (isinstance(module, host) and not is_ours(module)):
            return None if computes_its_own(module, host) or parametrize.is_parametrized(module) else host
    return None


def unreadable(name: str, module: nn.Module) -> SymmetryError | None:
    """The refusal of a layer whose weight is not simply its own, or None."""
    if parametrize.is_parametrized(module) or "weight" not in module._parameters:
        return SymmetryError(
            f"model: {name!r} derives its weight from something else (weight_norm, parametrize, ...). Expected a "
            "weight of its own. Remove that first and register it on the converted layer again, or leave the layer out "
            "with keep or where."
        )
    weight: Any = module.weight
    if torch.nn.parameter.is_lazy(weight):
        return SymmetryError(
            f"model: {name!r} has no weight yet. Expected a layer that has seen its input. Run the model once first."
        )
    return None


def exchange_modules(model: nn.Module, exchanged: Mapping[int, nn.Module]) -> nn.Module:
    """Puts new modules where those with these ids stand, wherever they stand; gives the root, which may be new."""
    if id(model) in exchanged:
        return exchanged[id(model)]
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):
            if child is not None and id(child) in exchanged:
                setattr(parent, name, exchanged[id(child)])
    return model


def inherit(old: nn.Module, new: nn.Module) -> None:
    """Gives a module what its predecessor had beside its own numbers: the mode, hooks, whatever else it was given."""
    new.train(old.training)
    for name, value in vars(old).items():
        if "_hook" in name or (name not in vars(new) and name != "_note"):  # how the other one answers
            vars(new)[name] = value
    hand_on_extras(old, new)


def hand_on_extras(old: nn.Module, new: nn.Module) -> None:
    """The same parameters, buffers and modules again that a module was given, and that the new one does not have."""
    own = {*new._parameters, *new._buffers, *new._modules, "parametrizations"}
    for table in ("_parameters", "_buffers", "_modules"):
        given = vars(old)[table].items()
        vars(new)[table].update({name: value for name, value in given if name not in own})
    new._non_persistent_buffers_set |= old._non_persistent_buffers_set & (new._buffers.keys() - own)


def hand_on_hooks(old: nn.Module, new: nn.Module) -> nn.Module:
    """The same without further attributes, for a module of another sort."""
    for name, value in vars(old).items():
        if "_hook" in name:
            vars(new)[name] = value
    hand_on_extras(old, new)
    return new.train(old.training)


def hooks_of(module: nn.Module) -> int:
    """How many hooks a module has."""
    names = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sum(len(getattr(module, name)) for name in names)


def tell_of_hooks(model: nn.Module, names: Mapping[int, str], report: Report) -> None:
    """Reports the hooks of modules that were exchanged."""
    for module in model.modules():
        if report is not None and id(module) in names and hooks_of(module):
            count = hooks_of(module)
            report(f"{names[id(module)]!r}: {count} hook{'s' * (count > 1)} went to the new layer.")


def order_of(tensor: Tensor) -> torch.memory_format:
    """In which order numbers stand in memory: channels last, or as they happen to."""
    order = _ORDERS.get(tensor.dim(), torch.preserve_format)
    rows = [math.prod(tensor.shape[axis + 1 :]) for axis in range(tensor.dim())]  # as far apart as usual
    last = tensor.dim() in _ORDERS and tensor.is_contiguous(memory_format=order) and list(tensor.stride()) != rows
    return order if last else torch.preserve_format


class Numbers:
    """Makes parameters out of others, once: layers that shared a parameter share the new one."""

    def __init__(self) -> None:
        self._made: dict[tuple[int, tuple[int, ...]], nn.Parameter] = {}
        self._alive: list[Tensor] = []  # so that ids stay theirs

    def put(self, new: nn.Module, name: str, old: Tensor | None, values: Tensor | None) -> None:
        """Sets a parameter of a new module to values that were made from an old parameter."""
        if old is None or values is None:
            return
        key = (id(old), tuple(values.shape))
        if key not in self._made:
            self._alive.append(old)
            order = order_of(old) if values.dim() == old.dim() else torch.preserve_format
            self._made[key] = nn.Parameter(values.detach().clone(memory_format=order), old.requires_grad)
        setattr(new, name, self._made[key])


def _inside(name: str) -> str:
    """The name of the same parameter in a layer that was put into another."""
    parent, _, own = name.rpartition(".")
    return f"{parent}.conv.{own}".lstrip(".")


def _outside(name: str) -> str:
    """The reverse."""
    parent, _, own = name.rpartition(".")
    return f"{parent.removesuffix('conv').rstrip('.')}.{own}".lstrip(".")


def _written_out(name: str) -> str:
    """The name of the parameter that was made out of one of such a name."""
    name = re.sub(r"parametrizations\.(\w+)\.original\d*$", r"\1", name)
    return re.sub(r"_(orig|g|v)$", "", name)


def _successors(name: str, after: Mapping[str, Tensor]) -> list[Tensor]:
    """What a parameter of this name became: one of the same name, or the three that it was divided into."""
    plain = _written_out(name)
    for one in (name, _inside(name), _outside(name), plain, _outside(plain)):
        if one in after:
            return [after[one]]
    parts = [f"{name.removesuffix('in_proj_weight')}{part}_proj_weight" for part in "qkv"]
    return [after[part] for part in parts if name.endswith("in_proj_weight") and part in after]


def renew(optimizer: Any, before: Mapping[str, Tensor], model: nn.Module) -> None:
    """Gives an optimizer the new model's parameters for those of the same names; what it knew of these is lost."""
    if optimizer is None:
        return
    after = dict(model.named_parameters(remove_duplicate=False))
    new_of = {id(old): _successors(name, after) for name, old in before.items()}
    placed: set[int] = set()
    for group in optimizer.param_groups:
        parameters = []
        for old in group["params"]:
            found = new_of.get(id(old), [old])
            if not any(new is old for new in found):
                optimizer.state.pop(old, None)
            parameters += [new for new in found if id(new) not in placed]
            placed.update(map(id, found))
        group["params"] = parameters
