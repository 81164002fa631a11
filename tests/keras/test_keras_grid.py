"""The mirrored grid: the law at every size, and depthwise layers whose groups are exchanged."""

import itertools
import zlib

import keras
import numpy as np
import pytest
from contract import law_error
from keras import ops
from keras_face import BACKEND, compiled, gradients

import symmetric_layers.keras as layers
from symmetric_layers import SymmetryError

BANKS = {  # symmetry, in_symmetry, channels, groups
    "mixed": ({"h": 4, "v": 4, "hv": 4}, None, 3, 1),
    "deep": ({"h": 8, "hv": 8}, {"hv": 8}, 8, 1),
    "groups": ({"h": 8, "hv": 8}, {"hv": 8}, 8, 2),
    "depthwise": ({"hv": 8}, {"hv": 8}, 16, 16),
}
GEOMETRIES = [
    {"kernel_size": 3, "strides": 2, "padding": "same"},
    {"kernel_size": (2, 3), "padding": "same"},
    {"kernel_size": (3, 4), "strides": (2, 3), "padding": "valid"},
    {"kernel_size": (2, 3), "dilation_rate": (1, 2), "padding": "same"},
]
TRANSPOSED = [
    {"kernel_size": 3, "strides": 2, "padding": "same"},
    {"kernel_size": 2, "strides": 3, "padding": "valid"},
    {"kernel_size": 1, "strides": 3, "padding": "same"},
    {"kernel_size": (3, 2), "strides": 2, "padding": "valid", "output_padding": 1},
]
EXACT = {"dtype": "float64", "bias_initializer": "normal"}


def formats(*what):
    """One or the other, so that both occur; TensorFlow has no other than channels-last on the CPU."""
    return ("channels_last", "channels_first")[BACKEND != "tensorflow" and zlib.crc32(repr(what).encode()) % 2]


def numbers(x):
    return ops.convert_to_numpy(ops.stop_gradient(ops.convert_to_tensor(x)))


def called(layer, x):
    """The answer; arrays as in PyTorch."""
    last = layer.data_format == "channels_last"
    given = np.ascontiguousarray(np.moveaxis(x, 1, -1) if last else x)
    if not layer.built:
        layer.build(given.shape)
    y = numbers(compiled(layer)(given))
    return np.moveaxis(y, -1, 1) if last else y


def error(layer, *arguments):
    """The largest deviation from the law."""
    return law_error(lambda x: called(layer, x), *arguments)


def picture(channels, *positions):
    return np.random.RandomState(0).standard_normal((2, channels, *positions))


PAIRS = [*itertools.product(BANKS, GEOMETRIES)]


@pytest.mark.parametrize(("name", "how"), PAIRS if BACKEND == "torch" else PAIRS[::2])  # others compile each
def test_the_law_holds_at_every_size(name, how, tolerance):
    symmetry, in_symmetry, channels, groups = BANKS[name]
    more = {"symmetry": symmetry, "in_symmetry": in_symmetry, "groups": groups, "data_format": formats(name, how)}
    more = {**more, **how, **EXACT}
    mirrored, shared = layers.SymmetricConv2D(16, grid="mirrored", **more), layers.SymmetricConv2D(16, **more)
    banks, broken = 1 if name == "depthwise" else groups, []
    for positions in ((8, 9), (9, 8)):
        x = picture(channels, *positions)
        assert error(mirrored, symmetry, in_symmetry, x, banks) <= tolerance["float64"]
        called(shared, x)  # which builds it
        shared.set_weights(mirrored.get_weights())
        broken.append(error(shared, symmetry, in_symmetry, x, banks) > 1e-3)
        first = [o.members[0] for o in mirrored.plan.orbits] + list(mirrored.plan.free)
        np.testing.assert_allclose(called(mirrored, x)[:, first], called(shared, x)[:, first], atol=1e-12)
    assert any(broken)


@pytest.mark.parametrize("how", TRANSPOSED, ids=str)
@pytest.mark.parametrize("name", ["mixed", "deep"])
def test_the_law_holds_for_every_transposed_layer(name, how, tolerance):
    symmetry, in_symmetry, channels, _ = BANKS[name]
    more = {"symmetry": symmetry, "in_symmetry": in_symmetry, "data_format": formats(name, how), **how, **EXACT}
    x = picture(channels, 5, 6)
    mirrored = layers.SymmetricConv2DTranspose(16, grid="mirrored", **more)
    assert error(mirrored, symmetry, in_symmetry, x) <= tolerance["float64"]
    assert error(layers.SymmetricConv2DTranspose(16, **more), symmetry, in_symmetry, x) > 1e-3


def test_volumes_and_lines_obey(tolerance):
    bank = {"vz": 4, "hvz": 8}
    layer = layers.SymmetricConv3D(16, (3, 3, 2), 2, symmetry=bank, in_symmetry={"hvz": 8}, grid="mirrored", **EXACT)
    for positions in ((6, 7, 6), (7, 6, 7)):
        assert error(layer, bank, {"hvz": 8}, picture(8, *positions)) <= tolerance["float64"]
    for kernel, stride in ((3, 1), (1, 2)):
        more = {"symmetry": {"h": 4}, "grid": "mirrored", **EXACT}
        causal = layers.SymmetricConv1D(6, kernel, stride, "causal", **more)
        assert error(causal, {"h": 4}, None, picture(3, 8)) <= tolerance["float64"]


def test_where_the_geometry_fits_both_grids_are_the_same():
    more = {"symmetry": {"h": 4, "hv": 8}, "bias_initializer": "normal"}
    shared, mirrored = (layers.SymmetricConv2D(16, 3, 2, grid=grid, **more) for grid in ("shared", "mirrored"))
    x = np.moveaxis(picture(3, 9, 7), 1, -1).astype("float32")
    mirrored(x)
    shared(x)
    shared.set_weights(mirrored.get_weights())
    np.testing.assert_array_equal(numbers(shared(x)), numbers(mirrored(x)))


def test_gradients_arrive_from_the_mirror(tolerance):
    layer = layers.SymmetricConv2D(8, 3, 2, symmetry={"hv": 8}, in_symmetry={"hv": 4}, grid="mirrored", **EXACT)
    x = np.moveaxis(picture(4, 8, 9), 1, -1)
    g = np.random.RandomState(1).standard_normal(tuple(layer(x).shape))
    of_x, (of_kernel, of_bias) = gradients(layer, x, g)
    direction = np.random.RandomState(2).standard_normal(x.shape)
    np.testing.assert_allclose(
        (of_x * direction).sum(), ((numbers(layer(direction)) - numbers(layer(0 * x))) * g).sum()
    )
    kernel = numbers(layer.kernel.value)
    moved = np.random.RandomState(3).standard_normal(kernel.shape)
    before = numbers(layer(x))
    layer.kernel.assign(kernel + moved)
    np.testing.assert_allclose((of_kernel * moved).sum(), ((numbers(layer(x)) - before) * g).sum())
    np.testing.assert_allclose(of_bias, g.reshape(-1, 2, 4).sum((0, 2)))


def test_unknown_sizes_are_seen_in_the_mirror_and_saved(tmp_path):
    inputs = keras.Input((None, None, 3))
    layer = layers.SymmetricConv2D(8, 3, 2, "same", symmetry={"hv": 8}, grid="mirrored")
    model = keras.Model(inputs, layer(inputs))
    assert model.output_shape == (None, None, None, 8)
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    assert again.layers[-1].grid == "mirrored"
    for positions in ((8, 9), (6, 7)):
        x = np.moveaxis(picture(3, *positions), 1, -1).astype("float32")
        answer = numbers(again(x))
        np.testing.assert_array_equal(answer, numbers(model(x)))
        flipped = numbers(model(np.ascontiguousarray(x[:, :, ::-1])))
        np.testing.assert_allclose(flipped[..., [1, 0, 3, 2, 5, 4, 7, 6]], answer[:, :, ::-1], atol=1e-5)


def test_a_depthwise_layer_has_one_symmetry_and_as_many_channels():
    layer = layers.SymmetricConv2D(8, 3, groups=8, symmetry={"hv": 8}, in_symmetry={"hv": 8})
    layer.build((None, 6, 6, 8))
    assert tuple(layer.kernel.shape) == (3, 3, 1, 2)
    assert tuple(layer.full_kernel().shape) == (3, 3, 1, 8)
    with pytest.raises(SymmetryError) as refusal:
        layers.SymmetricConv2D(8, 3, groups=8, symmetry={"h": 4}, in_symmetry={"h": 8})
    assert str(refusal.value) == (
        "in_symmetry: {'h': 8} is not the symmetry {'h': 4} of a depthwise layer. Expected both to be the same. "
        "Use one of them for both."
    )
    layers.SymmetricConv2D(8, 3, groups=8, in_symmetry={"h": 16}).build((None, 6, 6, 16))  # nothing is mirrored
    with pytest.raises(SymmetryError) as refusal:
        layers.SymmetricConv2D(8, 3, groups=8, symmetry={"h": 8}, in_symmetry={"h": 8}).build((None, 6, 6, 16))
    assert str(refusal.value) == (
        "symmetry: 'h': 8 does not fit 8 filters in 8 groups. Expected a multiple of 16 (the size of one 'h' orbit "
        "times 8 groups), at most 8. Use such a number, or a percentage, which rounds down to whole orbits."
    )


def test_an_unknown_grid_is_refused():
    for name in ("SymmetricConv2D", "SymmetricConv2DTranspose"):
        with pytest.raises(SymmetryError) as refusal:
            getattr(layers, name)(2, 3, grid="own")
        assert str(refusal.value) == (
            "grid: 'own' is no choice here. Expected 'shared' or 'mirrored'. Use one of these."
        )
