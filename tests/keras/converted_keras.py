"""What is asked of converted models: answers, and deviations from the law."""

import keras
import numpy as np
from keras import ops

from symmetric_layers.keras import equivariance_error

SMALL = 1e-5  # relative: float32 is all that some layers of some backends know


def wild(model):
    """The model with numbers of all signs everywhere, so that nothing obeys by chance."""
    random = np.random.RandomState(0)
    for weight in model.weights:
        low, high = (0.5, 1.5) if "variance" in weight.name or "gamma" in weight.name else (-0.7, 0.7)
        weight.assign(random.uniform(low, high, tuple(weight.shape)))
    return model


def pictures(model):
    return np.random.RandomState(1).standard_normal((2, *model.input_shape[1:]))


def answers(model, x):
    return [ops.convert_to_numpy(ops.stop_gradient(answer)) for answer in keras.tree.flatten(model(x))]


def alike(one, other, x):
    for first, second in zip(answers(one, x), answers(other, x), strict=True):
        np.testing.assert_allclose(first, second, rtol=0, atol=SMALL * np.abs(first).max())


def errors(model, axes, **more):
    return [found.relative for found in equivariance_error(model, pictures(model), axes, **more)]


def precision(model):
    """What rounding may do to answers, relatively: on PyTorch and JAX, Keras has layers in single precision alone."""
    names = ("LayerNormalization", "GroupNormalization", "MultiHeadAttention", "Dense", "EinsumDense")
    single = tuple(getattr(keras.layers, name) for name in names)
    found = any(isinstance(layer, single) for layer in model._flatten_layers())
    return SMALL if found and keras.backend.backend() != "tensorflow" else 1e-12


def alike_on(one, other, x):
    """The same answers to these inputs."""
    for first, second in zip(answers(one, x), answers(other, x), strict=True):
        np.testing.assert_allclose(first, second, rtol=0, atol=precision(one) * max(1, np.abs(first).max()))
