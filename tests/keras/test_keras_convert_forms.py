"""What whole models may look like, what of them is kept or refused, and the ordinary forms of all layers."""

import keras
import networks_keras
import numpy as np
import pytest
from converted_keras import SMALL, alike, errors, pictures, wild
from keras import layers

import symmetric_layers.keras as ours
from symmetric_layers import SymmetryError
from symmetric_layers.keras import desymmetrize, equivariance_error, equivariant

BACKEND = keras.backend.backend()
EXACT = {"dtype": "float64"}

TRANSPOSED = [
    {"kernel_size": 3, "strides": 2, "padding": "same"},
    {"kernel_size": 2, "strides": 3, "padding": "valid"},
    {"kernel_size": 1, "strides": 3, "padding": "same"},
    {"kernel_size": (3, 2), "strides": 2, "padding": "valid", "output_padding": 1},
    {"kernel_size": (3, 4), "strides": 2, "padding": "same", "output_padding": 1},
    {"kernel_size": 3, "dilation_rate": 2, "padding": "same"},
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


def test_sizes_may_be_open():
    model = networks_keras.unet((None, None))
    with pytest.raises(SymmetryError) as refusal:
        equivariant(model, "h")
    assert str(refusal.value) == (
        "example: None does not say at which size the model is to be measured, whose input is (None, None, None, 1). "
        "Expected pictures. Pass some of a usual size, or measure=False."
    )
    new = wild(equivariant(model, "h", example=np.zeros((1, 8, 12, 1))))
    for size in ((8, 12), (12, 20)):
        found = equivariance_error(new, np.random.RandomState(0).standard_normal((1, *size, 1)), "h")
        assert max(row.relative for row in found) < SMALL


def test_channels_may_come_first():
    if BACKEND == "tensorflow":
        pytest.skip("TensorFlow has no other than channels-last on the CPU")
    more = {"data_format": "channels_first", "dtype": "float64"}
    model = keras.Sequential(
        [
            layers.Input((1, 9, 8), dtype="float64"),
            layers.Conv2D(8, 3, strides=2, **more),
            layers.BatchNormalization(axis=1, **EXACT),
            layers.PReLU(shared_axes=[2, 3], **EXACT),
            layers.MaxPooling2D(2, **more),
            layers.Conv2D(2, 1, **more),
        ]
    )
    new = wild(equivariant(model, "hv"))
    assert max(errors(new, "hv", data_format="channels_first")) < SMALL
    alike(desymmetrize(keras.Sequential([new.inputs[0], *new.layers[:3]])), keras.Sequential(
        [new.inputs[0], *new.layers[:3]]), pictures(new))  # fmt: skip


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
    new = equivariant(keras.Sequential(outer), "h", keep=keep)
    assert tuple(type(layer) for layer in [new.layers[0], *new.get_layer("inner").layers]) == sorts


REFUSED = [
    ("Flatten", lambda x: layers.Dense(8)(layers.Flatten()(layers.Conv2D(4, 3)(x))), "has mixed with positions"),
    ("orbits", lambda x: layers.Conv2D(2, 1)(layers.Conv2D(5, 3)(x)), "has 5 output channels, which are no whole"),
    ("alone", lambda x: layers.Conv2D(4, 3)(x), "reads a picture and gives an answer, with no orbits between"),
    ("weights", lambda x: layers.Conv2D(2, 1)(layers.UnitNormalization()(layers.SpectralNormalization(
        layers.Conv2D(4, 3))(layers.Conv2D(4, 3)(x)))), "has weights for orbits of channels, and no form"),
    ("concatenated", lambda x: layers.Conv2D(2, 1)(layers.Concatenate()([x, layers.Conv2D(
        4, 3, padding="same")(x)])), "concatenates an input of the model with channels of layers"),
    ("multiplier", lambda x: layers.Conv2D(2, 1)(layers.DepthwiseConv2D(3, depth_multiplier=2)(layers.Conv2D(
        4, 3)(x))), "makes 2 channels of each one"),
    ("depthwise", lambda x: layers.Conv2D(2, 1)(layers.Conv2D(4, 1)(layers.DepthwiseConv2D(3)(x))),
     "reads a picture channel by channel"),
    ("slopes", lambda x: layers.Conv2D(2, 1)(layers.PReLU()(layers.Conv2D(4, 3)(x))), "has slopes for each position"),
    ("breach", lambda x: layers.Conv2D(2, 1)(layers.Conv2D(4, 3)(x)[:, :, 1:]), "the converted network breaks the law"),
    ("no convolution", lambda x: layers.Dense(3)(layers.GlobalMaxPooling2D()(x)), "no convolution is in it"),
    ("ours", lambda x: layers.Conv2D(2, 1)(ours.SymmetricConv2D(4, 3, symmetry={"h": 4})(x)),
     "is a layer of this package already"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "build", "reason"), REFUSED, ids=[row[0] for row in REFUSED])
def test_what_cannot_obey_is_refused_with_a_name_and_a_way_out(name, build, reason):
    x = layers.Input((8, 9, 3))
    with pytest.raises(SymmetryError) as refusal:
        equivariant(keras.Model(x, build(x)), "h")
    assert reason in str(refusal.value)
    assert str(refusal.value).count("Expected") == 1
