"""Networks that are told something beside the picture: time, words, a class; and gates that pick channels."""

import keras
import numpy as np
import pytest
from converted_keras import alike_on, answers, precision, wild
from keras import layers, ops

from symmetric_layers import SymmetryError
from symmetric_layers.keras import desymmetrize, equivariant

EXACT = {"dtype": "float64"}
CONV = {"padding": "same", "dtype": "float64"}
RANDOM = np.random.RandomState(5)
SIZES = {"picture": (8, 8, 3), "time": (12,), "words": (7, 24), "label": (), "labels": (1,)}


def given(*names):
    types = [("int32" if name.startswith("label") else "float64") for name in names]
    return [layers.Input(SIZES[name], dtype=sort, name=name) for name, sort in zip(names, types, strict=True)]


def drawn(model):
    """Numbers for all inputs; of labels, such as are known."""
    shapes = [(2, *tensor.shape[1:]) for tensor in model.inputs]
    draw = {"int32": lambda shape: RANDOM.randint(0, 10, shape), "float64": RANDOM.standard_normal}
    return [draw[tensor.dtype](shape) for tensor, shape in zip(model.inputs, shapes, strict=True)]


def obeys(new, axes):
    """The answer mirrors with the picture alone, which is the first input, and is not the same in the mirror."""
    picture, *told = drawn(new)
    (seen,) = answers(new, [picture, *told])
    for axis in {"h": (2,), "hv": (1, 2)}[axes]:
        (turned,) = answers(new, [np.flip(picture, axis), *told])
        np.testing.assert_allclose(
            turned, np.flip(seen, axis), rtol=0, atol=precision(new) * max(1, np.abs(seen).max())
        )
    assert np.abs(answers(new, [picture, *drawn(new)[1:]])[0] - seen).max() > 1e-6 or not told


def asking(x, words, how):
    """Positions of a picture that ask a text."""
    sequence = ops.reshape(x, (-1, 16, 8))
    normed = layers.LayerNormalization(**EXACT)(sequence)
    if how == "layer":
        return ops.reshape(sequence + layers.MultiHeadAttention(2, 4, **EXACT)(normed, words), (-1, 4, 4, 8))
    query, key, value = (layers.Dense(8, **EXACT)(one) for one in (normed, words, words))
    if how == "products":
        weights = ops.softmax(ops.matmul(query, ops.transpose(key, (0, 2, 1))) / 8**0.5)
        found = ops.matmul(weights, value)
    else:
        found = layers.Attention(**EXACT)([query, value, key])
    return ops.reshape(sequence + layers.Dense(8, **EXACT)(found), (-1, 4, 4, 8))


def unet():
    """As diffusion has them: time is added, words are asked, the bottleneck attends to itself."""
    picture, time, words = given("picture", "time", "words")
    told = layers.Dense(8, activation="swish", **EXACT)(layers.Dense(8, activation="swish", **EXACT)(time))

    def block(x):
        y = layers.Conv2D(8, 3, **CONV)(ops.silu(layers.GroupNormalization(2, **EXACT)(x)))
        return x + y + layers.Dense(8, **EXACT)(told)[:, None, None, :]

    first = block(layers.Conv2D(8, 3, **CONV)(picture))
    x = asking(block(layers.Conv2D(8, 3, strides=2, **CONV)(first)), words, "layer")
    x = x + layers.MultiHeadAttention(2, 4, attention_axes=(1, 2), **EXACT)(x, x)
    x = layers.Concatenate(**EXACT)([layers.UpSampling2D(**EXACT)(x), first])
    x = layers.Conv2D(8, 3, activation="swish", **CONV)(x)
    return keras.Model([picture, time, words], layers.Conv2D(3, 3, **CONV)(x))


def test_a_conditional_unet_mirrors_with_its_picture():
    model = wild(unet())
    new = wild(equivariant(model, "hv", measure=False))
    obeys(new, "hv")
    assert new.count_params() < model.count_params() * 0.32
    alike_on(desymmetrize(new), new, drawn(new))


@pytest.mark.parametrize("how", ["layer", "products", "Attention"])
def test_pictures_that_ask_a_text_are_measured(how):
    picture, words = given("picture", "words")
    x = asking(layers.Conv2D(8, 3, strides=2, **CONV)(picture), words, how)
    obeys(wild(equivariant(keras.Model([picture, words], layers.Conv2D(3, 3, **CONV)(x)), "h")), "h")


def labelled(*behind, added=True, channels=8):
    """A class, looked up and brought to a picture."""
    picture, label = given("picture", "label")
    said = layers.Embedding(10, channels, name="said", **EXACT)(label)
    for layer in behind:
        said = layer(said)
    x = layers.Conv2D(8, 3, name="first", **CONV)(picture)
    x = x + said[:, None, None, :] if added else x * said[:, None, None, :]
    return keras.Model([picture, label], layers.Conv2D(3, 3, **CONV)(ops.relu(x)))


STORED = [
    ("added", lambda: labelled(), (10, 2)),
    ("bent before", lambda: labelled(layers.Activation("silu", **EXACT)), (10, 2)),
    ("multiplied", lambda: labelled(added=False), (10, 2)),
    ("behind a layer", lambda: labelled(layers.Dense(8, **EXACT), channels=5), (10, 5)),
    ("one for all", lambda: labelled(added=False, channels=1), (10, 1)),
]


@pytest.mark.parametrize(("name", "make", "shape"), STORED, ids=[row[0] for row in STORED])
@pytest.mark.parametrize("width", [1, 2])
def test_what_is_looked_up_and_added_to_orbits_is_stored_once_for_each(name, make, shape, width):
    model = wild(make())
    new = equivariant(model, "hv", width=width, measure=name == "added")
    wider = width if shape[1] == 2 else 1
    assert tuple(new.get_layer("said").embeddings.shape) == (shape[0], shape[1] * wider)
    kept = ops.convert_to_numpy(model.get_layer("said").embeddings)[:, :: 4 // wider][:, : shape[1] * wider]
    if shape[1] == 2:
        np.testing.assert_array_equal(ops.convert_to_numpy(new.get_layer("said").embeddings), kept)
    obeys(wild(new), "hv")
    alike_on(desymmetrize(new), new, drawn(new))


def test_it_starts_as_the_average_of_the_old_network():
    model = wild(labelled())
    new = equivariant(model, "hv", width=4, init="average")
    picture, label = drawn(model)
    mirrors = [(), (1,), (2,), (1, 2)]
    total = sum(np.flip(answers(model, [np.flip(picture, axes), label])[0], axes) for axes in mirrors)
    np.testing.assert_allclose(answers(new, [picture, label])[0], total / 4, rtol=0, atol=1e-12)


def test_what_is_looked_up_for_words_alone_stays_ordinary():
    picture, label = given("picture", "labels")
    words = layers.Embedding(10, 6, name="said", **EXACT)(label)
    words = words + layers.Dense(6, name="hidden", **EXACT)(words)
    asked = layers.MultiHeadAttention(2, 3, name="reader", **EXACT)(words, words)
    x = layers.Conv2D(8, 3, **CONV)(picture)
    x = x + layers.MultiHeadAttention(2, 4, **EXACT)(layers.Reshape((64, 8))(x), asked)[:, :1, None]
    model = keras.Model([picture, label], layers.Conv2D(3, 3, **CONV)(x))
    new = equivariant(model, "h", measure=False)
    assert tuple(new.get_layer("said").embeddings.shape) == (10, 6)
    assert type(new.get_layer("hidden")) is layers.Dense
    assert tuple(new.get_layer("reader").query_dense.kernel.shape) == (6, 2, 3)


def test_columns_that_are_no_whole_orbits_are_refused():
    picture, label = given("picture", "labels")
    said = ops.tile(layers.Embedding(10, 3, name="said", **EXACT)(label)[:, None], (1, 8, 8, 1))
    x = layers.Concatenate(**EXACT)([layers.Conv2D(8, 3, **CONV)(picture), said])
    with pytest.raises(SymmetryError) as refusal:
        equivariant(keras.Model([picture, label], layers.Conv2D(3, 3, **CONV)(x)), "h")
    assert str(refusal.value) == (
        "model: 'said' has 3 output channels, which are no whole orbits of 'h'. Expected a multiple of 2. Use such a "
        "number, or keep that part ordinary with keep."
    )


PICKS = {
    "slices": lambda w: (w[..., 0:1], w[..., 1:2]),
    "numbers": lambda w: (w[..., 0, None], w[..., 1, None]),
    "split": lambda w: ops.split(w, 2, axis=-1),
    "taken": lambda w: (ops.take(w, [0], axis=-1), ops.take(w, [1], axis=-1)),
    "pairs": lambda w: [ops.max(ops.concatenate([w, w], -1)[..., 1:3], -1, keepdims=True)] * 2,
}


@pytest.mark.parametrize("how", PICKS)
def test_channels_that_are_picked_one_by_one_are_ordinary(how):
    (picture,) = given("picture")
    one, other = (layers.Conv2D(8, size, **CONV)(picture) for size in (3, 5))
    weights = ops.softmax(layers.Conv2D(2, 1, name="gate", **CONV)(ops.relu(one + other)))
    first, second = PICKS[how](weights)
    model = wild(keras.Model([picture], layers.Conv2D(3, 3, **CONV)(ops.relu(one * first + other * second))))
    new = wild(equivariant(model, "hv", measure=how == "pairs"))
    assert type(new.get_layer("gate")).__name__ == "InvariantConv2D"
    obeys(new, "hv")


def test_halves_of_channels_stay_orbits():
    (picture,) = given("picture")
    x = layers.Conv2D(16, 3, name="both", **CONV)(picture)
    model = keras.Model(picture, layers.Conv2D(3, 3, **CONV)(ops.silu(x[..., :8]) * x[..., 8:]))
    assert equivariant(model, "hv").get_layer("both").plan.stored == 4
