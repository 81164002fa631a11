"""What stays ordinary because it is asked to, and how that is told."""

import warnings

import keras
import networks_keras
import pytest
from keras import layers

import symmetric_layers.keras as ours
from symmetric_layers import SymmetryError
from symmetric_layers.keras import equivariant


def test_what_is_kept_is_ordinary_and_the_rest_obeys():
    model = networks_keras.unet()
    name = next(layer.name for layer in model.layers if isinstance(layer, layers.Conv2D) and layer.filters == 2)
    told = []
    new = equivariant(model, "hv", keep=[name], report=told.append)
    assert type(new.get_layer(name)) is layers.Conv2D
    assert sum(isinstance(layer, ours.SymmetricConv2D) for layer in new.layers) == 4
    assert sum(isinstance(layer, ours.InvariantConv2D) for layer in new.layers) == 2
    (sentence,) = told
    assert sentence.startswith(f"With {name!r} ordinary, the largest relative deviation is ")
    assert float(sentence.split()[-1].rstrip(".")) > 1e-3


@pytest.mark.parametrize("name", ["classifier", "unet"])
def test_what_is_kept_is_told_by_a_warning_where_nobody_reads(name):
    model = networks_keras.ALL[name][0]()
    kept = [layer.name for layer in model.layers if isinstance(layer, layers.Conv2D)][-2:]
    with pytest.warns(UserWarning, match="ordinary") as told:
        equivariant(model, "hv", keep=kept)
    (warning,) = [one for one in told if "ordinary" in str(one.message)]
    sentence = (
        f"With {kept[0]!r}, {kept[1]!r} ordinary, the network breaks the law: the largest relative deviation is {{}}. "
        "Pass report= to read this instead of being warned."
    )
    before, after = sentence.split("{}")
    assert str(warning.message).startswith(before)
    assert str(warning.message).endswith(after)
    assert float(str(warning.message)[len(before) : -len(after)]) > 1e-3
    assert warning.filename == __file__


def test_what_is_kept_and_obeys_is_worth_no_warning():
    steps = [layers.Conv2D(4, 3), layers.Conv2D(4, 3), layers.Conv2D(4, 1, name="kept"), layers.Conv2D(2, 1)]
    model = keras.Sequential([layers.Input((9, 8, 3)), *steps])
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        new = equivariant(model, "h", keep="kept")
        equivariant(model, "h", keep=model.layers[0].name, measure=False)
    assert type(new.get_layer("kept")) is layers.Conv2D


@pytest.mark.parametrize(
    ("keep", "sorts"),
    [
        ("inner", (layers.Conv2D, layers.Conv2D, layers.Conv2D)),
        ("inner/last", (ours.SymmetricConv2D, ours.InvariantConv2D, layers.Conv2D)),
        (["last"], (ours.SymmetricConv2D, ours.InvariantConv2D, layers.Conv2D)),
    ],
)
def test_models_inside_and_layers_of_these_are_kept_by_name(keep, sorts):
    convs = [layers.Conv2D(8, 3, padding="same"), layers.Conv2D(4, 1, name="last")]
    inner = keras.Sequential([layers.Input((None, None, 8)), *convs], name="inner")
    outer = [layers.Input((8, 9, 1)), layers.Conv2D(8, 3), inner, layers.GlobalAveragePooling2D(), layers.Dense(2)]
    new = equivariant(keras.Sequential(outer), "h", keep=keep, measure=False)
    assert tuple(type(layer) for layer in [new.layers[0], *new.get_layer("inner").layers]) == sorts


@pytest.mark.parametrize("keep", [5, None, [3]])
def test_what_is_kept_is_named(keep):
    with pytest.raises(SymmetryError) as refusal:
        equivariant(networks_keras.unet(), "h", keep=keep)
    assert str(refusal.value) == (f"keep: {keep!r} holds no names. Expected names of layers, like ['head']. Pass such.")
