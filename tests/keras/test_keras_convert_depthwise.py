"""Convolutions that treat channels one by one: several of each, on pictures, and between ordinary channels."""

import keras
import numpy as np
import pytest
from converted_keras import SMALL, alike, alike_on, answers, errors, pictures, precision, wild
from keras import layers, ops
from test_keras_convert_refusals import refusal_of

from symmetric_layers.keras import desymmetrize, equivariant

EXACT = {"dtype": "float64"}
CONV = {"padding": "same", "dtype": "float64"}
RANDOM = np.random.RandomState(7)


def depthwise(size=3, times=1, **more):
    return layers.DepthwiseConv2D(size, depth_multiplier=times, name="alone", **{**CONV, **more})


def separable(size=3, times=1, **more):
    return layers.SeparableConv2D(8, size, depth_multiplier=times, name="alone", **{**CONV, **more})


def network(*steps, first=True, last=True, size=(8, 7, 3)):
    steps = [layers.Conv2D(8, 3, **CONV), *steps] if first else list(steps)
    end = [layers.Conv2D(2, 3, **CONV)] if last else []
    return keras.Sequential([layers.Input(size), *steps, *end])


def signal(*steps):
    return keras.Sequential([layers.Input((9, 3)), *steps, layers.Conv1D(2, 3, **CONV)])


def handed_out():
    """A block between ordinary channels, whose answer goes on and out."""
    start = layers.Input((8, 7, 3))
    x = layers.Conv2D(4, 1, **CONV)(layers.Conv2D(8, 3, activation="relu", **CONV)(start))
    x = depthwise()(x) + x
    return keras.Model(start, [x, layers.Conv2D(2, 1, **EXACT)(layers.Conv2D(8, 3, activation="relu", **CONV)(x))])


PADS = layers.ZeroPadding2D
FORMS = {
    "several of each": lambda: network(depthwise(3, 2, activation="elu"), layers.Conv2D(8, 1, **EXACT)),
    "three in strides": lambda: network(depthwise((2, 3), 3, strides=2)),
    "separable, several of each": lambda: network(separable(3, 2, strides=2)),
    "first": lambda: network(separable(3, activation="elu"), first=False),
    "first, in strides": lambda: network(separable(3, 2, strides=2), first=False),
    "first, behind zeros": lambda: network(
        PADS(((0, 1), (1, 2))), separable(3, strides=2, padding="valid"), first=False),
    "alone": lambda: network(separable(3, strides=2, use_bias=False), first=False, last=False),
    "into orbits": lambda: network(depthwise((3, 4), 8, strides=2), first=False),
    "of pictures": lambda: network(depthwise((4, 3), strides=2), layers.Conv2D(8, 3, **CONV), first=False),
    "of pictures, in the middle": lambda: network(
        depthwise(3, use_bias=False, padding="valid", dilation_rate=2), layers.Conv2D(8, 3, **CONV), first=False),
    "handed out": handed_out,
    "signals": lambda: signal(layers.SeparableConv1D(8, 3, name="alone", **CONV),
                              layers.DepthwiseConv1D(3, depth_multiplier=2, strides=2, **CONV)),
    "of signals": lambda: signal(layers.DepthwiseConv1D(4, name="alone", strides=2, **CONV),
                                 layers.Conv1D(8, 3, **CONV)),
}  # fmt: skip


def drawn(model):
    return [RANDOM.standard_normal((2, *model.input_shape[1:]))]


def holds(new, axes):
    (x,) = drawn(new)
    for axis in {"h": (-2,), "hv": (1, 2)}[axes]:
        for seen, turned in zip(answers(new, x), answers(new, np.flip(x, axis)), strict=True):
            np.testing.assert_allclose(turned, np.flip(seen, axis), rtol=0, atol=precision(new) * np.abs(seen).max())


@pytest.mark.parametrize("form", FORMS)
def test_convolutions_that_treat_channels_one_by_one_obey(form, tmp_path):
    model, axes = wild(FORMS[form]()), "h" if "signals" in form else "hv"
    new = wild(equivariant(model, axes, measure=form in ("first, in strides", "handed out")))
    holds(new, axes)
    alike_on(desymmetrize(new), new, *drawn(new))
    if form in ("first, behind zeros", "three in strides", "of pictures"):
        new.save(tmp_path / "new.keras")
        alike_on(keras.models.load_model(tmp_path / "new.keras"), new, *drawn(new))


@pytest.mark.parametrize("form", ["several of each", "separable, several of each", "first, in strides", "into orbits"])
def test_wider_ones_obey_too(form):
    holds(wild(equivariant(wild(FORMS[form]()), "h", width=2, measure=False)), "h")


LINEAR = {
    "several of each": lambda: network(depthwise(3, 2)),
    "separable": lambda: network(separable(3, 2)),
    "first": lambda: network(separable(3, 2), first=False),
    "alone": lambda: network(separable(), first=False, last=False),
    "into orbits": lambda: network(depthwise(3, 8), first=False),
}


@pytest.mark.parametrize("form", LINEAR)
def test_they_start_as_the_average_of_the_old_network(form):
    model = wild(LINEAR[form]())
    new, (x,) = equivariant(model, "h", width=2, init="average", measure=False), drawn(model)
    total = answers(model, x)[0] + np.flip(answers(model, np.flip(x, 2))[0], 2)
    np.testing.assert_allclose(answers(new, x)[0], total / 2, rtol=0, atol=1e-11)


@pytest.mark.parametrize(("form", "times"), [("three in strides", 3), ("first, in strides", 1), ("into orbits", 1)])
def test_first_members_of_orbits_compute_what_stood_there(form, times):
    model = wild(FORMS[form]())
    (x,) = drawn(model)
    both = (model, equivariant(model, "h", measure=False))
    old, new = (answers(keras.Model(one.inputs[0], one.get_layer("alone").output), x)[0] for one in both)
    old = old.reshape(*old.shape[:-1], -1, 2, times)[..., 0, :]  # of what each second channel was made of
    np.testing.assert_allclose(new[..., ::2], old.reshape(new[..., ::2].shape), rtol=0, atol=1e-11)


def test_filters_of_ordinary_channels_are_their_own_mirrors_and_stored_by_half():
    model = wild(network(depthwise((4, 5)), layers.Conv2D(8, 3, **CONV), first=False))
    new = equivariant(model, "hv", measure=False).get_layer("alone")
    old, full = ops.convert_to_numpy(model.get_layer("alone").kernel), ops.convert_to_numpy(new.full_kernel())
    assert tuple(new.kernel.shape) == (2, 3, 1, 3)
    mean = (old + old[::-1] + old[:, ::-1] + old[::-1, ::-1]) / 4
    np.testing.assert_allclose(full[:, :, 0], mean[..., 0], rtol=0, atol=1e-12)


def test_words_beside_pictures_are_not_mirrored():
    start, text = layers.Input((8, 7, 3)), layers.Input((6, 4))
    said = layers.DepthwiseConv1D(3, name="words", **CONV)(text)
    said = layers.SeparableConv1D(4, 3, name="more", **CONV)(said)
    x = layers.Conv2D(8, 3, **CONV)(start) + layers.Dense(8, **EXACT)(ops.max(text + said, 1))[:, None, None]
    model = keras.Model([start, text], [layers.Conv2D(2, 1, **EXACT)(x), said])
    new = equivariant(model, "h", measure=False)
    assert type(new.get_layer("words")) is layers.DepthwiseConv1D
    assert type(new.get_layer("more")) is layers.SeparableConv1D


def test_what_makes_no_whole_orbits_of_each_channel_is_refused():
    assert refusal_of(network(depthwise(3, 3), first=False)) == (
        "model: 'alone' has 9 output channels in 3 groups, which are no whole orbits of 'h'. Expected a multiple of 6. "
        "Use such a number, or keep that part ordinary with keep."
    )


def test_a_depthwise_layer_does_not_lead_out_of_orbits():
    assert refusal_of(network(depthwise(3, 2), last=False)) == (
        "model: 'alone', a DepthwiseConv2D, reads orbits channel by channel, and makes ordinary channels. Expected "
        "orbits there, or a convolution that reads all of each. Put a Conv of kernel size 1 behind it, or keep that "
        "part ordinary with keep."
    )


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_gates_of_one_map_are_their_own_mirrors(rank):
    """Where to look, as CBAM asks: of the mean over all channels and the largest of them."""
    start = layers.Input((9, 7, 5)[:rank] + (3,), dtype="float64")
    conv = getattr(layers, f"Conv{rank}D")
    x = conv(8, 3, activation="tanh", **CONV)(start)
    seen = layers.Concatenate(**EXACT)([ops.mean(x, -1, keepdims=True), ops.max(x, -1, keepdims=True)])
    gate = conv(1, 4, activation="sigmoid", name="gate", **CONV)(seen)
    model = keras.Model(start, conv(2, 1, **CONV)(layers.Multiply(**EXACT)([x, gate])))
    axes = "hvz"[:rank]
    new = wild(equivariant(model, axes))
    assert type(new.get_layer("gate")).__name__ == f"OwnMirrorConv{rank}D"
    tensorflow = keras.backend.backend() == "tensorflow"  # elsewhere Keras takes means in single precision
    assert max(errors(new, axes)) < (1e-12 if tensorflow else SMALL)
    alike(new, desymmetrize(new), pictures(new))
