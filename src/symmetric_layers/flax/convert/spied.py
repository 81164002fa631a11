"""Watches what the modules of a model are called with, without changing what they do."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Iterator
from typing import Any

from flax import nnx

from symmetric_layers.errors import SymmetryError

FUNCTION = "()"  # how the names of functions end that are attributes of modules

Spy = Callable[..., Any]  # a module's name, its own call, and what it is called with: to what it shall answer


def no_module(model: Any) -> None:
    """Refuses what is no module."""
    if not isinstance(model, nnx.Module):
        raise SymmetryError(
            f"model: {type(model).__name__!r} is no module. Expected an nnx.Module. Pass the network itself."
        )


def name_of(path: Any) -> str:
    """The name of what stands at a path, as `equivariance_error` and Python have it: `'layers.0.conv'`."""
    return ".".join(map(str, path))


def modules_of(model: nnx.Module) -> Iterator[tuple[str, Any]]:
    """All modules by their names, each once, the outer ones first; containers are modules, too."""
    found = [(path, module) for path, module in nnx.iter_modules(model)]
    yield from ((name_of(path), module) for path, module in sorted(found, key=lambda one: len(one[0])))


def variables_of(model: nnx.Module) -> Iterator[tuple[str, Any]]:
    """All variables by their names, each once."""
    yield from ((name_of(path), node) for path, node in nnx.iter_graph(model) if isinstance(node, nnx.Variable))


def is_ours(module: Any) -> bool:
    """Whether a module is one of this package."""
    return type(module).__module__.startswith("symmetric_layers.")


def host_of(module: Any, hosts: tuple[type, ...]) -> Any:
    """The class of the host that says what a module computes; None where a class of its own says it."""
    for host in hosts:
        if isinstance(module, host) and not is_ours(module):
            return None if _methods(type(module), host) else host
    return None


def _methods(kind: type, host: type) -> list[str]:
    """What a class can do beyond its host: methods that a layer of another class would not have."""
    own = [vars(one) for one in kind.__mro__[: kind.__mro__.index(host)]]
    return [name for names in own for name, value in names.items() if _is_method(name, value)]


def _is_method(name: str, value: Any) -> bool:
    return isinstance(value, (types.FunctionType, property)) and (name == "__call__" or not name.startswith("_"))


def become(module: Any, kind: type) -> None:
    """Makes a module one of another class; what it has stays, arguments of newer hosts and metadata among it."""
    object.__setattr__(module, "__class__", kind)


class Watching:
    """Lets a function see every call of a model's modules; hosts that compare what is static find one object."""

    def __init__(self, see: Spy) -> None:
        self.see = see


def spied(model: nnx.Module, see: Spy) -> Any:
    """A copy of a model in which calls of modules, and of functions that are attributes of modules, are seen.

    They go through `see(name, call, *arguments, **others)`.
    """
    model, watching = nnx.clone(model), Watching(see)
    for name, module in list(modules_of(model)):
        for attribute, function in functions_of(module):
            seen = functools.partial(see, joined(name, attribute) + FUNCTION, function)
            put(module, attribute, functools.update_wrapper(seen, function))
        if callable(module):
            module._seen_by, module._seen_as = watching, name
            become(module, _watched(type(module)))
    return model


def functions_of(module: Any) -> list[tuple[Any, Any]]:
    """The functions that are attributes of a module: what it may call between its layers."""
    if is_ours(module) or (_is_host(module) and not isinstance(module, (nnx.List, nnx.Dict))):
        return []  # what layers are made with
    others = (type, nnx.Pytree, nnx.Variable, types.MethodType)
    return [(name, value) for name, value in vars(module).items() if callable(value) and not isinstance(value, others)]


def put(module: Any, attribute: Any, value: Any) -> None:
    """Sets an attribute of a module; what a list holds are its attributes, too, in some versions of it."""
    if isinstance(module, nnx.List):
        module[int(attribute)] = value
    else:
        setattr(module, attribute, value)


def _is_host(module: Any) -> bool:
    return type(module).__module__.startswith("flax.")


def joined(name: str, attribute: Any) -> str:
    """The name of what a module has as this attribute."""
    return f"{name}.{attribute}" if name else attribute


_WATCHED: dict[Any, Any] = {}


def _watched(kind: Any) -> Any:
    """A class whose calls are seen; one for each class, for hosts keep a register of them."""

    def call(self: Any, *arguments: Any, **others: Any) -> Any:
        own = functools.partial(kind.__call__, self)
        return self._seen_by.see(self._seen_as, own, *arguments, **others)

    if kind not in _WATCHED:
        _WATCHED[kind] = type(kind.__name__, (kind,), {"__call__": call, "__module__": kind.__module__})
    return _WATCHED[kind]
