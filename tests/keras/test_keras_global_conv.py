"""The convolution as wide as its input."""

import keras
import numpy as np
import oracle
import pytest
from keras import ops
from keras_face import gradients

from symmetric_layers import SymmetryError
from symmetric_layers.keras import GlobalConv1D

FORMATS = ["channels_last", "channels_first"]


def random(*shape, seed=0):
    return np.random.RandomState(seed).standard_normal(shape)


def numbers(x):
    return ops.convert_to_numpy(x.value if isinstance(x, keras.Variable) else x)


def made(channels, **arguments):
    layer = GlobalConv1D(4, dtype="float64", bias_initializer="normal", **arguments)
    layer.build((None, None, channels) if layer.data_format == "channels_last" else (None, channels, None))
    return layer


def literal(layer, x):
    """What the wide kernel gives, `(N, C, L)` to `(N, F, L)`."""
    bias = None if layer.bias is None else numbers(layer.bias)
    return oracle.global_conv(x, numbers(layer.centre).T, numbers(layer.surround).T, bias)


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize("width", [1, 2, 7])
def test_it_is_the_literal_wide_convolution(width, data_format, use_bias, tolerance):
    layer, x = made(3, data_format=data_format, use_bias=use_bias), random(2, 3, width)
    last = data_format == "channels_last"
    y = numbers(layer(np.moveaxis(x, 1, 2) if last else x))
    assert layer.compute_output_shape((2, width, 3) if last else (2, 3, width)) == y.shape
    np.testing.assert_allclose(
        np.moveaxis(y, 2, 1) if last else y, literal(layer, x), rtol=0, atol=tolerance["float64"]
    )


def test_the_host_with_the_wide_kernel_gives_the_same(tolerance):
    layer, x = made(3, activation="tanh"), random(2, 6, 3)
    host = keras.layers.Conv1D(4, 11, padding="same", activation="tanh", dtype="float64")
    host.build(x.shape)
    kernel = np.repeat(numbers(layer.surround)[None], 11, axis=0)
    kernel[5] = numbers(layer.centre)
    host.kernel.assign(kernel)
    host.bias.assign(numbers(layer.bias))
    np.testing.assert_allclose(numbers(layer(x)), numbers(host(x)), rtol=0, atol=tolerance["float64"])


def test_gradients_are_those_of_the_literal_convolution(tolerance):
    layer, x, g = made(3), random(2, 6, 3), random(2, 6, 4, seed=1)
    of_x, (of_centre, of_surround, of_bias) = gradients(layer, x, g)
    others = x.sum(1, keepdims=True) - x
    close = {"rtol": 0, "atol": 10 * tolerance["float64"]}
    np.testing.assert_allclose(of_centre, np.einsum("nwc,nwf->cf", x, g), **close)
    np.testing.assert_allclose(of_surround, np.einsum("nwc,nwf->cf", others, g), **close)
    np.testing.assert_allclose(of_bias, g.sum((0, 1)), **close)
    back = g @ numbers(layer.centre).T + (g.sum(1, keepdims=True) - g) @ numbers(layer.surround).T
    np.testing.assert_allclose(of_x, back, **close)


def test_permuted_features_give_the_permuted_answer(tolerance):
    layer, x, order = made(3, activation="relu"), random(2, 9, 3), np.random.RandomState(0).permutation(9)
    straight = numbers(layer(x))
    np.testing.assert_allclose(numbers(layer(x[:, order])), straight[:, order], rtol=0, atol=tolerance["float64"])


@pytest.mark.parametrize("data_format", FORMATS)
def test_flat_features_have_one_channel(data_format):
    layer, x = GlobalConv1D(4, dtype="float64", data_format=data_format), random(2, 6)
    y = numbers(layer(x))
    assert layer.compute_output_shape((2, 6)) == y.shape
    if data_format == "channels_last":
        y = np.moveaxis(y, 2, 1)
    np.testing.assert_allclose(y, literal(layer, x[:, None]), rtol=0, atol=1e-12)


def test_the_width_need_not_be_known():
    inputs = keras.Input((None, 3))
    model = keras.Model(inputs, GlobalConv1D(4)(inputs))
    assert model.output_shape == (None, None, 4)
    for width in (2, 5):
        assert tuple(model(random(1, width, 3).astype("float32")).shape) == (1, width, 4)


@pytest.mark.parametrize("flat", [False, True])
def test_masked_features_are_left_out_and_answer_nothing(flat):
    layer = made(1 if flat else 3, activation="sigmoid")
    if flat:
        layer = GlobalConv1D(4, activation="sigmoid", dtype="float64")
    x = random(2, 6) if flat else random(2, 6, 3)
    mask = np.array([[True] * 4 + [False] * 2, [False] + [True] * 5])
    padded = x.copy()
    padded[~mask] = np.nan  # whatever stands there
    y = numbers(layer(padded, mask=mask))
    np.testing.assert_array_equal(y[~mask], 0)
    for row in range(2):
        alone = numbers(layer(x[row][mask[row]][None]))
        np.testing.assert_allclose(y[row][mask[row]], alone[0], rtol=0, atol=1e-12)


def test_the_mask_of_keras_arrives_and_goes_on():
    inputs = keras.Input((6, 3))
    outputs = GlobalConv1D(4, bias_initializer="ones", name="conv")(keras.layers.Masking()(inputs))
    model = keras.Model(inputs, [outputs, keras.layers.GlobalAveragePooling1D()(outputs)])
    x = random(1, 6, 3).astype("float32")
    x[:, 4:] = 0
    y, mean = (numbers(answer) for answer in model(x))
    np.testing.assert_array_equal(y[:, 4:], 0)
    np.testing.assert_allclose(mean, y[:, :4].mean(1), rtol=1e-5)  # a mean over six would be smaller
    np.testing.assert_allclose(y[:, :4], numbers(model.get_layer("conv")(x[:, :4])), atol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_16_bits_hold_the_sum_of_many_features(policy):
    layer = GlobalConv1D(1, kernel_initializer=keras.initializers.Constant(0.01), dtype=policy)
    y = numbers(layer(np.full((1, 3000, 1), 30, "float32"))).astype("float32")
    np.testing.assert_allclose(y, 900, rtol=1e-2)  # the sum is 90000, and float16 ends at 65504


def test_regularizers_constraints_and_activation_survive_saving(tmp_path):
    layer = GlobalConv1D(
        4, activation="gelu", kernel_initializer="he_normal", bias_initializer="ones", kernel_regularizer="l2",
        bias_regularizer="l1", kernel_constraint="non_neg", bias_constraint="non_neg", trainable=False, name="mine",
    )  # fmt: skip
    model = keras.Sequential([keras.Input((6, 3)), layer])
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    x = random(2, 6, 3).astype("float32")
    np.testing.assert_array_equal(numbers(again(x)), numbers(model(x)))
    assert again.layers[0].get_config() == layer.get_config()
    assert [type(v.constraint).__name__ for v in again.layers[0].variables] == ["NonNeg"] * 3


def test_each_weight_is_regularized():
    layer = GlobalConv1D(4, kernel_regularizer="l2", bias_regularizer="l1")
    layer.build((None, None, 3))
    assert len(layer.losses) == 3


def test_many_features_fit_in_memory():
    x = np.ones((1, 100_000, 16), "float32")
    y = numbers(GlobalConv1D(16)(x))
    assert y.shape == x.shape
    np.testing.assert_array_equal(y[0, 0], y[0, -1])


@pytest.mark.parametrize("filters", [0, -1, 2.0, True, "4"])
def test_filters_that_are_no_number_are_refused(filters):
    with pytest.raises(SymmetryError) as refusal:
        GlobalConv1D(filters)
    assert str(refusal.value) == (
        f"filters: {filters!r} is no usable count. Expected a whole number, at least 1. Use such a number."
    )
