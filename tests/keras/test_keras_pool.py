"""Pools over orbits and over positions."""

import keras
import numpy as np
import oracle
import pytest
from keras import ops
from keras_face import BACKEND, gradients

from symmetric_layers import SymmetryError
from symmetric_layers.keras import Mirrored, OrbitPool, TopKPool

FORMATS = ["channels_last", "channels_first"]


def give(x, data_format):
    return np.ascontiguousarray(x if data_format == "channels_first" else np.moveaxis(x, 1, -1))


def take(y, data_format):
    y = ops.convert_to_numpy(y)
    return y if data_format == "channels_first" else np.moveaxis(y, -1, 1)


def random(*shape):
    return np.random.RandomState(0).standard_normal(shape)


@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize("reduce", ["mean", "max"])
@pytest.mark.parametrize("positions", [(), (5,), (4, 3), (2, 4, 3)])
def test_orbit_pool_is_the_oracles(data_format, reduce, positions, tolerance):
    symmetry = {"h": 4, "vz": 4, "hvz": 8}
    x = random(2, 19, *positions)
    pool = OrbitPool(symmetry, reduce, data_format, dtype="float64")
    y = pool(give(x, data_format))
    assert pool.compute_output_shape(give(x, data_format).shape) == tuple(y.shape)
    expected = oracle.orbit_pool(x, symmetry, reduce)
    np.testing.assert_allclose(take(y, data_format), expected, rtol=0, atol=tolerance["float64"])


def test_orbit_pool_takes_percentages_and_unknown_sizes_and_keeps_the_mask():
    inputs = keras.Input((None, 8))
    outputs = OrbitPool({"h": "50%"})(keras.layers.Masking()(inputs))
    assert outputs.shape == (None, None, 6)
    model = keras.Model(inputs, outputs)
    for steps in (3, 5):
        assert tuple(model(np.ones((2, steps, 8), "float32")).shape) == (2, steps, 6)
    assert keras.src.backend.get_keras_mask(outputs) is not None


def test_orbit_pool_refuses_with_whole_sentences():
    with pytest.raises(SymmetryError) as refusal:
        OrbitPool({"h": 2}, reduce="sum")
    assert str(refusal.value) == "reduce: 'sum' is no choice here. Expected 'mean' or 'max'. Use one of these."
    with pytest.raises(SymmetryError) as refusal:
        OrbitPool({"h": 2}, data_format="NCHW")
    assert str(refusal.value) == (
        "data_format: 'NCHW' is no choice here. Expected 'channels_last' or 'channels_first'. Use one of these."
    )
    with pytest.raises(SymmetryError) as refusal:
        OrbitPool("h")
    assert str(refusal.value) == (
        "symmetry: 'h' is no mapping. Expected kinds and numbers, like {'h': 8, 'hv': '50%'}, or None. Use a dict."
    )
    with pytest.raises(SymmetryError) as refusal:
        OrbitPool({"hv": 8})(np.ones((1, 4, 4, 6), "float32"))
    assert str(refusal.value) == (
        "symmetry: 'hv': 8 does not fit 6 filters. Expected a multiple of 4 (the size of one 'hv' orbit), at most 6. "
        "Use such a number, or a percentage, which rounds down to whole orbits."
    )


@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize("positions", [(7,), (3, 4), (2, 3, 2)])
@pytest.mark.parametrize("k", [1, 3, 7])
def test_top_k_pool_is_the_oracles(data_format, positions, k):
    x = random(2, 5, *positions)
    pool = TopKPool(k, data_format, dtype="float64")
    y = pool(give(x, data_format))
    assert pool.compute_output_shape(give(x, data_format).shape) == tuple(y.shape)
    np.testing.assert_array_equal(take(y, data_format), oracle.top_k(x, k))


def test_top_1_is_global_max_pooling():
    x = random(2, 9, 4)
    best = keras.layers.GlobalMaxPooling1D(keepdims=True, dtype="float64")(x)
    np.testing.assert_array_equal(ops.convert_to_numpy(TopKPool(1, dtype="float64")(x)), ops.convert_to_numpy(best))


def test_the_gradient_of_top_k_goes_to_the_chosen_entries():
    x, g = random(1, 5, 1), np.array([[[2.0], [3.0]]])
    pool = TopKPool(2, dtype="float64")
    pool.build(x.shape)
    of_x, _ = gradients(pool, x, g)
    first, second = np.argsort(-x[0, :, 0])[:2]
    expected = np.zeros(5)
    expected[first], expected[second] = 2.0, 3.0
    np.testing.assert_array_equal(of_x[0, :, 0], expected)


@pytest.mark.parametrize("k", [0, -1, 1.5, True, None])
def test_a_k_that_is_no_number_is_refused(k):
    with pytest.raises(SymmetryError) as refusal:
        TopKPool(k)
    assert str(refusal.value) == (
        f"k: {k!r} is no usable count. Expected a whole number, at least 1. Use such a number."
    )


SENTENCE = "k: 5 is more than the 3 positions of the input. Expected at most 3. Use a smaller k, or a longer input."


def test_too_large_a_k_is_refused_as_soon_as_the_size_is_known():
    with pytest.raises(SymmetryError) as refusal:
        TopKPool(5)(keras.Input((3, 2)))
    assert str(refusal.value) == SENTENCE
    with pytest.raises(SymmetryError) as refusal:
        TopKPool(5).compute_output_shape((None, 3, 2))
    assert str(refusal.value) == SENTENCE


def test_too_large_a_k_is_refused_at_run_time_where_the_size_was_unknown():
    inputs = keras.Input((None, 2))
    model = keras.Model(inputs, TopKPool(5)(inputs))
    assert model.output_shape == (None, 5, 2)
    assert tuple(model(np.ones((1, 7, 2), "float32")).shape) == (1, 5, 2)
    with pytest.raises(SymmetryError) as refusal:
        model(np.ones((1, 3, 2), "float32"))
    assert SENTENCE in str(refusal.value)  # Keras says around it which layer was called with what


@pytest.mark.skipif(BACKEND != "tensorflow", reason="only TensorFlow has graphs that do not know their sizes")
@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_graph_that_does_not_know_its_sizes_refuses_too_large_a_k_when_it_runs(jit_compile):
    import tensorflow as tf

    pool = TopKPool(5)
    graph = tf.function(pool, input_signature=[tf.TensorSpec((None, None, 2))], jit_compile=jit_compile)
    assert tuple(graph(tf.ones((1, 7, 2))).shape) == (1, 5, 2)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"input must have at least k columns. Had 3, needed 5"):
        graph(tf.ones((1, 3, 2)))


@pytest.mark.parametrize("data_format", FORMATS if BACKEND != "tensorflow" else FORMATS[:1])
@pytest.mark.parametrize("symmetry", [{"h": 4, "hv": 8}, {"v": 12}])
def test_pooling_in_the_mirror_obeys_at_every_size(symmetry, data_format):
    host = keras.layers.MaxPooling2D((2, 3), 2, data_format=data_format)
    pool, plain = Mirrored(host, symmetry), Mirrored(host, None)
    for positions in ((7, 8), (7, 6)):
        x, broken = random(2, 12, *positions).astype("float32"), 0.0
        straight, other = (take(layer(give(x, data_format)), data_format) for layer in (pool, plain))
        first = [index for index, (_, letters) in enumerate(oracle.arrangement(symmetry, 12)) if not letters]
        np.testing.assert_array_equal(straight[:, first], other[:, first])
        for letter in sorted({letter for kind in symmetry for letter in kind}):
            seen = give(oracle.act(x, letter, symmetry), data_format)
            obeying = [i for i, kind in enumerate(oracle.kinds(symmetry, 12)) if letter in kind]
            mirrored, lost = (take(layer(seen), data_format)[:, obeying] for layer in (pool, plain))
            np.testing.assert_array_equal(mirrored, oracle.act(straight, letter, symmetry)[:, obeying])
            broken = max(broken, np.abs(lost - oracle.act(other, letter, symmetry)[:, obeying]).max())
        assert broken > 0.1


def test_a_mirrored_layer_takes_unknown_sizes_and_is_saved(tmp_path):
    pool = Mirrored(keras.layers.AveragePooling2D(2), {"h": 4})
    assert tuple(pool.compute_output_shape((None, 7, 8, 6))) == (None, 3, 4, 6)
    inputs = keras.Input((None, None, 6))
    outputs = Mirrored(keras.layers.AveragePooling2D(2), {"h": "66.7%", "hv": 0}, name="mine")(inputs)
    model = keras.Model(inputs, outputs)
    assert outputs.shape == (None, None, None, 6)
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    assert again.get_layer("mine").symmetry == {"h": "66.7%", "hv": 0}
    for positions in ((7, 8), (5, 5)):
        x = random(2, *positions, 6).astype("float32")
        np.testing.assert_array_equal(ops.convert_to_numpy(again(x)), ops.convert_to_numpy(model(x)))
        exchanged = [1, 0, 3, 2]
        mirrored = ops.convert_to_numpy(model(np.ascontiguousarray(x[:, :, ::-1][..., [*exchanged, 4, 5]])))
        expected = ops.convert_to_numpy(model(x))[:, :, ::-1, exchanged]
        np.testing.assert_allclose(mirrored[..., :4], expected, atol=1e-6)


def test_channels_that_do_not_fit_are_refused_before_they_are_pooled():
    pool = Mirrored(keras.layers.MaxPooling2D(2), {"hv": 8})
    with pytest.raises(SymmetryError) as refusal:
        pool(np.ones((1, 4, 4, 6), "float32"))
    assert str(refusal.value) == (
        "symmetry: 'hv': 8 does not fit 6 filters. Expected a multiple of 4 (the size of one 'hv' orbit), at most 6. "
        "Use such a number, or a percentage, which rounds down to whole orbits."
    )
    with pytest.raises(SymmetryError) as refusal:
        Mirrored(keras.layers.MaxPooling2D(2), "h")
    assert str(refusal.value) == (
        "symmetry: 'h' is no mapping. Expected kinds and numbers, like {'h': 8, 'hv': '50%'}, or None. Use a dict."
    )
    with pytest.raises(SymmetryError) as refusal:
        Mirrored(keras.layers.DepthwiseConv2D(3, name="deep"), {"h": 4})(np.ones((1, 4, 4, 4), "float32"))
    assert str(refusal.value) == (
        "layer: 'deep' has weights of its own for every channel. Expected a layer without weights. "
        "Use a symmetric layer in its place."
    )
    with pytest.raises(SymmetryError) as refusal:
        Mirrored(keras.layers.MaxPooling1D(2), {"v": 4})(np.ones((3, 6, 4), "float32"))
    assert str(refusal.value) == (
        "symmetry: 'v' is no kind of mirror in 1-D. Expected different letters out of 'h'. Use 'h'."
    )


def test_where_positions_are_gone_nothing_is_mirrored_back():
    pool = Mirrored(keras.layers.GlobalMaxPooling2D(), {"h": 2, "hv": 4})
    x = random(3, 4, 5, 6).astype("float32")
    np.testing.assert_array_equal(ops.convert_to_numpy(pool(x)), x.max((1, 2)))
