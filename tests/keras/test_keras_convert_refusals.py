"""What conversion refuses, in whole sentences: which layer it is, what is wrong with it, and the way out."""

import warnings

import keras
import pytest
from keras import layers, ops

from symmetric_layers import SymmetryError
from symmetric_layers.keras import equivariant

NAMED = {"padding": "same", "name": "grouped"}


def chain(*steps, shape=(9, 8, 3)):
    return keras.Sequential([layers.Input(shape), *steps])


def refusal_of(model, axes="h", **how):
    """The sentence; a warning beside it counts as a fault."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        with pytest.raises(SymmetryError) as refusal:
            equivariant(model, axes, **how)
    return str(refusal.value)


@pytest.mark.parametrize("measure", [True, False])
@pytest.mark.parametrize(
    ("axes", "channels", "groups", "filters", "size"),
    [("h", 8, 8, 16, 2), ("hv", 8, 4, 16, 4), ("h", 6, 2, 8, 2)],
)
@pytest.mark.parametrize("last", [False, True])
def test_groups_that_tear_orbits_apart_are_refused_by_name(axes, channels, groups, filters, size, last, measure):
    steps = [layers.Conv2D(channels if axes == "h" else 8, 3), layers.Conv2D(filters, 3, groups=groups, **NAMED)]
    model = chain(*steps, *([] if last else [layers.Conv2D(2, 3)]))
    assert refusal_of(model, axes, measure=measure) == (
        f"model: 'grouped' has {channels} input channels in {groups} groups, which tear orbits of {axes!r} apart. "
        f"Expected whole orbits in every group, a multiple of {size} channels. Use fewer groups, or keep that part "
        "ordinary with keep."
    )


def test_groups_hold_whole_orbits_where_the_network_is_wide_enough():
    model = chain(layers.Conv2D(8, 3), layers.Conv2D(16, 3, groups=8), layers.Conv2D(2, 3))
    new = equivariant(model, "h", width=2)
    assert new.layers[1].groups == 8
    assert equivariant(model, "h", width="parameters").layers[1].groups == 8


def test_a_layer_without_a_form_is_named_and_not_the_convolution_behind_it():
    steps = [layers.ConvLSTM2D(8, 3, padding="same", name="film"), layers.ReLU(), layers.Conv2D(2, 3, name="last")]
    assert refusal_of(chain(*steps, shape=(3, 9, 8, 2))) == (
        "model: 'last' gets no orbits to read, for 'film' before it is a ConvLSTM2D, which has no form that makes any. "
        "Expected convolutions, norms and dense layers of Keras. Use these, or keep that part ordinary with keep."
    )


@pytest.mark.parametrize("inside", [False, True])
def test_it_is_named_through_models_and_moves_too(inside):
    film = layers.ConvLSTM2D(8, 3, padding="same", name="film")
    first = keras.Sequential([layers.Input((3, 9, 8, 2)), film], name="inner") if inside else film
    steps = [first, layers.Permute((2, 1, 3)), layers.Permute((2, 1, 3)), layers.Conv2D(2, 3, name="last")]
    name = "inner/film" if inside else "film"
    assert f"for {name!r} before it is a ConvLSTM2D" in refusal_of(chain(*steps, shape=(3, 9, 8, 2)))


def picked(start, stop):
    x = layers.Input((9, 8, 3))
    first = layers.Conv2D(8, 3, padding="same", name="first")(x)
    behind = layers.Conv2D(8, 3, padding="same")(first)
    return keras.Model(x, layers.Conv2D(2, 1)(behind * first[..., start:stop]))


@pytest.mark.parametrize("cut", [(0, 1), (7, 8)])
def test_what_picks_single_channels_is_named(cut):
    model = picked(*cut)
    name = next(one.name for one in model.operations if type(one).__name__ == "GetItem")
    assert refusal_of(model) == (
        f"model: 'first' makes no orbits, for {name!r}, a GetItem, picks some of its channels, or of those that these "
        "meet, and leaves others. Expected whole orbits that stay together. Make what is picked by a convolution of "
        "its own, or keep that part ordinary with keep."
    )


def test_what_stands_between_other_layers_reads_no_picture():
    start = layers.Input((9, 8, 3))
    x = layers.Conv2D(8, 3, padding="same")(start)
    gate = layers.Conv2D(2, 7, padding="same", activation="sigmoid", name="gate")(ops.mean(x, -1, keepdims=True))
    model = keras.Model(start, [layers.Conv2D(2, 1)(x), gate])
    assert refusal_of(model) == (
        "model: 'gate' reads ordinary channels and makes such, with no orbits between. Expected two layers at least, "
        "one into orbits and one out of them. Add one, or keep it ordinary with keep."
    )
    assert refusal_of(chain(layers.Conv2D(2, 3, name="alone"))) == (
        "model: 'alone' reads a picture and gives an answer, with no orbits between. Expected two layers at least, one "
        "into orbits and one out of them. Add one, or keep it ordinary with keep."
    )
