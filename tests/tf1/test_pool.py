"""Pooling over orbits, and over the k largest values."""

import numpy as np
import oracle
import pytest
import tensorflow as tf

from symmetric_layers import SymmetryError
from symmetric_layers.tf1 import OrbitPool, SymmetricConv2D, TopKPool

SYMMETRY = {"h": 2, "v": 4, "hv": 8}


@pytest.fixture
def session():
    """A graph and a session of its own for each test."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        yield session


def first(x):
    """Channels first, as the oracle has them."""
    return np.moveaxis(x, -1, 1)


def unknown(x, known=1):
    """A placeholder of which only the last `known` sizes are known."""
    return tf.compat.v1.placeholder(x.dtype, [None] * (x.ndim - known) + list(x.shape[x.ndim - known :]))


@pytest.mark.parametrize("positions", [(), (5,), (5, 4), (3, 4, 5)])
@pytest.mark.parametrize("reduce", ["mean", "max"])
def test_orbit_pool_is_the_oracles(reduce, positions, session, tolerance):
    x = np.random.RandomState(0).standard_normal((3,) + positions + (16,))
    expected = oracle.orbit_pool(first(x), SYMMETRY, reduce)
    inputs = unknown(x)
    pool = OrbitPool(SYMMETRY, reduce)
    for answer in (pool(tf.constant(x)), pool(inputs)):
        assert answer.shape[-1] == pool.compute_output_shape(inputs.shape)[-1] == 7
        found = session.run(answer, {inputs: x})
        np.testing.assert_allclose(first(found), expected, rtol=0, atol=tolerance["float64"])


def test_orbit_pool_understands_percentages_and_no_symmetry(session):
    assert OrbitPool({"h": "50%"})(tf.zeros([2, 5, 8])).shape.as_list() == [2, 5, 6]
    assert OrbitPool(None)(tf.zeros([2, 5, 8])).shape.as_list() == [2, 5, 8]


@pytest.mark.parametrize("reduce", ["mean", "max"])
def test_a_pooled_orbit_does_not_notice_the_mirror(reduce, session, tolerance):
    layer = SymmetricConv2D(8, 3, padding="same", symmetry={"hv": 8}, dtype="float64")
    pool = OrbitPool({"hv": 8}, reduce)
    x = tf.constant(np.random.RandomState(0).standard_normal((2, 6, 7, 3)))
    errors = [
        tf.reduce_max(tf.abs(pool(layer(tf.reverse(x, axes))) - tf.reverse(pool(layer(x)), axes)))
        for axes in ([1], [2], [1, 2])
    ]
    session.run(tf.compat.v1.global_variables_initializer())
    assert max(session.run(errors)) <= tolerance["float64"]


def test_orbit_pool_refuses_in_a_sentence(session):
    with pytest.raises(SymmetryError) as refusal:
        OrbitPool(SYMMETRY, "median")
    assert str(refusal.value) == "reduce: 'median' is no choice here. Expected 'mean' or 'max'. Use one of these."
    with pytest.raises(SymmetryError, match="does not fit 3 filters"):
        OrbitPool({"h": 4})(tf.zeros([1, 5, 3]))
    with pytest.raises(SymmetryError, match="'x' is no kind of mirror"):
        OrbitPool({"x": 4})
    with pytest.raises(SymmetryError, match="'abc%' is no percentage"):
        OrbitPool({"h": "abc%"})


@pytest.mark.parametrize("positions", [(9,), (3, 3), (2, 2, 3)])
@pytest.mark.parametrize("k", [1, 4, 9])
def test_top_k_is_the_oracles(k, positions, session):
    x = np.random.RandomState(0).standard_normal((3,) + positions + (5,))
    inputs = unknown(x)
    pool = TopKPool(k)
    for answer in (pool(tf.constant(x)), pool(inputs)):
        assert answer.shape.as_list()[1:] == [k, 5]
        np.testing.assert_array_equal(first(session.run(answer, {inputs: x})), oracle.top_k(first(x), k))


def test_top_one_is_global_max_pooling(session):
    x = tf.random.stateless_normal([2, 4, 5, 3], [0, 1])
    ours, plain = session.run([TopKPool(1)(x)[:, 0], tf.keras.layers.GlobalMaxPooling2D()(x)])
    np.testing.assert_array_equal(ours, plain)


def test_the_gradient_goes_to_the_chosen_entries(session):
    x = tf.constant([[[1.0], [5.0], [3.0], [4.0]]])
    (gradient,) = tf.gradients(TopKPool(2)(x) * [[[10.0], [20.0]]], x)
    assert session.run(gradient)[0, :, 0].tolist() == [0, 10, 0, 20]


def test_too_large_a_k_is_refused_before_and_while_the_graph_runs(session):
    sentence = "k: 6 is more than the 5 positions of the input. Expected at most 5. Use a smaller k, or a longer input."
    with pytest.raises(SymmetryError) as refusal:
        TopKPool(6)(tf.zeros([1, 5, 2]))
    assert str(refusal.value) == sentence
    x = np.zeros((1, 5, 2), "float32")
    inputs = unknown(x)
    answer = TopKPool(6)(inputs)
    with pytest.raises(tf.errors.InvalidArgumentError) as refusal:
        session.run(answer, {inputs: x})
    assert sentence in str(refusal.value)
    assert session.run(answer, {inputs: np.zeros((1, 6, 2))}).shape == (1, 6, 2)


@pytest.mark.parametrize("k", [0, -1, 2.0, True, "2"])
def test_a_k_that_is_no_count_is_refused(k):
    with pytest.raises(SymmetryError) as refusal:
        TopKPool(k)
    assert str(refusal.value) == (
        f"k: {k!r} is no usable count. Expected a whole number, at least 1. Use such a number."
    )


def test_pools_are_what_their_config_says():
    for layer in (TopKPool(3, name="top"), OrbitPool({"h": "50%"}, "max", name="pool"), OrbitPool(None)):
        again = type(layer).from_config(layer.get_config())
        assert again.get_config() == layer.get_config()
    assert OrbitPool({"h": 2}).get_config()["symmetry"] == {"h": 2}
    assert TopKPool(3).get_config()["k"] == 3
