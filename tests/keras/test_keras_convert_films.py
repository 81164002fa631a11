"""Whole models that are called for each moment of a film."""

import keras
import numpy as np
import pytest
from converted_keras import SMALL, alike, answers, pictures, wild
from keras import layers, ops

import symmetric_layers.keras as ours
from symmetric_layers import SymmetryError
from symmetric_layers.keras import desymmetrize, equivariant

BACKEND = keras.backend.backend()
TIGHT = 1e-10 if BACKEND == "tensorflow" else SMALL  # dense layers of the others round to single precision
EXACT = {"dtype": "float64"}
CONV = {"padding": "same", "dtype": "float64"}


def encoder():
    """A chain that ends in a vector."""
    steps = [
        layers.Conv2D(8, 3, activation="relu", **CONV),
        layers.MaxPooling2D(2, **EXACT),
        layers.Conv2D(4, 3, **CONV),
        layers.Flatten(**EXACT),
        layers.Dropout(0.2, **EXACT),
        layers.Dense(6, **EXACT),
    ]
    return keras.Sequential([layers.Input((9, 8, 2), **EXACT), *steps], name="encoder")


def branches(size=(9, 8)):
    """A layer that is called twice, branches that meet, and a model inside of it."""
    start = layers.Input((*size, 2), **EXACT)
    again = layers.Conv2D(8, 3, **CONV)
    x = again(again(layers.Conv2D(8, 3, **CONV)(start)))
    inner = keras.Sequential([layers.Input((*size, 8), **EXACT), layers.BatchNormalization(**EXACT)], name="inner")
    x = layers.Concatenate(**EXACT)([x, layers.Add(**EXACT)([x, inner(x, training=False)])])
    x = layers.AveragePooling2D(2, **EXACT)(x)
    return keras.Model(start, layers.GlobalAveragePooling2D(**EXACT)(x), name="branches")


def film(model, moments=3):
    start = layers.Input((moments, *model.input_shape[1:]), **EXACT)
    x = layers.TimeDistributed(model, name="each", **EXACT)(start)
    return keras.Model(start, layers.Dense(2, **EXACT)(layers.Dense(8, activation="tanh", **EXACT)(x)))


@pytest.mark.parametrize(("build", "axes"), [(encoder, "h"), (branches, "hv")])
def test_models_for_each_moment_are_converted_layer_by_layer(build, axes, tmp_path):
    model = wild(film(build()))
    new = wild(equivariant(model, axes))
    x = pictures(model)
    for letter in axes:
        axis = {"h": 3, "v": 2}[letter]
        one, other = (answers(new, seen)[0] for seen in (x, np.flip(x, axis)))
        np.testing.assert_allclose(one, other, rtol=0, atol=TIGHT * np.abs(one).max())
        assert np.abs(answers(model, x)[0] - answers(model, np.flip(x, axis))[0]).max() > 1e-3
    assert new.count_params() < model.count_params() * 0.75
    assert [layer.name for layer in new.layers] == [layer.name for layer in model.layers]
    new.save(tmp_path / "model.keras")
    alike(keras.saving.load_model(tmp_path / "model.keras"), new, x)


@pytest.mark.parametrize("build", [encoder, branches])
def test_models_for_each_moment_start_as_the_average(build):
    model = wild(film(build()))
    new = equivariant(model, "h", width=2, init="average", measure=False)
    x = pictures(model)
    total = (answers(model, x)[0] + answers(model, np.flip(x, 3))[0]) / 2
    np.testing.assert_allclose(answers(new, x)[0], total, rtol=0, atol=TIGHT * np.abs(total).max())


def test_the_way_back_from_models_for_each_moment():
    new = wild(equivariant(film(branches((8, 8))), "h", measure=False))
    plain = desymmetrize(new)
    alike(plain, new, pictures(new))
    assert not any(type(layer).__module__.startswith("symmetric_layers") for layer in plain._flatten_layers())


def test_names_training_and_compiling_are_those_of_before():
    inner = encoder()
    inner.layers[0].trainable = False
    model = film(inner)
    model.compile(optimizer="sgd", loss="mse")
    new = equivariant(model, "h", measure=False)
    assert new.compiled
    each = new.get_layer("each")
    assert [layer.name for layer in each.layers[1:]] == [layer.name for layer in inner.layers]
    assert type(each.layers[1].layer) is ours.SymmetricConv2D
    assert not each.layers[1].trainable
    assert model.compiled
    kept = equivariant(model, "h", keep=[f"each/{inner.layers[-1].name}"], measure=False)
    assert type(kept.get_layer("each").layers[-1].layer) is layers.Dense
    model.get_layer("each").trainable = False
    assert not equivariant(model, "h", measure=False).get_layer("each").trainable


def test_what_is_no_layer_cannot_be_called_for_each_moment():
    start = layers.Input((9, 8, 2))
    inner = keras.Model(start, ops.relu(layers.Conv2D(4, 3)(start)))
    model = keras.Sequential([layers.Input((3, 9, 8, 2)), layers.TimeDistributed(inner, name="each")])
    with pytest.raises(SymmetryError) as refusal:
        equivariant(model, "h")
    assert str(refusal.value) == (
        "model: its convolutions are inside 'each', a TimeDistributed. Expected convolutions that stand in its graph "
        "by themselves. Write that part with layers of Keras, as a functional model, or alone in a TimeDistributed."
    )
