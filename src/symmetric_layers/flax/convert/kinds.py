"""Which layers of the host do what with channels."""

import math
from typing import Any

from flax import nnx

from symmetric_layers.flax.convert.einsum import Dense, dense, sizes_of
from symmetric_layers.flax.convert.spied import host_of

CONVS: tuple[type, ...] = (nnx.Conv, nnx.ConvTranspose)
NORMS: tuple[type, ...] = (nnx.BatchNorm, nnx.LayerNorm, nnx.GroupNorm, nnx.InstanceNorm)
LINEARS: tuple[type, ...] = (nnx.Linear, nnx.LinearGeneral, nnx.Einsum)
WEIGHS: tuple[type, ...] = (*CONVS, *LINEARS)  # layers that make channels of their own
KNOWN: tuple[type, ...] = (*WEIGHS, *NORMS)
EMBEDS: tuple[type, ...] = (nnx.Embed,)  # layers that read no channels, and make some
MAKES: tuple[type, ...] = (*WEIGHS, *EMBEDS)

WRITES: tuple[type, ...] = (nnx.WeightNorm, nnx.SpectralNorm)  # into the weights of the layer that they hold


def is_layer(module: Any) -> bool:
    """Whether a module is looked at as a whole."""
    return host_of(module, (*KNOWN, *EMBEDS)) is not None


def groups_of(layer: Any) -> int:
    """How many groups the channels of a convolution fall into."""
    return int(getattr(layer, "feature_group_count", 1))


def is_depthwise(layer: Any) -> bool:
    """Whether every channel of a convolution has filters of its own, which read nothing else."""
    groups = groups_of(layer)
    return groups > 1 and groups == int(layer.in_features)


def sides_of(layer: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The sizes of the axes that a linear layer reads, and of those that it makes."""
    if isinstance(layer, nnx.Einsum):
        read, made = kernel_axes(layer)
        return sizes_of(layer.kernel_shape, read), sizes_of(layer.kernel_shape, made)
    if isinstance(layer, nnx.LinearGeneral):
        return tuple(layer.in_features), tuple(layer.out_features)
    return (layer.in_features,), (layer.out_features,)


def kernel_axes(layer: Any) -> Dense:
    """Which axes of a linear layer's kernel are read, and which are made; of an `nnx.Einsum` that is none, none."""
    if isinstance(layer, nnx.Einsum):
        return dense(layer) or Dense((), ())
    read, made = map(len, sides_of(layer))
    return Dense(tuple(range(read)), tuple(range(read, read + made)))


def outputs_of(layer: Any) -> int:
    """How many channels a layer makes, in all its heads."""
    if isinstance(layer, nnx.Embed):
        return int(layer.features)
    return math.prod(sides_of(layer)[1]) if isinstance(layer, LINEARS) else int(layer.out_features)


def axes_read(layer: Any, rank: int) -> int:
    """How many axes, the last ones, a layer reads as channels; none where it reads others."""
    if isinstance(layer, nnx.Einsum):
        return len(sides_of(layer)[0])
    if not isinstance(layer, nnx.LinearGeneral):
        return 1
    last = [axis % rank for axis in layer.axis] == list(range(rank - len(layer.axis), rank))
    return len(layer.axis) if last and not layer.batch_axis else 0
