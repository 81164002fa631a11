"""The PyTorch face: mirror-image orbits in the dialect of `torch.nn`."""

from symmetric_layers.torch.conv import (
    SymmetricConv1d,
    SymmetricConv2d,
    SymmetricConv3d,
    SymmetricConvTranspose1d,
    SymmetricConvTranspose2d,
    SymmetricConvTranspose3d,
    why_not,
)
from symmetric_layers.torch.convert import desymmetrize, equivariant, symmetrize
from symmetric_layers.torch.global_conv import GlobalConv1d
from symmetric_layers.torch.invariant import (
    InvariantConv1d,
    InvariantConv2d,
    InvariantConv3d,
    InvariantConvTranspose1d,
    InvariantConvTranspose2d,
    InvariantConvTranspose3d,
    OrbitLinear,
)
from symmetric_layers.torch.law import assert_equivariant, equivariance_error, is_exact, where_it_breaks
from symmetric_layers.torch.mirrored import Mirrored
from symmetric_layers.torch.norm import (
    OrbitBatchNorm1d,
    OrbitBatchNorm2d,
    OrbitBatchNorm3d,
    OrbitGroupNorm,
    OrbitInstanceNorm1d,
    OrbitInstanceNorm2d,
    OrbitInstanceNorm3d,
    OrbitLayerNorm,
)
from symmetric_layers.torch.pixels import OrbitPixelShuffle, OrbitPixelUnshuffle
from symmetric_layers.torch.pool import MirrorMean, OrbitPool, TopKPool
from symmetric_layers.torch.sync import OrbitSyncBatchNorm

__all__ = [
    "GlobalConv1d",
    "InvariantConv1d",
    "InvariantConv2d",
    "InvariantConv3d",
    "InvariantConvTranspose1d",
    "InvariantConvTranspose2d",
    "InvariantConvTranspose3d",
    "MirrorMean",
    "Mirrored",
    "OrbitBatchNorm1d",
    "OrbitBatchNorm2d",
    "OrbitBatchNorm3d",
    "OrbitGroupNorm",
    "OrbitInstanceNorm1d",
    "OrbitInstanceNorm2d",
    "OrbitInstanceNorm3d",
    "OrbitLayerNorm",
    "OrbitLinear",
    "OrbitPixelShuffle",
    "OrbitPixelUnshuffle",
    "OrbitPool",
    "OrbitSyncBatchNorm",
    "SymmetricConv1d",
    "SymmetricConv2d",
    "SymmetricConv3d",
    "SymmetricConvTranspose1d",
    "SymmetricConvTranspose2d",
    "SymmetricConvTranspose3d",
    "TopKPool",
    "assert_equivariant",
    "desymmetrize",
    "equivariance_error",
    "equivariant",
    "is_exact",
    "symmetrize",
    "where_it_breaks",
    "why_not",
]
