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


def pictures_by_name():
    """Two pictures whose names are in another order than the alphabet's, into a block that takes them so, too."""
    one, other = (
        layers.Input(size, dtype="float64", name=name) for size, name in (((9, 8, 3), "zz"), ((7, 6, 2), "aa"))
    )
    more = {"activation": "relu", "dtype": "float64"}
    first, second = layers.Conv2D(8, 3, padding="same", **more)(one), layers.Conv2D(4, 3, **more)(other)
    inner = {"b": layers.Input((9, 8, 8), dtype="float64", name="b"),
             "a": layers.Input((4,), dtype="float64", name="a"),
             "c": layers.Input((9, 8, 3), dtype="float64", name="c")}  # fmt: skip
    joined = layers.Conv2D(4, 3, padding="same", **more)(inner["b"]) + layers.Reshape((1, 1, 4), dtype="float64")(
        inner["a"]
    )
    block = keras.Model(inner, joined * layers.Conv2D(4, 1, **more)(inner["c"]))
    vector = layers.GlobalAveragePooling2D(dtype="float64")(second)
    x = block({"b": first, "a": vector, "c": one})
    return keras.Model({"zz": one, "aa": other}, layers.Conv2D(2, 1, dtype="float64")(x))


@pytest.mark.parametrize("how", [{}, {"width": 3}, {"width": 2, "init": "average"}], ids=str)
def test_inputs_have_names_in_any_order(how):
    model = wild(pictures_by_name())
    new = equivariant(model, "h", **how)
    assert {name: tensor.shape for name, tensor in new.input.items()} == {"zz": (None, 9, 8, 3), "aa": (None, 7, 6, 2)}
    given = {"zz": np.random.RandomState(0).standard_normal((1, 9, 8, 3)), "aa": np.ones((1, 7, 6, 2))}
    mirrored = {name: np.flip(x, 2) for name, x in given.items()}
    one, other = (ops.convert_to_numpy(ops.stop_gradient(wild(new)(x))) for x in (given, mirrored))
    np.testing.assert_allclose(other, np.flip(one, 2), atol=SMALL * np.abs(one).max())


def test_answers_that_are_read_on_keep_their_activations():
    start = layers.Input((9, 8, 3), dtype="float64")
    x = layers.GlobalAveragePooling2D(dtype="float64")(layers.Conv2D(4, 3, activation="relu", dtype="float64")(start))
    first = layers.Dense(5, activation="tanh", dtype="float64")(x)
    model = wild(keras.Model(start, [first, layers.Dense(2, dtype="float64")(first)]))
    with pytest.raises(SymmetryError, match=r"^init: 'average' is off by"):
        equivariant(model, "h", width=2, init="average")


@pytest.mark.parametrize("end", ["a layer", "in a model"])
def test_a_last_softmax_may_be_a_layer_or_stand_in_a_model(end):
    more = {"dtype": "float64"}
    head = [layers.GlobalAveragePooling2D(**more), layers.Dense(3, **more), layers.Softmax(**more)]
    if end == "in a model":
        head = [keras.Sequential([layers.Input((7, 6, 4), **more), head[0], layers.Dense(3, "softmax", **more)])]
    model = wild(keras.Sequential([layers.Input((9, 8, 1), **more), layers.Conv2D(4, 3, **more), *head]))
    new = equivariant(model, "h", width=2, init="average")
    assert np.abs(answers(new, pictures(model))[0].sum(-1) - 1).max() < SMALL


@pytest.mark.parametrize(
    "layer", [layers.Conv2DTranspose(1, 2, strides=2), layers.Conv2D(1, 1)], ids=lambda one: one.name
)
def test_one_channel_is_no_depthwise_layer(layer):
    chain = [layers.Conv2D(4, 3), layer, layers.Conv2D(4, 1), layers.Conv2D(2, 3)]
    new = equivariant(keras.Sequential([layers.Input((9, 8, 1)), *chain]), "h", width=2)
    assert getattr(new.layers[1], "groups", 1) == 1
    assert new.layers[1].filters == 2


def test_in_half_precision_the_average_is_measured_in_double():
    chain = [layers.Conv2D(8, 3), layers.SeparableConv2D(8, 3), layers.GlobalAveragePooling2D(), layers.Dense(2)]
    for layer in chain:
        layer.dtype_policy = "mixed_bfloat16"
    chain = [type(layer).from_config(layer.get_config()) for layer in chain]
    model = wild(keras.Sequential([layers.Input((9, 8, 1)), *chain]))
    new = equivariant(model, "h", width=2, init="average")
    assert {new.layers[place].compute_dtype for place in (0, 2, 3)} == {"bfloat16"}


@pytest.mark.parametrize("groups", [-1, 8])
def test_a_norm_of_every_channel_by_itself_stays_one(groups):
    norm = layers.GroupNormalization(groups, scale=False, center=groups == 8)
    chain = [layers.Conv2D(8, 3), norm, layers.Conv2D(2, 3)]
    model = keras.Sequential([layers.Input((9, 8, 1)), *chain])
    new = equivariant(model, "h", width=3)
    assert new.layers[1].groups == 24
    equivariant(model, "h", width=2, init="average")


def test_what_cannot_be_kept_is_said_once_about_the_line_that_asks():
    model = keras.Sequential([layers.Input((9, 8, 1)), layers.Conv2D(8, 3), layers.Conv2D(2, 3)])

    def loss(y, z):
        return ops.mean(y - z)

    model.compile(loss=loss)
    with pytest.warns(UserWarning, match="is not compiled like the old one") as said:
        equivariant(model, "h", width="parameters")
    places = [warning.filename for warning in said if "is not compiled" in str(warning.message)]
    assert places == [__file__]


def test_reshapes_that_leave_channels_open_stay():
    start = layers.Input((9, 8, 1))
    x = layers.Reshape((1, 1, -1))(layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(start)))
    new = equivariant(keras.Model(start, layers.Conv2D(2, 1)(layers.Conv2D(4, 1)(x))), "h", width=3)
    assert new.layers[3].target_shape[-1] in (-1, 12)
