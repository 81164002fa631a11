"""Calling a layer of the host with other numbers in it than are stored."""

from typing import Any

from jax import Array


class Written:
    """A layer as the call of its host sees it: some attributes are others, all the rest is as it is.

    What a layer does besides (padding, batches, types, sharding) is left to the host, in every version of it.
    """

    def __init__(self, layer: Any, **instead: Any) -> None:
        self.__dict__.update(instead, _layer=layer)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._layer, name)


class Values:
    """Numbers where the host's call reads a variable: by an index, in older versions by its attribute."""

    def __init__(self, value: Array) -> None:
        self.value = value

    def __getitem__(self, index: Any) -> Array:
        return self.value[index]


def written_out(layer: Any) -> Any:
    """A layer as the call of its host sees it, with all weights and biases that it derives from those it stores."""
    bias = layer.full_bias()
    return Written(layer, kernel=Values(layer.full_kernel()), bias=None if bias is None else Values(bias))
