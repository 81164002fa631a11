"""The Keras 3 face: mirror-image orbits in the dialect of `keras.layers`, on every backend."""

from symmetric_layers.keras.conv import (
    SymmetricConv1D,
    SymmetricConv1DTranspose,
    SymmetricConv2D,
    SymmetricConv2DTranspose,
    SymmetricConv3D,
    SymmetricConv3DTranspose,
)
from symmetric_layers.keras.convert import desymmetrize, equivariant, symmetrize
from symmetric_layers.keras.global_conv import GlobalConv1D
from symmetric_layers.keras.invariant import (
    InvariantConv1D,
    InvariantConv1DTranspose,
    InvariantConv2D,
    InvariantConv2DTranspose,
    InvariantConv3D,
    InvariantConv3DTranspose,
    OrbitDense,
)
from symmetric_layers.keras.law import Deviation, equivariance_error
from symmetric_layers.keras.mirrored import Mirrored
from symmetric_layers.keras.norm import OrbitBatchNormalization, OrbitGroupNormalization, OrbitLayerNormalization
from symmetric_layers.keras.pool import OrbitPool, TopKPool

__all__ = [
    "Deviation",
    "GlobalConv1D",
    "InvariantConv1D",
    "InvariantConv1DTranspose",
    "InvariantConv2D",
    "InvariantConv2DTranspose",
    "InvariantConv3D",
    "InvariantConv3DTranspose",
    "Mirrored",
    "OrbitBatchNormalization",
    "OrbitDense",
    "OrbitGroupNormalization",
    "OrbitLayerNormalization",
    "OrbitPool",
    "SymmetricConv1D",
    "SymmetricConv1DTranspose",
    "SymmetricConv2D",
    "SymmetricConv2DTranspose",
    "SymmetricConv3D",
    "SymmetricConv3DTranspose",
    "TopKPool",
    "desymmetrize",
    "equivariance_error",
    "equivariant",
    "symmetrize",
]
