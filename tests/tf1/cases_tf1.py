"""One small model that uses every layer of the face, for tests that carry it from one process to the next."""

import numpy as np
import tensorflow as tf

import symmetric_layers.tf1 as layers

LAYERS = {name: getattr(layers, name) for name in layers.__all__}
QUARTERS = {"h": 2, "hv": "50%"}


def every_layer():
    """Pictures of 6 x 6 and one channel to two numbers, by way of 2-D, 3-D and 1-D."""
    inputs = tf.keras.layers.Input((6, 6, 1))
    x = layers.SymmetricConv2D(8, 3, padding="same", activation="relu", symmetry=QUARTERS)(inputs)
    x = layers.SymmetricConv2DTranspose(4, 2, strides=2, symmetry={"h": 4}, share_bias=False)(x)
    x = tf.keras.layers.Reshape((4, 6, 6, 4))(x)
    x = layers.SymmetricConv3D(8, (1, 3, 3), symmetry={"hvz": 8})(x)
    x = layers.SymmetricConv3DTranspose(8, 2, symmetry={"h": 8}, in_symmetry={"hvz": 8})(x)
    x = layers.OrbitPool({"h": "100%"}, reduce="max")(x)
    x = layers.TopKPool(7)(x)
    x = layers.SymmetricConv1D(6, 3, symmetry={"h": "66.7%"}, use_bias=False)(x)
    x = layers.GlobalConv1D(3, activation="tanh", kernel_regularizer="l2")(x)
    x = tf.keras.layers.Flatten()(x)
    return tf.keras.Model(inputs, tf.keras.layers.Dense(2, name="answer")(x))


def pictures():
    """Four pictures, always the same."""
    return np.random.RandomState(7).standard_normal((4, 6, 6, 1)).astype("float32")


def targets():
    """What a model is to say of the pictures."""
    return np.random.RandomState(8).standard_normal((4, 2)).astype("float32")
