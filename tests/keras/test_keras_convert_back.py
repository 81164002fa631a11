"""The ordinary forms of layers on mirrored grids, of pools and of transposed layers."""

import keras
import networks_keras
import numpy as np
import pytest
from converted_keras import alike, answers, pictures, wild
from keras import layers, ops

import symmetric_layers.keras as ours
from symmetric_layers import SymmetryError
from symmetric_layers.keras import desymmetrize, equivariant

BACKEND = keras.backend.backend()
EXACT = {"dtype": "float64"}

TRANSPOSED = [
    {"kernel_size": 3, "strides": 2, "padding": "same"},
    {"kernel_size": 2, "strides": 3, "padding": "valid"},
    {"kernel_size": 1, "strides": 3, "padding": "same"},
    {"kernel_size": (3, 2), "strides": 2, "padding": "valid", "output_padding": 1},
    {"kernel_size": (3, 4), "strides": 2, "padding": "same", "output_padding": 1},
    *([{"kernel_size": 3, "dilation_rate": 2, "padding": "same"}] if BACKEND != "tensorflow" else []),  # has none
]


@pytest.mark.parametrize("how", TRANSPOSED, ids=str)
@pytest.mark.parametrize("sort", ["symmetric", "invariant"])
def test_transposed_layers_have_an_ordinary_form(sort, how):
    if sort == "symmetric":
        layer = ours.SymmetricConv2DTranspose(8, symmetry={"h": 4, "hv": 4}, grid="mirrored", **how, **EXACT)
    else:
        layer = ours.InvariantConv2DTranspose(3, in_symmetry={"hv": 8}, **how, **EXACT)
    model = wild(keras.Sequential([layers.Input((5, 6, 8), dtype="float64"), layer]))
    alike(desymmetrize(model), model, pictures(model))


CONVOLUTIONS = [
    {"kernel_size": 3, "strides": 2, "padding": "same"},
    {"kernel_size": (2, 3), "padding": "same"},
    {"kernel_size": (3, 4), "strides": (2, 3), "padding": "valid"},
    {"kernel_size": (2, 3), "dilation_rate": (1, 2), "padding": "same", "groups": 2},
]


@pytest.mark.parametrize("how", CONVOLUTIONS, ids=str)
@pytest.mark.parametrize("sort", ["symmetric", "invariant"])
def test_convolutions_on_mirrored_grids_have_an_ordinary_form(sort, how):
    if sort == "symmetric":
        bank = {"h": 8, "hv": 8}
        layer = ours.SymmetricConv2D(16, symmetry=bank, in_symmetry={"hv": 8}, grid="mirrored", **how, **EXACT)
    else:
        layer = ours.InvariantConv2D(4, in_symmetry={"hv": 8}, **how, **EXACT)
    for size in ((8, 9), (9, 8)):
        again = type(layer).from_config(layer.get_config())
        model = wild(keras.Sequential([layers.Input((*size, 8), dtype="float64"), again]))
        alike(desymmetrize(model), model, pictures(model))


def test_pools_have_an_ordinary_form_where_they_fit():
    new = wild(equivariant(networks_keras.classifier((13, 11)), "hv", measure=False))
    alike(desymmetrize(new), new, pictures(new))
    crooked = equivariant(networks_keras.classifier(), "hv", measure=False)
    with pytest.raises(SymmetryError) as refusal:
        desymmetrize(crooked)
    assert str(refusal.value) == (
        "model: 'max_pooling2d', a MaxPooling2D in the mirror, has no ordinary form at pictures of (12, 10). Expected "
        "sizes at which it is its own mirror image. Make the model for such a size."
    ).replace("'max_pooling2d'", repr(crooked.layers[3].name))


@pytest.fixture
def _in_double():
    before = keras.config.floatx()
    keras.config.set_floatx("float64")
    yield
    keras.config.set_floatx(before)


@pytest.mark.usefixtures("_in_double")
def test_where_all_is_double_transposed_layers_have_an_ordinary_form_too():
    steps = [layers.Conv2D(8, 3), layers.Conv2DTranspose(8, 3, strides=2), layers.Conv2D(2, 3)]
    new = wild(equivariant(keras.Sequential([layers.Input((6, 7, 2)), *steps]), "hv"))
    alike(desymmetrize(new), new, pictures(new))


def adapted():
    steps = [layers.Conv2D(8, 3, name="first"), layers.GlobalAveragePooling2D(), layers.Dense(4, name="hidden")]
    model = keras.Sequential([layers.Input((9, 8, 2)), *steps, layers.Dense(2, name="last")])
    return equivariant(model, "h", measure=False)


@pytest.mark.parametrize("name", ["first", "hidden", "last"])
def test_what_is_adapted_is_merged_into_the_ordinary_kernels(name):
    new = wild(adapted())
    before = answers(new, pictures(new))[0]
    layer = new.get_layer(name)
    layer.enable_lora(2)
    layer.lora_kernel_b.assign(ops.ones(layer.lora_kernel_b.shape))
    plain = desymmetrize(new)
    alike(plain, new, pictures(new))
    assert np.abs(answers(plain, pictures(new))[0] - before).max() > 1e-3
    assert not plain.get_layer(name).lora_enabled


def test_signals_are_spread_out_by_ordinary_layers_too():
    more = {"padding": "same", "data_format": "channels_last", **EXACT}
    spread = layers.Conv1DTranspose(4, 3, strides=2, **more)
    model = keras.Sequential([layers.Input((9, 2), dtype="float64"), layers.Conv1D(4, 3, **more), spread,
                              layers.Conv1D(2, 1, **more)])  # fmt: skip
    new = wild(equivariant(model, "h"))
    alike(desymmetrize(new), new, pictures(new))
