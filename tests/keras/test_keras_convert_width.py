"""Wider networks, and networks that start as the mirror average of a trained one."""

from functools import partial

import keras
import networks_keras
import numpy as np
import pytest
from converted_keras import SMALL, answers, errors, pictures, wild
from keras import layers, ops

import symmetric_layers.keras as ours
from symmetric_layers import SymmetryError
from symmetric_layers.keras import equivariant

ALL_OF_THEM = keras.backend.backend() == "torch"  # graphs are the same on all backends


def average(model, x, axes):
    """The answers of a model, averaged over all mirrored inputs, maps mirrored back."""
    total = 0
    for number in range(2 ** len(axes)):
        flipped = [{"h": -2, "v": -3, "z": -4}[letter] for bit, letter in enumerate(axes) if number >> bit & 1]
        found = answers(model, np.flip(x, flipped))
        total = [
            np.flip(one, flipped) + (total[place] if total else 0) if one.ndim == x.ndim else one
            + (total[place] if total else 0) for place, one in enumerate(found)
        ]  # fmt: skip
    return [one / 2 ** len(axes) for one in total]


def chain(size=(9, 8), dtype="float64"):
    """Grouped, transposed and separable layers, slopes, two answers of which one is a vector."""
    more = {"dtype": dtype, "padding": "same"}
    x = start = layers.Input((*size, 2), dtype=dtype)
    x = layers.Conv2D(8, 3, groups=2, **more)(x)
    x = layers.PReLU(shared_axes=[1, 2], alpha_initializer="uniform", dtype=dtype)(x)
    x = layers.Conv2D(12, 3, groups=2, strides=2, **more)(x)
    x = layers.Conv2DTranspose(4, 2, strides=2, activation="tanh", **more)(x)
    vector = layers.Dense(6, activation="relu", dtype=dtype)(ops.mean(x, axis=(1, 2)))
    return keras.Model(start, [layers.SeparableConv2D(3, 3, **more)(x), layers.Dense(2, dtype=dtype)(vector)])


def plain_unet():
    """A U-Net without norms over several channels."""
    x = start = layers.Input((8, 12, 1), dtype="float64")
    more = {"padding": "same", "dtype": "float64"}
    x = skip = layers.Conv2D(4, 3, activation="relu", **more)(x)
    x = layers.BatchNormalization(dtype="float64")(layers.Conv2D(8, 3, strides=2, activation="elu", **more)(x))
    x = layers.Conv2DTranspose(4, 3, strides=2, **more)(x)
    x = layers.Conv2D(8, 3, activation="relu", **more)(layers.Concatenate(dtype="float64")([x, skip]))
    return keras.Model(start, layers.Conv2D(2, 1, **more)(x))


AVERAGED = {
    "classifier": (networks_keras.classifier, "hv"),
    "classifier, h": (partial(networks_keras.classifier, (11, 9)), "h"),
    "mobile": (networks_keras.mobile, "h"),
    "unet": (plain_unet, "hv"),
    "chain": (chain, "v"),
}

WIDER = list(zip([*networks_keras.ALL, "chain"], [2, 3] * 3, strict=True))


@pytest.mark.parametrize("name", AVERAGED if ALL_OF_THEM else ["mobile"])
def test_a_network_starts_as_the_mirror_average_of_a_trained_one(name):
    build, axes = AVERAGED[name]
    model = wild(build())
    new = equivariant(model, axes, width=2 ** len(axes), init="average", measure=False)
    assert type(new) is type(model)
    x = pictures(model)
    for expected, answer in zip(average(model, x, axes), answers(new, x), strict=True):
        np.testing.assert_allclose(answer, expected, rtol=0, atol=SMALL * np.abs(expected).max())
    apart = zip(answers(model, x), answers(new, x), strict=True)
    assert max(np.abs(one - other).max() / np.abs(other).max() for one, other in apart) > 1e-3


@pytest.mark.parametrize("end", ["softmax", "a layer of its own"])
def test_of_classes_the_logits_are_averaged(end):
    model = wild(networks_keras.classifier())
    last = layers.Dense(3, activation="softmax" if end == "softmax" else None, dtype="float64", name="end")
    last = [last] if end == "softmax" else [last, layers.Activation("softmax", dtype="float64")]
    model = wild(keras.Sequential([keras.Input((12, 10, 2), dtype="float64"), *model.layers[:-1], *last]))
    new = equivariant(model, "h", width=2, init="average", measure=False)
    x, logits = pictures(model), keras.Sequential([*model.layers[:-1], layers.Dense(3, dtype="float64")])
    if end != "softmax":
        logits = keras.Sequential(model.layers[:-1])
    logits.build((None, 12, 10, 2))
    logits.set_weights(model.get_weights())
    expected = np.log(ops.convert_to_numpy(ops.softmax(average(logits, x, "h")[0])))
    np.testing.assert_allclose(np.log(answers(new, x)[0]), expected, rtol=0, atol=SMALL * np.abs(expected).max())
    assert np.abs(np.log(average(model, x, "h")[0]) - expected).max() > 0.1  # probabilities have another average


def test_where_no_width_holds_the_average_that_is_said():
    model = wild(networks_keras.unet())
    with pytest.raises(SymmetryError, match=r"^width: 1 has no room for the average over the mirrors of 'hv'"):
        equivariant(model, "hv", init="average")
    with pytest.raises(SymmetryError, match=r"^init: 'average' is off by .* no norm over several channels"):
        equivariant(model, "hv", width=4, init="average")
    with pytest.raises(SymmetryError, match=r"^init: 'mean' is no choice here. Expected 'own' or 'average'"):
        equivariant(model, "hv", init="mean")
    with pytest.raises(SymmetryError, match=r"^width: 0 is no usable count"):
        equivariant(model, "hv", width=0)


@pytest.mark.parametrize(("name", "width"), WIDER if ALL_OF_THEM else WIDER[-1:])
def test_a_wider_network_obeys_and_starts_anew(name, width):
    build, axes = {**networks_keras.ALL, "chain": (chain, "v")}[name]
    model = build()
    new = equivariant(model, axes, width=width)
    assert max(errors(wild(new), axes)) < SMALL
    assert new.count_params() > width * equivariant(model, axes, measure=False).count_params()
    assert [tensor.shape for tensor in new.outputs] == [tensor.shape for tensor in model.outputs]


def test_wider_layers_are_drawn_as_the_hosts_draw_them():
    model = networks_keras.volume()
    new = equivariant(model, "h", width=2, measure=False)
    for old, made in zip(model.layers[:2], new.layers[:2], strict=True):
        assert made.filters == 2 * old.filters
        assert 0.4 < np.std(ops.convert_to_numpy(made.kernel)) / np.std(ops.convert_to_numpy(old.kernel)) < 1.1


@pytest.mark.parametrize(
    ("name", "axes"), [("classifier", "hv"), ("volume", "hvz"), ("mobile", "h")][0 if ALL_OF_THEM else 2 :]
)
def test_as_many_parameters_as_before(name, axes):
    model, said = networks_keras.ALL[name][0](), []
    new = equivariant(model, axes, width="parameters", report=said.append)
    assert 0.75 < new.count_params() / model.count_params() < 1.25
    assert max(errors(wild(new), axes)) < SMALL
    (sentence,) = [one for one in said if "times as many" in one]
    assert sentence.endswith(f"{new.count_params()} parameters, and {model.count_params()} before.")


def test_numbers_of_channels_that_a_model_has_written_down_are_refused():
    x = start = layers.Input((6, 6, 1))
    x = layers.Conv2D(4, 3, padding="same")(x)
    x = ops.reshape(ops.mean(x, axis=(1, 2)), (-1, 1, 1, 4))
    model = keras.Model(start, layers.Conv2D(2, 1)(layers.Conv2D(4, 1)(x)))
    equivariant(model, "h")
    for width in (2, "parameters"):
        with pytest.raises(SymmetryError, match=rf"^width: {width!r} makes other channels than the model's own code"):
            equivariant(model, "h", width=width)


def test_wider_it_is_saved_and_loaded(tmp_path):
    new = wild(equivariant(networks_keras.mobile(), "h", width=3, measure=False))
    new.save(tmp_path / "model.keras")
    x = pictures(new)
    for one, other in zip(answers(keras.saving.load_model(tmp_path / "model.keras"), x), answers(new, x), strict=True):
        np.testing.assert_array_equal(one, other)
    assert all(layer.groups == layer.filters for layer in new.layers if getattr(layer, "groups", 1) > 1)
    assert any(isinstance(layer, ours.SymmetricConv2D) and layer.groups == 24 for layer in new.layers)
