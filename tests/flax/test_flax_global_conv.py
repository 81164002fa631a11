"""The convolution as wide as its input."""

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from flax import nnx
from flax_face import apply, deep, flat, gradients

from symmetric_layers import SymmetryError
from symmetric_layers.flax import GlobalConv1D


def random(*shape, seed=0):
    return np.random.RandomState(seed).standard_normal(shape)


def made(channels=3, **arguments):
    more = {"bias_init": nnx.initializers.normal(), "param_dtype": jnp.float64, "rngs": nnx.Rngs(0)}
    return GlobalConv1D(channels, 4, **{**more, **arguments})


def literal(layer, x):
    """What the wide kernel gives, `(N, C, L)` to `(N, F, L)`."""
    bias = None if layer.bias is None else np.asarray(layer.bias[...])
    return oracle.global_conv(x, np.asarray(layer.centre[...]).T, np.asarray(layer.surround[...]).T, bias)


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("width", [1, 2, 7])
def test_it_is_the_literal_wide_convolution(width, use_bias, tolerance):
    layer, x = made(use_bias=use_bias), random(2, 3, width)
    np.testing.assert_allclose(deep(apply(layer, flat(x))), literal(layer, x), rtol=0, atol=tolerance["float64"])


def test_the_host_with_the_wide_kernel_gives_the_same(tolerance):
    layer, x = made(), jnp.asarray(random(2, 6, 3))
    host = nnx.Conv(3, 4, (11,), param_dtype=jnp.float64, rngs=nnx.Rngs(1))
    host.kernel[...] = jnp.repeat(layer.surround[...][None], 11, 0).at[5].set(layer.centre[...])
    host.bias[...] = layer.bias[...]
    np.testing.assert_allclose(layer(x), host(x), rtol=0, atol=tolerance["float64"])


def test_gradients_are_those_of_the_literal_convolution(tolerance):
    layer, x, g = made(), random(2, 6, 3), random(2, 6, 4, seed=1)
    weights, of_x = gradients(layer, jnp.asarray(x), jnp.asarray(g))
    others = x.sum(1, keepdims=True) - x
    close = {"rtol": 0, "atol": 10 * tolerance["float64"]}
    np.testing.assert_allclose(weights["centre"][...], np.einsum("nwc,nwf->cf", x, g), **close)
    np.testing.assert_allclose(weights["surround"][...], np.einsum("nwc,nwf->cf", others, g), **close)
    np.testing.assert_allclose(weights["bias"][...], g.sum((0, 1)), **close)
    centre, surround = np.asarray(layer.centre[...]), np.asarray(layer.surround[...])
    np.testing.assert_allclose(of_x, g @ centre.T + (g.sum(1, keepdims=True) - g) @ surround.T, **close)


def test_any_number_of_batches_is_one_batch():
    layer, x = made(), jnp.asarray(random(2, 5, 6, 3))
    np.testing.assert_allclose(layer(x)[1], layer(x[1]), atol=1e-12)
    np.testing.assert_allclose(layer(x)[1, 2], layer(x[1, 2]), atol=1e-12)


def test_features_that_are_not_there_are_left_out_and_answer_nothing():
    layer, x = made(), random(2, 6, 3)
    mask = np.array([[True] * 4 + [False] * 2, [False] + [True] * 5])
    padded = x.copy()
    padded[~mask] = np.nan  # whatever stands there
    y = np.asarray(layer(jnp.asarray(padded), mask=jnp.asarray(mask)))
    np.testing.assert_array_equal(y[~mask], 0)
    for row in range(2):
        alone = layer(jnp.asarray(x[row][mask[row]]))
        np.testing.assert_allclose(y[row][mask[row]], alone, rtol=0, atol=1e-12)
    of_x = nnx.grad(lambda x: layer(x, mask=jnp.asarray(mask)).sum())(jnp.asarray(padded))
    assert np.isfinite(of_x).all()


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_16_bits_hold_the_sum_of_many_features(dtype):
    layer = GlobalConv1D(1, 1, kernel_init=nnx.initializers.constant(0.01), dtype=dtype, rngs=nnx.Rngs(0))
    y = layer(jnp.full((1, 3000, 1), 30, jnp.float32))
    assert y.dtype == dtype
    assert layer.centre.dtype == jnp.float32
    np.testing.assert_allclose(np.asarray(y, "float32"), 900, rtol=1e-2)  # the sum is 90000, and float16 ends at 65504


@pytest.mark.parametrize("number", [0, -1, 2.0, True, "4"])
@pytest.mark.parametrize("name", ["in_features", "out_features"])
def test_features_that_are_no_number_are_refused(name, number):
    with pytest.raises(SymmetryError) as refusal:
        GlobalConv1D(**{"in_features": 3, "out_features": 4, name: number}, rngs=nnx.Rngs(0))
    assert str(refusal.value) == (
        f"{name}: {number!r} is no usable count. Expected a whole number, at least 1. Use such a number."
    )


def test_use_bias_is_a_bool():
    with pytest.raises(SymmetryError) as refusal:
        GlobalConv1D(3, 4, use_bias=None, rngs=nnx.Rngs(0))
    assert str(refusal.value) == "use_bias: None is no bool. Expected True or False. Use one of these."


def test_both_weights_start_like_a_linear_layers_and_apart():
    layer, host = GlobalConv1D(3, 4, rngs=nnx.Rngs(0)), nnx.Linear(3, 4, rngs=nnx.Rngs(0))
    np.testing.assert_array_equal(layer.centre[...], host.kernel[...])
    assert jnp.abs(layer.centre[...] - layer.surround[...]).max() > 0.1


def test_the_precision_asked_for_is_that_of_the_products():
    layer = GlobalConv1D(3, 4, precision="highest", rngs=nnx.Rngs(0))
    asked = str(jax.make_jaxpr(lambda x: layer(x))(jnp.ones((1, 2, 3), jnp.float32)))
    assert asked.count("Precision.HIGHEST") == 4  # of both operands of both products
