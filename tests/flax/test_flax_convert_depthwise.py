"""Convolutions that filter every channel by itself: several filters for each, and between ordinary channels."""

import jax.numpy as jnp
import numpy as np
import pytest
from conditions_flax import drawn, exact
from converted_flax import SMALL, alike, errors, weights, wild
from flax import nnx
from steps_flax import Call

from symmetric_layers import SymmetryError
from symmetric_layers.flax import desymmetrize, equivariant

X = drawn(1, 8, 9, 3)


def alone(channels, times=1, **more):
    return exact(channels, channels * times, feature_group_count=channels, **more)


def between(times, **more):
    return nnx.Sequential(exact(3, 8), nnx.relu, alone(8, times, **more), nnx.relu, exact(8 * times, 2))


def separable(times=1, **more):
    return nnx.Sequential(alone(3, times, **more), exact(3 * times, 8, 1, 1), nnx.relu, exact(8, 2))


def handed_out(net, x):
    y = net.own(x)
    return x + net.last(net.out(nnx.relu(y)))


def residual():
    return Call(handed_out, own=exact(3, 8), out=exact(8, 3), last=alone(3))


NETWORKS = {
    "two filters": (lambda: between(2), "h"),
    "two filters on the mirrored grid": (lambda: between(2, strides=2), "hv"),
    "four filters, each whole": (lambda: between(4, use_bias=False), "hv"),
    "dilated filters": (lambda: between(3, kernel_dilation=2, padding="VALID"), "h"),
    "a stem": (separable, "hv"),
    "a stem with two filters": (lambda: separable(2), "hv"),
    "a stem that is lopsided": (lambda: separable(1, strides=2, padding=((0, 1), (1, 0))), "hv"),
    "two stems": (lambda: nnx.Sequential(alone(3), nnx.relu, *separable().layers), "h"),
    "into an answer": (residual, "hv"),
}
MULTIPLIED = [name for name in NETWORKS if "filters" in name and "stem" not in name]


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_with_depthwise_layers_obey(name):
    build, axes = NETWORKS[name]
    new = wild(equivariant(build(), axes, example=X, measure=False))
    assert max(errors(new, axes, X)) < SMALL
    if "grid" in name or "lopsided" in name:
        assert max(errors(new, axes, drawn(1, 9, 12, 3))) < SMALL
    sorts = {type(module).__name__ for _, module in nnx.iter_modules(new)}
    assert sorts & {"MultipliedConv", "PalindromeConv"}
    if name in MULTIPLIED:
        assert weights(new) < weights(build()) / 2 ** len(axes) * 1.1
    plain = desymmetrize(new, example=X)
    assert not [module for _, module in nnx.iter_modules(plain) if type(module).__module__.startswith("symmetric")]
    alike(new, plain, X)


def test_orbits_start_from_the_filters_that_stood_where_their_representatives_stand():
    model = between(3)
    old, new = model.layers[2], equivariant(model, "h", example=X, measure=False).layers[2]
    firsts = [channel * 3 + filter for channel in range(0, 8, 2) for filter in range(3)]
    np.testing.assert_array_equal(old.kernel[...][..., jnp.array(firsts)], new.kernel[...])
    np.testing.assert_array_equal(old.bias[...][jnp.array(firsts)], new.bias[...])
    stem = separable()
    np.testing.assert_array_equal(
        stem.layers[0].kernel[...], equivariant(stem, "h", example=X, measure=False).layers[0].kernel[...]
    )


def test_depthwise_layers_grow_with_the_network():
    model = between(2)
    new = equivariant(model, "h", example=X, width=2, measure=False)
    assert new.layers[2].full_kernel().shape == (3, 3, 1, 32)
    assert max(errors(wild(new), "h", X)) < SMALL
    assert weights(equivariant(model, "h", example=X, width="parameters", measure=False)) / weights(model) > 0.8
    model = nnx.Sequential(alone(3), *wild(between(2)).layers)
    new = equivariant(model, "h", example=X, width=2, init="average", measure=False)
    np.testing.assert_allclose(new(X), (model(X) + jnp.flip(model(jnp.flip(X, 2)), 2)) / 2, atol=SMALL * 100)


def test_other_channels_are_refused_by_the_host():
    layer = equivariant(between(2), "h", example=X, measure=False).layers[2]
    for channels in (4, 7, 16):
        with pytest.raises((TypeError, ValueError)):
            layer(jnp.ones((1, 8, 9, channels)))


def test_masked_filters_stay_masked():
    mask = jnp.asarray(np.random.RandomState(0).randint(0, 2, (3, 3, 1, 16)))
    model = nnx.Sequential(exact(3, 8), alone(8, 2, mask=mask), exact(16, 2))
    new = wild(equivariant(model, "h", example=X, measure=False))
    assert max(errors(new, "h", X)) < SMALL
    alike(new, desymmetrize(new, example=X), X)


def test_a_depthwise_layer_into_an_answer_says_where_orbits_would_end():
    model = nnx.Sequential(exact(3, 8), alone(8))
    with pytest.raises(SymmetryError) as refusal:
        equivariant(model, "h", example=X)
    assert str(refusal.value) == (
        "model: 'layers.0' has no orbits on either side, for its channels meet 'layers.1', depthwise beside ordinary "
        "channels, which has no form for orbits. Expected an nnx.Conv or nnx.Linear between that and orbits. Put one "
        "there, or keep both ordinary with keep."
    )


def test_depthwise_layers_that_are_kept_stay_as_they_are():
    new = equivariant(separable(), "h", example=X, keep=["layers.0"], measure=False)
    assert type(new.layers[0]) is nnx.Conv
    new = equivariant(residual(), "h", example=X, keep=["last"], measure=False)
    assert type(new.last) is nnx.Conv
    new = equivariant(residual(), "h", example=X, keep=["own"], measure=False)
    assert type(new.last).__name__ == "PalindromeConv"
