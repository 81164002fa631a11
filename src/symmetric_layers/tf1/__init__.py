"""The TensorFlow 1 face: mirror-image orbits in the dialect of TensorFlow 1.15's `tf.keras.layers`."""

import tensorflow as tf

if not tf.__version__.startswith("1."):
    raise ImportError(
        f"symmetric_layers.tf1: TensorFlow {tf.__version__} is no TensorFlow 1. Expected TensorFlow 1.15 (on Python "
        "3.7). Use symmetric_layers.keras, or install tensorflow 1.15."
    )

from symmetric_layers.tf1.conv import (
    SymmetricConv1D,
    SymmetricConv2D,
    SymmetricConv2DTranspose,
    SymmetricConv3D,
    SymmetricConv3DTranspose,
)
from symmetric_layers.tf1.global_conv import GlobalConv1D
from symmetric_layers.tf1.pool import OrbitPool, TopKPool

__all__ = [
    "GlobalConv1D",
    "OrbitPool",
    "SymmetricConv1D",
    "SymmetricConv2D",
    "SymmetricConv2DTranspose",
    "SymmetricConv3D",
    "SymmetricConv3DTranspose",
    "TopKPool",
]
