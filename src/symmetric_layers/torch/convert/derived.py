"""Weights that layers make out of others whenever they are called: weight_norm, spectral_norm, pruning, ..."""

import copy
from typing import Any

from torch import nn
from torch.nn.utils import parametrize, prune, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.spectral_norm import SpectralNorm, SpectralNormLoadStateDictPreHook
from torch.nn.utils.weight_norm import WeightNorm

from symmetric_layers.torch.convert.surgery import copy_of

_HOOKS: dict[type, Any] = {
    WeightNorm: remove_weight_norm, SpectralNorm: remove_spectral_norm, prune.BasePruningMethod: prune.remove,
}  # fmt: skip
_TABLES = (
    "_parameters", "_buffers", "_modules", "_non_persistent_buffers_set", "_forward_pre_hooks", "_state_dict_hooks",
    "_load_state_dict_pre_hooks",
)  # fmt: skip


def written_out(module: nn.Module, deep: bool = False) -> nn.Module:
    """A twin of a layer that holds as its own what it computes with; the layer itself where it does.

    Numbers are those of evaluation mode. The layer stays as it is.

    Args:
        module: the layer.
        deep: whether its parts are written out too.
    """
    parts = {name: written_out(part, deep) for name, part in module.named_children()} if deep else {}
    parts = {name: part for name, part in parts.items() if part is not module._modules[name]}
    if not parts and not _derived(module):
        return module
    twin = _twin_of(module)
    twin._modules.update(parts)
    twin._parameters.update(_parametrized(module))
    twin._modules.pop("parametrizations", None)
    for hook in [hook for hook in twin._forward_pre_hooks.values() if isinstance(hook, tuple(_HOOKS))]:
        _remove(twin, hook)
    return twin


def derived(name: str, module: nn.Module, deep: bool = False) -> list[str]:
    """The full names of the parameters that a layer of this name makes out of others."""
    parts = module.named_modules() if deep else [("", module)]
    return [".".join(filter(None, (name, part, key))) for part, one in parts for key in _derived(one)]


def _derived(module: Any) -> list[str]:
    hooks = [hook for hook in module._forward_pre_hooks.values() if isinstance(hook, tuple(_HOOKS))]
    return [*(module.parametrizations if parametrize.is_parametrized(module) else ()), *map(_name_of, hooks)]


def _name_of(hook: Any) -> str:
    return str(hook._tensor_name if isinstance(hook, prune.BasePruningMethod) else hook.name)


def _twin_of(module: Any) -> Any:
    """The same layer of the class that it was written as, whose tables may be changed without touching the other."""
    twin: Any = object.__new__(parametrize.type_before_parametrizations(module))
    vars(twin).update(vars(module))
    for table in _TABLES:
        vars(twin)[table] = copy.copy(vars(module)[table])
    vars(twin).pop("_note", None)  # how the other one answers
    return twin


def _parametrized(module: Any) -> dict[str, nn.Parameter]:
    """What parametrizations make, which go on in training mode whenever they are asked."""
    made: dict[str, nn.Parameter] = {}
    for name, one in module.parametrizations.items() if parametrize.is_parametrized(module) else ():
        trained = any(original.requires_grad for original in one.parameters(recurse=False))
        made[name] = nn.Parameter(copy_of(one).eval()().detach().clone(), trained)
    return made


def _remove(twin: Any, hook: Any) -> None:
    """Has a twin keep what one of its hooks makes."""
    name = _name_of(hook)
    before = dict(twin._parameters)
    pruned = before.get(f"{name}_orig")
    if pruned is not None:  # it is written into
        twin._parameters[f"{name}_orig"] = nn.Parameter(pruned.detach().clone(), pruned.requires_grad)
    next(remove for kind, remove in _HOOKS.items() if isinstance(hook, kind))(twin, name)
    sources = [parameter for key, parameter in before.items() if key not in twin._parameters and parameter is not None]
    twin._parameters[name].requires_grad_(any(one.requires_grad for one in sources))
    loading = twin._load_state_dict_pre_hooks
    for key, wrapped in list(loading.items()):
        asks = getattr(wrapped, "hook", wrapped)
        if isinstance(asks, SpectralNormLoadStateDictPreHook) and asks.fn is hook:
            del loading[key]
