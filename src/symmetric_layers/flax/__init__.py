"""The Flax face: mirror-image orbits in the dialect of `flax.nnx`, on JAX."""

from symmetric_layers.flax.conv import SymmetricConv, SymmetricConvTranspose
from symmetric_layers.flax.convert import desymmetrize, equivariant, symmetrize
from symmetric_layers.flax.global_conv import GlobalConv1D
from symmetric_layers.flax.invariant import InvariantConv, InvariantConvTranspose, OrbitLinear
from symmetric_layers.flax.law import Deviation, equivariance_error
from symmetric_layers.flax.mirrored import Mirrored
from symmetric_layers.flax.norm import OrbitBatchNorm, OrbitGroupNorm, OrbitInstanceNorm, OrbitLayerNorm
from symmetric_layers.flax.pool import OrbitPool, TopKPool

__all__ = [
    "Deviation",
    "GlobalConv1D",
    "InvariantConv",
    "InvariantConvTranspose",
    "Mirrored",
    "OrbitBatchNorm",
    "OrbitGroupNorm",
    "OrbitInstanceNorm",
    "OrbitLayerNorm",
    "OrbitLinear",
    "OrbitPool",
    "SymmetricConv",
    "SymmetricConvTranspose",
    "TopKPool",
    "desymmetrize",
    "equivariance_error",
    "equivariant",
    "symmetrize",
]
