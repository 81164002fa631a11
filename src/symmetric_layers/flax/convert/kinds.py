"""Which layers of the host do what with channels."""

from typing import Any

from flax import nnx

from symmetric_layers.flax.convert.spied import host_of

CONVS: tuple[type, ...] = (nnx.Conv, nnx.ConvTranspose)
NORMS: tuple[type, ...] = (nnx.BatchNorm, nnx.LayerNorm, nnx.GroupNorm, nnx.InstanceNorm)
WEIGHS: tuple[type, ...] = (*CONVS, nnx.Linear)  # layers that make channels of their own
KNOWN: tuple[type, ...] = (*WEIGHS, *NORMS)

# whose weights are no numbers for each channel, and who have no form for orbits
STRANGE: tuple[type, ...] = (nnx.LinearGeneral, nnx.Einsum, nnx.Embed, nnx.MultiHeadAttention)


def is_layer(module: Any) -> bool:
    """Whether a module is looked at as a whole."""
    return host_of(module, (*KNOWN, *STRANGE)) is not None


def groups_of(layer: Any) -> int:
    """How many groups the channels of a convolution fall into."""
    return int(getattr(layer, "feature_group_count", 1))


def is_depthwise(layer: Any) -> bool:
    """Whether every channel of a convolution has one filter, which reads nothing else."""
    return groups_of(layer) == layer.in_features == layer.out_features > 1
