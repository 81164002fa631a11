"""Layers that are called for each moment of a film, and what stands inside other wrappers."""

import keras
import numpy as np
import pytest
from converted_keras import alike, pictures, wild
from keras import layers, ops

import symmetric_layers.keras as ours
from symmetric_layers import SymmetryError
from symmetric_layers.keras import desymmetrize, equivariance_error, equivariant, symmetrize

BACKEND = keras.backend.backend()
EXACT = {"dtype": "float64"}
CONV = {"padding": "same", "dtype": "float64"}


def each(layer, **more):
    return layers.TimeDistributed(layer, dtype="float64", **more)


def film(first="channels_last"):
    """Frames by themselves, then a vector for each."""
    more = {"data_format": first, **EXACT}
    axis = -1 if first == "channels_last" else 1
    x = start = layers.Input((3, 9, 8, 2) if axis == -1 else (3, 2, 9, 8), **EXACT)
    x = each(layers.Conv2D(8, 3, activation="relu", **more))(x)
    x = each(layers.BatchNormalization(axis=axis, **EXACT))(x)
    x = each(layers.MaxPooling2D(2, **more))(x)
    x = each(layers.DepthwiseConv2D(3, padding="same", **more))(x)
    x = each(layers.Dropout(0.2, **EXACT))(x)
    x = each(layers.PReLU(shared_axes=[1, 2] if axis == -1 else [2, 3], **EXACT))(x)
    x = each(layers.SeparableConv2D(8, 2, strides=2, **more))(x)
    x = each(layers.GlobalAveragePooling2D(**more))(x)
    x = each(layers.Dense(8, activation="relu", **EXACT))(x)
    return keras.Model(start, layers.Dense(2, **EXACT)(x))


def mixed():
    """Frames by themselves, padded on one side, then volumes, and a picture of all."""
    x = start = layers.Input((3, 10, 8, 2), **EXACT)
    x = each(layers.ZeroPadding2D(((0, 1), (0, 1)), **EXACT))(x)
    x = each(layers.Conv2D(8, 3, strides=2, **EXACT))(x)
    x = layers.Conv3D(8, 3, activation="tanh", **CONV)(x)
    x = each(layers.Conv2DTranspose(8, 3, strides=2, **CONV))(x)
    return keras.Model(start, layers.Conv2D(2, 3, **CONV)(ops.mean(x, axis=1)))


def frames():
    """Frames in, frames out."""
    x = start = layers.Input((3, 9, 8, 2), **EXACT)
    x = each(layers.BatchNormalization(**EXACT))(each(layers.Conv2D(8, 3, **CONV))(x))
    return keras.Model(start, each(layers.Conv2D(2, 3, activation="softmax", **CONV))(x))


FILMS = {"film": film, "mixed": mixed, "frames": frames}
if BACKEND != "tensorflow":  # which has no other than channels-last on the CPU
    FILMS["channels first"] = lambda: film("channels_first")


def broken(model, x, letter):
    """How far the answers are from the law, by hand."""
    last = 3 if letter == "h" else 2
    if tuple(x.shape[2:4]) == (2, 9):  # channels first
        last += 1
    one, other = (ops.convert_to_numpy(ops.stop_gradient(model(one))) for one in (x, np.flip(x, last)))
    expected = {3: lambda: one, 4: lambda: np.flip(one, last - 1), 5: lambda: np.flip(one, last)}[one.ndim]()
    return np.abs(other - expected).max() / np.abs(one).max()


@pytest.mark.parametrize(("name", "axes"), list(zip(FILMS, ["hv", "h", "hv", "h"], strict=False)))
def test_what_is_called_for_each_moment_is_converted(name, axes, tmp_path):
    model = wild(FILMS[name]())
    new = wild(equivariant(model, axes))
    x = pictures(model)
    for letter in axes:
        assert broken(model, x, letter) > 1e-3
        assert broken(new, x, letter) < 1e-6
    assert new.count_params() < model.count_params() * (0.75 if axes == "h" else 0.5)
    wrapped = [isinstance(layer, layers.TimeDistributed) for layer in model.layers]
    assert [isinstance(layer, layers.TimeDistributed) for layer in new.layers] == wrapped
    assert [layer.name for layer in new.layers] == [layer.name for layer in model.layers]
    new.save(tmp_path / "model.keras")
    alike(keras.saving.load_model(tmp_path / "model.keras"), new, x)


@pytest.mark.parametrize("name", ["mixed", "frames"])
def test_the_way_back_leaves_ordinary_layers_for_each_moment(name):
    new = wild(equivariant(FILMS[name](), "hv", measure=False))
    plain = desymmetrize(new)
    alike(plain, new, pictures(new))
    inside = [getattr(layer, "layer", layer) for layer in plain.layers]
    assert not any(type(layer).__module__.startswith("symmetric_layers") for layer in inside)


@pytest.mark.parametrize("how", [{"width": 2, "init": "average"}, {"width": 3}, {"width": "parameters"}], ids=str)
def test_widths_and_averages_reach_what_is_called_for_each_moment(how):
    model = wild(frames())
    new = equivariant(model, "h", **how)
    assert broken(wild(new), pictures(model), "h") < 1e-6
    assert new.count_params() > model.count_params() * 0.75


def test_single_precision_is_measured_in_double():
    x = start = layers.Input((3, 9, 8, 2))
    for layer in (layers.Conv2D(8, 3), layers.BatchNormalization(), layers.Conv2D(2, 3)):
        x = layers.TimeDistributed(layer)(x)
    equivariant(keras.Model(start, x), "hv")


def test_what_is_kept_in_a_wrapper_is_ordinary():
    model = frames()
    name = model.layers[-1].name
    new = equivariant(model, "h", keep=[name], measure=False)
    assert type(new.layers[-1].layer) is layers.Conv2D
    assert type(new.layers[1].layer) is ours.InvariantConv2D or type(new.layers[1].layer) is layers.Conv2D


def test_mirrored_banks_for_each_moment():
    model = wild(film())
    new = symmetrize(model, {"h": "50%"}, where=lambda name, conv: conv.filters == 8)
    assert type(new.layers[1].layer) is ours.SymmetricConv2D
    assert type(new.layers[3].layer) is layers.MaxPooling2D


def test_time_has_no_mirror_in_layers_for_each_moment():
    with pytest.raises(SymmetryError) as refusal:
        equivariant(frames(), "hvz")
    assert str(refusal.value).startswith("model: 'time_distributed")
    assert "cannot be converted. symmetry: 'hvz'" in str(refusal.value)


def test_pictures_of_films_are_held_to_the_law():
    model = keras.Sequential([layers.Input((3, 9, 8, 2)), layers.Conv3D(2, (3, 1, 1)), layers.Reshape((9, 8, 2))])
    found = equivariance_error(model, pictures(model), "h")
    assert max(row.relative for row in found) < 1e-5


class Block(layers.Layer):
    def __init__(self, **more):
        super().__init__(**more)
        self.conv = layers.Conv2D(4, 3)

    def call(self, x):
        return self.conv(x)


INSIDE = {
    "SpectralNormalization": lambda: layers.SpectralNormalization(layers.Conv2D(4, 3), name="inside"),
    "Block": lambda: Block(name="inside"),
    "TimeDistributed": lambda: layers.TimeDistributed(layers.SpectralNormalization(layers.Conv2D(4, 3)), name="inside"),
}


@pytest.mark.parametrize("name", INSIDE)
def test_convolutions_inside_of_something_else_are_said_to_be_there(name):
    size = (3, 9, 8, 3) if name == "TimeDistributed" else (9, 8, 3)
    model = keras.Sequential([layers.Input(size), INSIDE[name]()])
    with pytest.raises(SymmetryError) as refusal:
        equivariant(model, "h")
    assert str(refusal.value) == (
        f"model: its convolutions are inside 'inside', a {name}. Expected convolutions that stand in its graph "
        "by themselves. Write that part with layers of Keras, as a functional model, or alone in a TimeDistributed."
    )
