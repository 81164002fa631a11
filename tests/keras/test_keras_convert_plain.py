"""Channels that are to be ordinary inside a network: latents."""

import keras
import pytest
from converted_keras import SMALL, errors, wild
from keras import layers

from symmetric_layers import SymmetryError
from symmetric_layers.keras import equivariant


def autoencoder():
    picture = x = keras.Input((8, 6, 3))
    x = layers.Conv2D(8, 3, padding="same", activation="tanh")(x)
    inner = keras.Sequential([keras.Input((8, 6, 8)), layers.Conv2D(4, 3, padding="same")], name="latents")
    x = layers.Conv2D(8, 3, padding="same", activation="tanh", name="decoder")(inner(x))
    return keras.Model(picture, layers.Conv2D(3, 1)(x))


def up_to_latents(model):
    return keras.Model(model.inputs, model.get_layer("decoder").input)


@pytest.mark.parametrize("name", ["latents", "conv"])
def test_latents_are_ordinary_where_they_are_asked_to_be(name):
    model, told = autoencoder(), []
    name = "latents" if name == "latents" else f"latents/{model.get_layer('latents').layers[-1].name}"
    new = wild(equivariant(model, "h", plain=name, report=told.append))
    assert max(errors(new, "h")) < SMALL
    assert max(errors(up_to_latents(new), "h")) < SMALL
    assert told == [f"{name!r}: plain, as asked for."]
    orbits = wild(equivariant(model, "h", measure=False))
    assert max(errors(up_to_latents(orbits), "h")) > 0.1


@pytest.mark.parametrize(
    ("plain", "sentence"),
    [
        (
            ["codes"],
            "plain: 'codes' is no layer of the model. Expected names of its layers, or paths like 'encoder/conv' into "
            "models inside it. Use such.",
        ),
        (3, "plain: 3 holds no names. Expected names of layers, like ['head']. Pass such."),
    ],
)
def test_what_is_no_layer_is_refused(plain, sentence):
    with pytest.raises(SymmetryError) as refusal:
        equivariant(autoencoder(), "h", plain=plain)
    assert str(refusal.value) == sentence
