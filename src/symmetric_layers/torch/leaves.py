"""Layers are leaves of what `torch.fx` traces symbolically, as the host's layers are.

How a layer answers depends on the sizes of its input, which such a trace does not know. A layer asks
`isinstance(input, Proxy)` itself: a function around every `forward` would cost five times as much.
"""

from collections.abc import Iterable
from typing import Any

from torch.fx import Proxy

from symmetric_layers.errors import SymmetryError


def noted(layer: Any, input: Proxy, more: Iterable[Any] = ()) -> Any:
    """What a layer answers to a trace: one call of its module, which is not looked into.

    Args:
        layer: a part of what is traced.
        input: what stands for its input.
        more: what else it is given.
    """
    tracer: Any = input.tracer
    if is_root(layer, input):
        raise SymmetryError(
            f"root: {type(layer).__name__} is a leaf, and traced alone there is nothing around it. "
            "Expected a module that it is a part of. Use nn.Sequential(layer)."
        )
    return tracer.create_proxy("call_module", tracer.path_of_module(layer), (input, *more), {})


def is_root(layer: Any, input: Proxy) -> bool:
    """Whether this very layer is what is traced."""
    tracer: Any = input.tracer
    return tracer.root is layer
