"""Layers are leaves of what `torch.fx` traces symbolically, as the host's layers are.

How a layer answers depends on the sizes of its input, which such a trace does not know. A layer asks
`isinstance(input, Proxy)` itself: a function around every `forward` would cost five times as much.
"""

import sys
from collections.abc import Iterable
from types import FrameType
from typing import Any

from torch.fx import Proxy

from symmetric_layers.errors import SymmetryError


def noted(layer: Any, input: Proxy, more: Iterable[Any] = ()) -> Any:
    """What a layer's `forward` answers to a trace: one call of its module, which is not looked into.

    Args:
        layer: a part of what is traced.
        input: what stands for its input.
        more: what else it is given.
    """
    tracer: Any = input.tracer
    if tracer.root is layer:
        raise SymmetryError(
            f"root: {type(layer).__name__} is a leaf, and traced alone there is nothing around it. "
            "Expected a module that it is a part of. Use nn.Sequential(layer)."
        )
    if not _is_all(layer, sys._getframe(1)):
        raise SymmetryError(
            f"forward: that of {type(layer).__name__} calls one that is a leaf, of the same module. Expected no look "
            f"into it. Use a torch.fx.Tracer whose is_leaf_module says so of {type(layer).__name__}."
        )
    return tracer.create_proxy("call_module", tracer.path_of_module(layer), (input, *more), {})


def is_part(layer: Any, input: Proxy) -> bool:
    """Whether a layer whose `forward` asks this can be noted as one call."""
    tracer: Any = input.tracer
    return tracer.root is not layer and _is_all(layer, sys._getframe(1))


def _is_all(layer: Any, frame: FrameType) -> bool:
    """Whether what runs is all that the layer does: a subclass may do something before, which would be done twice."""
    return getattr(layer.forward, "__code__", None) is frame.f_code
