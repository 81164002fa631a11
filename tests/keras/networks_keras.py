"""Networks of ordinary layers, as people write them with Keras."""

import keras
from keras import layers


@keras.saving.register_keras_serializable(package="tests")
class Scale(layers.Layer):
    """A layer of somebody's own: a scale for every channel, and an offset for all."""

    def build(self, shape):
        self.gamma = self.add_weight(shape=(shape[-1],), initializer="ones", name="gamma")
        self.offset = self.add_weight(shape=(), name="offset", trainable=False)

    def call(self, x):
        return x * self.gamma + self.offset


def classifier(size=(12, 10), dtype="float64"):
    """Sequential: pools of odd sizes, a hidden dense layer."""
    more = {"dtype": dtype}
    return keras.Sequential(
        [
            layers.Input((*size, 2), dtype=dtype),
            layers.Conv2D(8, 3, padding="same", use_bias=False, **more),
            layers.BatchNormalization(**more),
            layers.ReLU(**more),
            layers.MaxPooling2D(3, 2, padding="same", **more),
            layers.Conv2D(16, 3, strides=2, padding="same", activation="elu", **more),
            layers.Dropout(0.3, **more),
            layers.GlobalMaxPooling2D(**more),
            layers.Dense(8, activation="relu", **more),
            layers.Dense(3, **more),
        ],
        name="classifier",
    )


def unet(size=(12, 16), dtype="float64"):
    """Skips that are concatenated, transposed convolutions, two answers."""
    more = {"padding": "same", "dtype": dtype}
    x = start = layers.Input((*size, 1), dtype=dtype)
    skips = []
    for filters in (8, 16):
        x = layers.Conv2D(filters, 3, activation="relu", **more)(x)
        x = layers.GroupNormalization(2, dtype=dtype)(x)
        x = layers.PReLU(shared_axes=[1, 2], alpha_initializer="uniform", dtype=dtype)(x)
        skips.append(x)
        x = layers.AveragePooling2D(2, dtype=dtype)(x)
    middle = x = layers.Conv2D(16, 3, **more)(x)
    for filters, skip in zip((16, 8), skips[::-1], strict=True):
        x = layers.Conv2DTranspose(filters, 3, strides=2, **more)(x)
        x = layers.Concatenate(dtype=dtype)([x, skip])
        x = layers.Conv2D(filters, 3, activation="relu", **more)(x)
    return keras.Model(start, {"map": layers.Conv2D(3, 1, dtype=dtype)(x), "deep": layers.Conv2D(2, 3, **more)(middle)})


def mobile(size=(13, 12), dtype="float64"):
    """Depthwise and separable layers, gates, lopsided padding, a model inside the model that is called twice."""
    more = {"use_bias": False, "dtype": dtype}
    inner_input = layers.Input((None, None, 8), dtype=dtype)
    inner = layers.DepthwiseConv2D(3, padding="same", **more)(inner_input)
    inner = layers.BatchNormalization(dtype=dtype)(inner)
    block = keras.Model(inner_input, layers.Conv2D(8, 1, **more)(inner), name="block")
    start = layers.Input((*size, 3), dtype=dtype)
    x = layers.Rescaling(0.5, dtype=dtype)(start)
    x = layers.ZeroPadding2D(((0, 1), (1, 2)), dtype=dtype)(x)
    x = layers.Conv2D(8, 3, strides=2, **more)(x)
    x = keras.ops.relu(x) + 0.5
    x = layers.Add(dtype=dtype)([x, block(x)])
    x = x * keras.ops.sigmoid(block(x))
    gate = layers.GlobalAveragePooling2D(dtype=dtype)(x)
    gate = layers.Reshape((1, 1, 8), dtype=dtype)(gate)
    gate = layers.Conv2D(4, 1, activation="relu", dtype=dtype)(gate)
    gate = layers.Conv2D(8, 1, activation="sigmoid", dtype=dtype)(gate)
    x = layers.Multiply(dtype=dtype)([x, gate])
    x = Scale(dtype=dtype)(layers.Conv2D(8, 3, groups=8, padding="same", dtype=dtype)(x))
    x = layers.ZeroPadding2D(((0, 1), (0, 1)), dtype=dtype)(x)
    x = layers.SeparableConv2D(16, 3, strides=2, activation="relu", dtype=dtype)(x)
    return keras.Model(start, layers.Dense(2, dtype=dtype)(keras.ops.max(x, axis=(1, 2))))


def volume(size=(6, 7, 6), dtype="float64"):
    """A chain of layers for volumes."""
    more = {"padding": "same", "dtype": dtype}
    return keras.Sequential(
        [
            layers.Input((*size, 1), dtype=dtype),
            layers.Conv3D(8, 3, activation="relu", **more),
            layers.Conv3D(16, 3, strides=2, activation="relu", **more),
            layers.UpSampling3D(2, dtype=dtype),
            layers.Conv3D(2, 1, **more),
        ]
    )


def line(size=(11,), dtype="float64"):
    """Dilated layers for signals."""
    more = {"dtype": dtype}
    return keras.Sequential(
        [
            layers.Input((*size, 4), dtype=dtype),
            layers.Conv1D(8, 3, padding="causal", dilation_rate=2, activation="tanh", **more),
            layers.SeparableConv1D(6, 3, padding="same", **more),
            layers.LayerNormalization(**more),
            layers.Conv1D(2, 3, padding="same", strides=2, **more),
        ]
    )


ALL = {"classifier": (classifier, "hv"), "unet": (unet, "hv"), "mobile": (mobile, "h"), "volume": (volume, "hvz"),
       "line": (line, "h")}  # fmt: skip
