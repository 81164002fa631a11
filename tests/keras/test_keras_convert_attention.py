"""Attention with several heads, and dense layers that are written as sums: orbits stay whole in every head."""

import keras
import numpy as np
import pytest
from converted_keras import alike_on, answers, precision, wild
from keras import layers, ops
from test_keras_convert_refusals import refusal_of

from symmetric_layers.keras import desymmetrize, equivariant

EXACT = {"dtype": "float64"}
CONV = {"padding": "same", "dtype": "float64"}
RANDOM = np.random.RandomState(6)


def heads(count=2, size=4, **more):
    return layers.MultiHeadAttention(count, size, name="heads", **more, **EXACT)


def on_sequences(make, words=False):
    """A picture whose positions stand in a row for a layer, which may ask words."""
    start, text = layers.Input((4, 5, 3)), layers.Input((7, 6))
    x = layers.Reshape((20, 8))(layers.Conv2D(8, 3, **CONV)(start))
    x = layers.Reshape((4, 5, 8))(make(x, text) if words else make(x))
    return keras.Model([start, text] if words else [start], layers.Conv2D(2, 3, **CONV)(x))


def on_maps(make, answers_plain=False):
    start = layers.Input((4, 5, 3))
    x = make(layers.Conv2D(8, 3, **CONV)(start))
    return keras.Model([start], x if answers_plain else layers.Conv2D(2, 3, **CONV)(x))


def asked_by_words():
    start, text = layers.Input((4, 5, 3)), layers.Input((7, 8))
    x = layers.Reshape((20, 8))(layers.Conv2D(8, 3, **CONV)(start))
    return keras.Model([start, text], layers.Dense(2, **EXACT)(heads()(text, x)))


def dense(equation, shape, bias="d", **more):
    return layers.EinsumDense(equation, shape, bias_axes=bias, name="sum", **more, **EXACT)


def written_out(x):
    """Heads as further axes, and products between them."""
    q, k, v = (layers.EinsumDense("bsc,cnd->bsnd", (20, 2, 4), bias_axes="nd", **EXACT)(x) for _ in range(3))
    weights = ops.softmax(ops.einsum("bsnd,btnd->bnst", q, k))
    return dense("bsnd,ndc->bsc", (20, 8), "c")(ops.einsum("bnst,btnd->bsnd", weights, v))


FORMS = {
    "itself": lambda: on_sequences(lambda x: heads()(x, x)),
    "keys by name": lambda: on_sequences(lambda x: heads(value_dim=8, dropout=0.1)(key=x, value=x, query=x)),
    "words": lambda: on_sequences(lambda x, text: heads()(x, text), words=True),
    "words as keys": lambda: on_sequences(
        lambda x, text: heads(use_bias=False)(x, layers.Dense(8, **EXACT)(text), key=text), words=True),
    "asked by words": asked_by_words,
    "maps": lambda: on_maps(lambda x: heads(attention_axes=(1, 2))(x, x)),
    "rows": lambda: on_maps(lambda x: heads(attention_axes=2, output_shape=16)(x, x)),
    "weights": lambda: on_sequences(lambda x: heads(dropout=0.1)(x, x, return_attention_scores=True)[0]),
    "written out": lambda: on_sequences(written_out),
    "dense": lambda: on_maps(dense("bhwc,cd->bhwd", (4, 5, 16), activation="relu")),
    "with dots": lambda: on_maps(dense("...c,cd->...d", 16, None)),
    "answering": lambda: on_maps(dense("bhwc,cd->bhwd", (4, 5, 3)), answers_plain=True),
    "pooled": lambda: on_maps(lambda x: ops.broadcast_to(dense("bc,cd->bd", 8)(
        layers.GlobalMaxPooling2D()(x))[:, None, None], (2, 4, 5, 8)) * x),
    "turned around": lambda: on_maps(dense("bhwc,dc->bhwd", (4, 5, 8))),
}  # fmt: skip


def holds(new, x, axes):
    picture, *told = x
    (seen,) = answers(new, x)
    for axis in {"h": (2,), "hv": (1, 2)}[axes]:
        (turned,) = answers(new, [np.flip(picture, axis), *told])
        expected = np.flip(seen, axis) if seen.ndim > 3 else seen
        np.testing.assert_allclose(turned, expected, rtol=0, atol=precision(new) * max(1, np.abs(seen).max()))


@pytest.mark.parametrize("axes", ["h", "hv"])
@pytest.mark.parametrize("form", FORMS)
def test_layers_that_weigh_features_in_heads_obey(form, axes, tmp_path):
    model = wild(FORMS[form]())
    x = [RANDOM.standard_normal((2, *tensor.shape[1:])) for tensor in model.inputs]
    new = wild(equivariant(model, axes, measure=form == "words" and axes == "hv"))
    holds(new, x, axes)
    alike_on(desymmetrize(new), new, x)
    if axes == "hv":
        new.save(tmp_path / "new.keras")
        alike_on(keras.models.load_model(tmp_path / "new.keras"), new, x)
        holds(wild(equivariant(model, "h", width=2, measure=False)) if form != "pooled" else new, x, "h")


def test_each_starts_from_the_numbers_of_representatives():
    model = wild(FORMS["words"]())
    old, new = (one.get_layer("heads") for one in (model, equivariant(model, "h")))
    assert [tuple(part.kernel.shape) for part in (new.query_dense, new.key_dense, new.output_dense)] == [
        (8, 2, 2),
        (6, 2, 2),
        (2, 4, 4),
    ]
    for part in ("query_dense", "key_dense", "value_dense", "output_dense"):
        kernels = [ops.convert_to_numpy(getattr(one, part).kernel) for one in (old, new)]
        np.testing.assert_array_equal(kernels[0][..., ::2], kernels[1])


@pytest.mark.parametrize("form", ["dense", "answering"])
def test_sums_start_as_the_average_of_the_old_network(form):
    model = wild(FORMS[form]())
    if form == "dense":
        model.get_layer("sum").activation = keras.activations.linear
    new, x = equivariant(model, "h", width=2, init="average"), RANDOM.standard_normal((2, 4, 5, 3))
    total = answers(model, [x])[0] + np.flip(answers(model, [np.flip(x, 2)])[0], 2)
    np.testing.assert_allclose(answers(new, [x])[0], total / 2, rtol=0, atol=1e-11)


def test_attention_of_words_to_words_stays_as_it_is():
    start, text = layers.Input((4, 5, 3)), layers.Input((7, 6))
    x = layers.GlobalAveragePooling2D(**EXACT)(layers.Conv2D(8, 3, **CONV)(start))
    said = dense("bsc,cd->bsd", (7, 5))(heads(2, 3)(text, text) + text)
    told = layers.Dense(2, **EXACT)(ops.mean(said, 1))
    new = equivariant(keras.Model([start, text], layers.Dense(2, **EXACT)(x) + told), "h", measure=False)
    assert type(new.get_layer("heads")) is layers.MultiHeadAttention
    assert type(new.get_layer("sum")) is layers.EinsumDense


def test_heads_that_hold_no_whole_orbits_are_refused():
    assert refusal_of(on_sequences(lambda x: heads(8, 3)(x, x)), "h") == (
        "model: 'heads' has heads of 3 features, which are no whole orbits of 'h'. Expected a multiple of 2 in key_dim "
        "and value_dim. Use such numbers (with fewer heads), or keep that part ordinary with keep."
    )
    assert refusal_of(on_maps(lambda x: heads(output_shape=6, attention_axes=1)(x, x)), "hv") == (
        "model: 'heads' has 6 output channels, which are no whole orbits of 'hv'. Expected a multiple of 4. Use such a "
        "number, or keep that part ordinary with keep."
    )
    assert refusal_of(on_sequences(lambda x: layers.Reshape((20, 8))(heads(output_shape=(2, 4))(x, x))), "h") == (
        "model: 'heads' answers features of shape (2, 4). Expected one axis of features. Give it a whole number for "
        "output_shape and a Reshape behind it, or keep that part ordinary with keep."
    )


def test_sums_over_positions_are_refused():
    assert refusal_of(on_maps(dense("bhwc,hd->bdwc", (4, 5, 8), None)), "h") == (
        "model: 'sum', an EinsumDense, sums over other axes than that of the orbits. Expected one that reads channels, "
        "and nothing at other positions. Move the channels last, or keep that part ordinary with keep."
    )


def test_a_layer_that_attends_to_pictures_and_to_orbits_is_refused():
    start = layers.Input((20, 8))
    both = heads()
    x = both(start, start)
    x = layers.Conv1D(8, 3, **CONV)(x)
    x = layers.Conv1D(8, 3, **CONV)(both(x, x) + x)
    assert refusal_of(keras.Model(start, layers.Conv1D(2, 3, **CONV)(x)), "h") == (
        "model: 'heads' is used both on pictures and on orbits. Expected one of both. Use two layers, one for each."
    )
