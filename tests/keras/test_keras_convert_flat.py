"""Dense layers on flattened maps: convolutions whose kernels are whole maps."""

import keras
import numpy as np
import pytest
from converted_keras import SMALL, alike, answers, pictures, wild
from keras import layers, ops

import symmetric_layers.keras as ours
from symmetric_layers import SymmetryError
from symmetric_layers.keras import desymmetrize, equivariant
from symmetric_layers.keras.convert.flat import FlatDense

BACKEND = keras.backend.backend()
EXACT = {"dtype": "float64"}
TIGHT = 1e-12 if BACKEND == "tensorflow" else SMALL  # dense layers of the others round to single precision
SIZES = {"odd": (7, 5), "even": (8, 6), "both": (9, 8)}


def mnist(size=(9, 8)):
    """The first network of keras.io."""
    steps = [
        layers.Conv2D(8, 3, activation="relu", **EXACT),
        layers.MaxPooling2D(2, **EXACT),
        layers.Flatten(**EXACT),
        layers.Dropout(0.5, **EXACT),
        layers.Dense(3, activation="softmax", **EXACT),
    ]
    return keras.Sequential([layers.Input((*size, 2), **EXACT), *steps])


def vgg(size=(9, 8)):
    """Hidden layers behind the map, activations of their own between."""
    x = start = layers.Input((*size, 1), **EXACT)
    for filters in (8, 12):
        x = layers.Conv2D(filters, 3, padding="same", activation="relu", **EXACT)(x)
    x = layers.MaxPooling2D(2, padding="same", **EXACT)(x)
    x = layers.LeakyReLU(**EXACT)(layers.Flatten(**EXACT)(x))
    x = layers.Dense(16, activation="relu", **EXACT)(ops.tanh(x))
    x = layers.Dense(8, **EXACT)(layers.Dropout(0.2, **EXACT)(x))
    return keras.Model(start, layers.Dense(2, **EXACT)(x))


def reshaped(size=(9, 8)):
    """The same by other names, also of the picture itself, and with a map that is made of numbers again."""
    start = layers.Input((*size, 2), **EXACT)
    x = layers.Conv2D(4, 3, padding="same", **EXACT)(start)
    x = layers.Reshape((-1,), **EXACT)(layers.BatchNormalization(**EXACT)(x))
    seen = ops.reshape(start, (-1, size[0] * size[1] * 2))
    x = layers.Dense(4, activation="tanh", **EXACT)(x) * layers.Dense(4, **EXACT)(seen)
    return keras.Model(start, layers.Dense(2, **EXACT)(x))


def in_a_head(size=(9, 8)):
    start = layers.Input((*size, 2), **EXACT)
    x = layers.Flatten(**EXACT)(layers.Conv2D(4, 3, padding="same", **EXACT)(start))
    head = keras.Sequential([layers.Input((size[0] * size[1] * 4,), **EXACT), layers.Dense(8, **EXACT)])
    return keras.Model(start, layers.Dense(2, **EXACT)(head(x)))


HEADS = {"mnist": mnist, "vgg": vgg, "reshaped": reshaped, "in a head": in_a_head}


def breach(model, x, letter, first=False):
    axis = {"h": 2, "v": 1}[letter] + first
    one, other = answers(model, x)[0], answers(model, np.flip(x, axis))[0]
    return np.abs(one - other).max() / np.abs(one).max()


@pytest.mark.parametrize(("size", "axes"), [("odd", "hv"), ("even", "hv"), ("both", "h")])
@pytest.mark.parametrize("name", HEADS)
def test_flattened_heads_obey_exactly(name, size, axes):
    model = wild(HEADS[name](SIZES[size]))
    new = wild(equivariant(model, axes, measure=size == "both"))
    x = pictures(model)
    for letter in axes:
        assert breach(model, x, letter) > 1e-4
        assert breach(new, x, letter) < TIGHT
    assert new.count_params() < model.count_params() * (0.75 if axes == "h" else 0.5)


@pytest.mark.parametrize("name", HEADS)
def test_flattened_heads_are_saved_and_have_an_ordinary_form(name, tmp_path):
    new = wild(equivariant(HEADS[name]((8, 6)), "hv", measure=False))
    x = pictures(new)
    new.save(tmp_path / "model.keras")
    alike(keras.saving.load_model(tmp_path / "model.keras"), new, x)
    plain = desymmetrize(new)
    alike(plain, new, x)
    assert type(plain.layers[-1]) is layers.Dense
    assert not any(type(layer).__module__.startswith("symmetric_layers") for layer in plain._flatten_layers())


@pytest.mark.parametrize("how", [{"width": 2}, {"width": "parameters"}, {"width": 3}], ids=str)
@pytest.mark.parametrize("name", ["mnist", "vgg", "in a head"])
def test_flattened_heads_grow(name, how):
    model = HEADS[name]()
    new = equivariant(model, "h", **how)
    assert breach(wild(new), pictures(model), "h") < TIGHT
    assert new.count_params() > model.count_params() * 0.75


@pytest.mark.parametrize(("name", "axes"), [("mnist", "h"), ("vgg", "hv"), ("reshaped", "v")])
def test_flattened_heads_start_as_the_average(name, axes):
    model = wild(HEADS[name]((9, 7)))
    new = equivariant(model, axes, width=2 ** len(axes), init="average")
    x, total = pictures(model), 0
    model.layers[-1].activation = new.layers[-1].activation = keras.activations.linear
    for number in range(2 ** len(axes)):
        flipped = [{"h": 2, "v": 1}[letter] for bit, letter in enumerate(axes) if number >> bit & 1]
        total = total + answers(model, np.flip(x, flipped))[0] / 2 ** len(axes)
    np.testing.assert_allclose(answers(new, x)[0], total, rtol=0, atol=100 * TIGHT * np.abs(total).max())


def test_orbits_start_from_what_stood_where_their_representatives_stand():
    model = wild(vgg())
    new = equivariant(model, "h", measure=False)
    old, made = (next(layer for layer in one.layers if isinstance(layer, layers.Dense)) for one in (model, new))
    first = ops.convert_to_numpy(old.kernel)[:, ::2]
    np.testing.assert_array_equal(ops.convert_to_numpy(made.kernel), first)
    model = wild(mnist())
    made = equivariant(model, "h", measure=False).layers[-1]
    first = ops.convert_to_numpy(model.layers[-1].kernel).reshape(3, 3, 8, 3)[:, :, ::2].reshape(-1, 3)
    np.testing.assert_array_equal(ops.convert_to_numpy(made.kernel), first)


@pytest.mark.parametrize("axis", [-1, 0])
@pytest.mark.parametrize("out", [False, True])
def test_it_is_a_convolution_with_a_kernel_as_large_as_the_map(out, axis):
    symmetry = {"hv": 4, "h": 2} if out else None
    how = {"symmetry": symmetry, "in_symmetry": {"hv": 8}}
    shape = (5, 4, 8) if axis == -1 else (8, 5, 4)
    flat = FlatDense(7, shape=shape, axis=axis, activation="tanh", **how, **EXACT)
    more = {"in_symmetry": {"hv": 8}, "activation": "tanh", "data_format": "channels_last", **EXACT}
    conv = (
        ours.SymmetricConv2D(7, (5, 4), symmetry=symmetry, **more) if out else ours.InvariantConv2D(7, (5, 4), **more)
    )
    x = np.random.RandomState(0).standard_normal((2, 5, 4, 8))
    seen = ops.convert_to_tensor(np.moveaxis(x, -1, 1) if axis == 0 else x)
    flat(ops.reshape(seen, (2, -1)))
    conv(x)
    wild(keras.Sequential([conv]))
    kernel = ops.convert_to_numpy(conv.kernel)
    kernel = np.moveaxis(kernel, 2, 0) if axis == 0 else kernel
    flat.kernel.assign(kernel.reshape(flat.kernel.shape))
    flat.bias.assign(conv.bias)
    found, expected = (
        ops.convert_to_numpy(ops.stop_gradient(one)) for one in (flat(ops.reshape(seen, (2, -1))), conv(x)[:, 0, 0])
    )
    np.testing.assert_allclose(found, expected, rtol=0, atol=TIGHT)
    assert flat.count_params() == conv.count_params()
    whole = ops.convert_to_numpy(conv.full_kernel())  # numbers are moved, and never round
    whole = np.moveaxis(whole, 2, 0) if axis == 0 else whole
    np.testing.assert_array_equal(ops.convert_to_numpy(flat.full_kernel()), whole.reshape(-1, 7))


def test_channels_may_stand_first():
    if BACKEND == "tensorflow":
        pytest.skip("TensorFlow has no other than channels-last on the CPU")
    for flatten in ("channels_first", "channels_last"):
        more = {"data_format": "channels_first", **EXACT}
        steps = [layers.Conv2D(8, 3, **more), layers.Flatten(flatten, **EXACT), layers.Dense(8, **EXACT)]
        model = keras.Sequential([layers.Input((2, 9, 8), **EXACT), *steps, layers.Dense(2, **EXACT)])
        new = wild(equivariant(model, "hv"))
        assert max(breach(new, pictures(model), letter, True) for letter in "hv") < TIGHT
        alike(desymmetrize(new), new, pictures(model))


def test_volumes_and_signals_are_flattened_too():
    volume = keras.Sequential([layers.Input((4, 5, 6, 1), **EXACT), layers.Conv3D(8, 3, **EXACT),
                               layers.Flatten(**EXACT), layers.Dense(3, **EXACT)])  # fmt: skip
    new, x = wild(equivariant(volume, "hvz")), pictures(volume)
    for axis in (1, 2, 3):
        np.testing.assert_allclose(answers(new, np.flip(x, axis))[0], answers(new, x)[0], atol=100 * TIGHT)
    signal = keras.Sequential([layers.Input((9, 2), **EXACT), layers.Conv1D(8, 3, **EXACT),
                               layers.Flatten(**EXACT), layers.Dense(3, **EXACT)])  # fmt: skip
    new, x = wild(equivariant(signal, "h")), pictures(signal)
    np.testing.assert_allclose(answers(new, np.flip(x, 1))[0], answers(new, x)[0], atol=100 * TIGHT)


def test_maps_of_other_sizes_are_refused():
    layer = FlatDense(4, shape=(3, 3, 4), axis=-1, symmetry=None, in_symmetry={"h": 4})
    with pytest.raises(SymmetryError) as refusal:
        layer.build((None, 40))
    assert str(refusal.value) == (
        "shape: (3, 3, 4) does not make 40 features. Expected the sizes of the map that was flattened, which multiply "
        "to these. Pass those."
    )
