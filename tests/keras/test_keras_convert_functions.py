"""Functions that stand in a model: whatever they read from around them, they are the same ones afterwards."""

import keras
import numpy as np
import pytest
from converted_keras import SMALL, answers, errors, pictures, wild
from keras import layers, ops

import symmetric_layers.keras as ours
from symmetric_layers import SymmetryError
from symmetric_layers.keras import desymmetrize, equivariant, symmetrize

FACTOR = 0.75
EXACT = {"dtype": "float64"}


def halved(x):
    """Known by no name to the host."""
    return FACTOR * ops.relu(x)


def unmasked(x, mask=None):
    return mask


class Bent:
    """Something that can be called, and has no name of its own."""

    def __call__(self, x):
        return FACTOR * ops.tanh(x)


def scaled(x, mask=None, factor=1.0):
    return factor * ops.relu(x) * FACTOR


FUNCTIONS = {
    "a lambda of a global": lambda: layers.Lambda(lambda x: ops.relu6(x) * FACTOR, **EXACT),
    "a lambda of a global, before": lambda: layers.Lambda(lambda x: keras.ops.abs(x), name="first", **EXACT),
    "a function": lambda: layers.Lambda(halved, **EXACT),
    "an object": lambda: layers.Lambda(Bent().__call__, **EXACT),
    "arguments": lambda: layers.Lambda(scaled, arguments={"factor": 2.0}, name="twice", **EXACT),
    "its shape": lambda: layers.Lambda(lambda x: ops.relu(x), output_shape=lambda shape: shape, **EXACT),
    "its mask": lambda: layers.Lambda(halved, mask=lambda x, mask: mask, **EXACT),
    "an activation": lambda: layers.Activation(halved, **EXACT),
    "an activation of keras.ops": lambda: layers.Activation(ops.erf, **EXACT),
    "an activation that is a lambda": lambda: layers.Activation(lambda x: FACTOR * ops.relu(x), **EXACT),
    "an activation that is an object": lambda: layers.Activation(Bent(), **EXACT),
    "of a convolution": lambda: layers.Conv2D(8, 3, activation=halved, padding="same", **EXACT),
    "of a convolution, a lambda": lambda: layers.Conv2D(8, 3, activation=lambda x: FACTOR * ops.relu(x), **EXACT),
    "of a depthwise convolution": lambda: layers.DepthwiseConv2D(3, activation=halved, **EXACT),
    "of a separable convolution": lambda: layers.SeparableConv2D(8, 3, activation=halved, **EXACT),
    "of a dense layer": lambda: layers.Dense(8, activation=Bent(), **EXACT),
    "beside it": lambda: layers.Conv2D(8, 1, activity_regularizer=halved, kernel_constraint=halved, **EXACT),
}


def model_with(layer):
    steps = [layers.Conv2D(8, 3, padding="same", **EXACT), layer, layers.Conv2D(2, 3, activation=halved, **EXACT)]
    return keras.Sequential([layers.Input((9, 8, 3), **EXACT), *steps])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_handed_on(name):
    model = model_with(FUNCTIONS[name]())
    new = wild(equivariant(model, "hv"))
    assert max(errors(new, "hv")) < SMALL
    x = pictures(new)
    np.testing.assert_allclose(answers(desymmetrize(new), x)[0], answers(new, x)[0], rtol=0, atol=1e-5)
    symmetrize(model, {"h": "50%"})


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if "depth" not in name and "beside" not in name])
def test_functions_answer_what_they_did(name):
    model = wild(model_with(FUNCTIONS[name]()))
    new = equivariant(model, "h", width=2, init="average", measure=False) if "Lambda" in name else symmetrize(model, {})
    np.testing.assert_allclose(answers(new, pictures(model))[0], answers(model, pictures(model))[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("how", [{}, {"width": 4, "init": "average"}], ids=str)
@pytest.mark.parametrize(
    "function",
    [lambda x: ops.mean(x, axis=(1, 2)), lambda x: ops.max(x, axis=(1, 2), keepdims=True)[:, 0, 0]],
    ids=["mean", "max"],
)
def test_channels_are_followed_through_functions(function, how):
    steps = [layers.Conv2D(8, 3, **EXACT), layers.Lambda(function, **EXACT), layers.Dense(8, **EXACT)]
    model = keras.Sequential([layers.Input((9, 8, 3), **EXACT), *steps, layers.Dense(2, **EXACT)])
    assert max(errors(wild(equivariant(model, "hv", **how)), "hv")) < SMALL


def test_functions_that_mix_channels_with_positions_are_refused_still():
    steps = [
        layers.Conv2D(8, 3),
        layers.Lambda(lambda x: ops.cumsum(x, -1)[..., 1:], name="mixed"),
        layers.Conv2D(2, 1),
    ]
    with pytest.raises(SymmetryError, match="cannot be followed through 'Lambda'"):
        equivariant(keras.Sequential([layers.Input((9, 8, 3)), *steps]), "h")


def test_a_lambda_keeps_what_it_was_made_with():
    made = layers.Lambda(
        scaled, output_shape=(9, 8, 8), mask=unmasked, arguments={"factor": 2.0}, name="twice", **EXACT
    )
    made.trainable = False
    new = equivariant(model_with(made), "h", measure=False).get_layer("twice")
    assert new is not made
    assert (new.function, new.mask, new.arguments, new._output_shape) == (scaled, unmasked, {"factor": 2.0}, (9, 8, 8))
    assert not new.trainable
    assert type(new) is layers.Lambda


def test_a_function_that_a_layer_of_ones_own_has_is_handed_on():
    norm = layers.BatchNormalization(gamma_constraint=halved, **EXACT)
    new = equivariant(model_with(norm), "h", measure=False)
    assert type(new.layers[1]) is ours.OrbitBatchNormalization
    assert new.layers[1].gamma_constraint is halved
