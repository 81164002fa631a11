"""The 1-D convolution that is indifferent to the order of its features."""

import numpy as np
import oracle
import pytest
import tensorflow as tf

from symmetric_layers import SymmetryError
from symmetric_layers.tf1 import GlobalConv1D


@pytest.fixture
def session():
    """A graph and a session of its own for each test."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        yield session


def features(width=9, channels=3):
    return np.random.RandomState(0).standard_normal((4, width, channels))


def started(session, layer, x):
    """The layer, built and with a bias that is not 0."""
    layer(tf.constant(x))
    session.run(tf.compat.v1.global_variables_initializer())
    if layer.bias is not None:
        layer.bias.load(np.arange(1.0, 6), session)
    return layer


def truth(session, layer, x):
    """The literal wide convolution."""
    numbers = [None if v is None else session.run(v).T for v in (layer.centre, layer.surround, layer.bias)]
    return np.moveaxis(oracle.global_conv(np.moveaxis(x, -1, 1), *numbers), 1, -1)


@pytest.mark.parametrize("width", [1, 2, 9])
@pytest.mark.parametrize("use_bias", [True, False])
def test_it_is_the_literal_wide_convolution(use_bias, width, session, tolerance):
    x = features(width)
    layer = started(session, GlobalConv1D(5, use_bias=use_bias, dtype="float64"), x)
    of_any_width = tf.compat.v1.placeholder("float64", [None, None, 3])
    for answer in (layer(tf.constant(x)), layer(of_any_width)):
        assert answer.shape[-1] == 5
        found = session.run(answer, {of_any_width: x})
        np.testing.assert_allclose(found, truth(session, layer, x), rtol=0, atol=tolerance["float64"])


def test_it_is_what_the_hosts_wide_convolution_answers(session, tolerance):
    x = features()
    layer = started(session, GlobalConv1D(5, activation="tanh", dtype="float64"), x)
    wide = tf.keras.layers.Conv1D(5, 17, padding="same", activation="tanh", dtype="float64")
    wide.build([None, None, 3])
    centre, surround, bias = session.run([layer.centre, layer.surround, layer.bias])
    wide.kernel.load(np.stack([surround] * 8 + [centre] + [surround] * 8), session)
    wide.bias.load(bias, session)
    ours, plain = session.run([layer(tf.constant(x)), wide(tf.constant(x))])
    np.testing.assert_allclose(ours, plain, rtol=0, atol=tolerance["float64"])


def test_features_without_channels_have_one(session, tolerance):
    x = features(channels=1)
    layer = GlobalConv1D(5, dtype="float64")
    model = tf.keras.Sequential([tf.keras.layers.InputLayer((None,), dtype="float64"), layer])
    started(session, layer, x[..., 0])
    assert model.output_shape == (None, None, 5)
    assert layer.centre.shape.as_list() == layer.surround.shape.as_list() == [1, 5]
    found = session.run(layer(tf.constant(x[..., 0])))
    np.testing.assert_allclose(found, truth(session, layer, x), rtol=0, atol=tolerance["float64"])


def test_it_permutes_with_its_input(session, tolerance):
    x, order = features(), np.random.RandomState(1).permutation(9)
    layer = started(session, GlobalConv1D(5, dtype="float64"), x)
    straight, permuted = session.run([layer(tf.constant(x)), layer(tf.constant(x[:, order]))])
    np.testing.assert_allclose(permuted, straight[:, order], rtol=0, atol=tolerance["float64"])


def test_masked_features_are_left_out_and_leave_no_trace(session, tolerance):
    x, kept = features(), [9, 5, 1, 0]
    layer = started(session, GlobalConv1D(5, activation="sigmoid", dtype="float64"), x)
    mask = np.arange(9) < np.array(kept)[:, None]
    poisoned = tf.constant(np.where(mask[..., None], x, np.nan))
    answer = layer(poisoned, mask=tf.constant(mask))
    gradients = tf.gradients(tf.reduce_sum(answer**2), [poisoned] + layer.trainable_weights)
    found, of_x, *of_weights = session.run([answer] + gradients)
    for row, picture, count in zip(found, x, kept):
        assert (row[count:] == 0).all()
        if count:
            alone = session.run(layer(tf.constant(picture[None, :count])))[0]
            np.testing.assert_allclose(row[:count], alone, rtol=0, atol=tolerance["float64"])
    assert (of_x[~mask] == 0).all()
    assert (of_x[mask] != 0).all()
    assert all(np.isfinite(g).all() for g in of_weights)


def test_a_keras_mask_arrives_and_is_passed_on(session):
    inputs = tf.keras.layers.Input((None, 2))
    masked = tf.keras.layers.Masking()(inputs)
    first = GlobalConv1D(3)(masked)
    model = tf.keras.Model(inputs, [first, GlobalConv1D(4)(first)])
    x = np.random.RandomState(0).standard_normal((2, 6, 2)).astype("float32")
    x[:, 4:] = 0
    for padded, alone in zip(model.predict(x), model.predict(x[:, :4])):
        assert (padded[:, 4:] == 0).all()
        np.testing.assert_allclose(padded[:, :4], alone, rtol=0, atol=1e-6)


def test_weights_obey_what_is_asked_of_them(session):
    layer = GlobalConv1D(
        5,
        kernel_initializer="ones",
        bias_initializer="ones",
        kernel_regularizer="l2",
        bias_regularizer="l1",
        activity_regularizer="l2",
        kernel_constraint="non_neg",
        bias_constraint="max_norm",
    )
    layer(tf.zeros([4, 9, 3]))
    session.run(tf.compat.v1.global_variables_initializer())
    assert [v.constraint for v in layer.weights] == [layer.kernel_constraint] * 2 + [layer.bias_constraint]
    assert sum(session.run(layer.losses)) == pytest.approx(0.01 * (15 + 15 + 5 + 9 * 5))
    again = GlobalConv1D.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()


def test_what_makes_no_layer_is_refused(session):
    with pytest.raises(SymmetryError) as refusal:
        GlobalConv1D(0)
    assert str(refusal.value) == (
        "filters: 0 is no usable count. Expected a whole number, at least 1. Use such a number."
    )
    with pytest.raises(SymmetryError) as refusal:
        GlobalConv1D(3, use_bias=1)
    assert str(refusal.value) == "use_bias: 1 is no bool. Expected True or False. Use one of these."
    for shape in ([4], [4, 5, 6, 7], [4, 5, None]):
        with pytest.raises(ValueError, match=r"Inputs should have rank 2 or 3|channel dimension of the inputs"):
            GlobalConv1D(3).build(shape)


def test_a_hundred_thousand_features_fit(session):
    layer = GlobalConv1D(4)
    answer = layer(tf.ones([1, 100000, 2]))
    gradients = tf.gradients(tf.reduce_mean(answer), layer.trainable_weights)
    session.run(tf.compat.v1.global_variables_initializer())
    found = session.run([answer] + gradients)
    assert found[0].shape == (1, 100000, 4)
    assert all(np.isfinite(numbers).all() for numbers in found)
