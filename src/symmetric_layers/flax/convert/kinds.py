"""Which layers of the host do what with channels."""

import math
from typing import Any

from flax import nnx

from symmetric_layers.flax.convert.spied import host_of

CONVS: tuple[type, ...] = (nnx.Conv, nnx.ConvTranspose)
NORMS: tuple[type, ...] = (nnx.BatchNorm, nnx.LayerNorm, nnx.GroupNorm, nnx.InstanceNorm)
LINEARS: tuple[type, ...] = (nnx.Linear, nnx.LinearGeneral)
WEIGHS: tuple[type, ...] = (*CONVS, *LINEARS)  # layers that make channels of their own
KNOWN: tuple[type, ...] = (*WEIGHS, *NORMS)
EMBEDS: tuple[type, ...] = (nnx.Embed,)  # layers that read no channels, and make some
MAKES: tuple[type, ...] = (*WEIGHS, *EMBEDS)

# whose weights are no numbers for each channel, and who have no form for orbits
STRANGE: tuple[type, ...] = (nnx.Einsum,)

WRITES: tuple[type, ...] = (nnx.WeightNorm, nnx.SpectralNorm)  # into the weights of the layer that they hold


def is_layer(module: Any) -> bool:
    """Whether a module is looked at as a whole."""
    return host_of(module, (*KNOWN, *EMBEDS, *STRANGE)) is not None


def groups_of(layer: Any) -> int:
    """How many groups the channels of a convolution fall into."""
    return int(getattr(layer, "feature_group_count", 1))


def is_depthwise(layer: Any) -> bool:
    """Whether every channel of a convolution has filters of its own, which read nothing else."""
    return groups_of(layer) == layer.in_features > 1


def outputs_of(layer: Any) -> int:
    """How many channels a layer makes, in all its heads."""
    if isinstance(layer, nnx.Embed):
        return int(layer.features)
    return math.prod(layer.out_features) if isinstance(layer, nnx.LinearGeneral) else int(layer.out_features)


def axes_read(layer: Any, rank: int) -> int:
    """How many axes, the last ones, a layer reads as channels; none where it reads others."""
    if not isinstance(layer, nnx.LinearGeneral):
        return 1
    last = [axis % rank for axis in layer.axis] == list(range(rank - len(layer.axis), rank))
    return len(layer.axis) if last and not layer.batch_axis else 0
