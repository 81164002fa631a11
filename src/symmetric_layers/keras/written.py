"""Calling a layer of the host with other numbers in it than are stored."""

from types import FunctionType
from typing import Any


class Written:
    """A layer as the call of its host sees it: some attributes are others, all the rest is as it is."""

    def __init__(self, layer: Any, **instead: Any) -> None:
        self.__dict__.update(instead, _layer=layer)

    def __getattr__(self, name: str) -> Any:
        own = getattr(type(self._layer), name, None)
        if isinstance(own, FunctionType):  # what the call calls sees the same
            return own.__get__(self)
        return getattr(self._layer, name)
