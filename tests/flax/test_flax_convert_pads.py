"""Padding on one side that a call does before a convolution: it becomes part of that."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conditions_flax import drawn, exact
from converted_flax import SMALL, alike, errors, wild
from flax import nnx
from steps_flax import Call

from symmetric_layers import SymmetryError
from symmetric_layers.flax import desymmetrize, equivariant

X = drawn(1, 8, 9, 3)
ONE = ((0, 0), (0, 1), (0, 1), (0, 0))
TURNED = [pair[::-1] for pair in ONE]
PAD = partial(jnp.pad, pad_width=ONE)


def halves(inner, outer, **more):
    return exact(inner, outer, strides=2, **{"padding": "VALID", **more})


def network(step, **parts):
    known = {"own": exact(3, 8), "down": halves(8, 8), "last": exact(8, 8), "out": exact(8, 2)}
    return Call(lambda net, x: net.out(nnx.relu(net.last(nnx.relu(step(net, net.own(x)))))), **{**known, **parts})


def started(step, **parts):
    return Call(lambda net, x: net.out(nnx.relu(step(net, x))), **{"down": halves(3, 8), "out": exact(8, 2), **parts})


def before(net, x):
    return net.down(PAD(x))


def twice(net, x):
    return net.down(PAD(net.down(PAD(x))))


def both(net, x):
    y = PAD(x)
    return net.down(y) * net.more(y)


def cast(net, x):
    return net.down(PAD(x.astype(jnp.float32)).astype(x.dtype))


NETWORKS = {
    "on orbits": lambda: network(before),
    "on pictures": lambda: started(before),
    "into an answer": lambda: Call(lambda net, x: net.down(PAD(nnx.relu(net.own(x)))), own=exact(3, 8),
                                   down=halves(8, 2)),
    "by lax": lambda: network(lambda net, x: net.down(jax.lax.pad(x, 0.0, [(a, b, 0) for a, b in ONE]))),
    "unlike on both axes": lambda: network(lambda net, x: net.down(jnp.pad(x, ((0, 0), (2, 1), (0, 2), (0, 0))))),
    "beside padding of its own": lambda: network(before, down=halves(8, 8, padding=((1, 0), (1, 1)))),
    "called twice": lambda: network(twice),
    "by two layers": lambda: network(lambda net, x: net.down(PAD(x)) * net.more(PAD(x)), more=halves(8, 8)),
    "once for two layers": lambda: network(both, more=halves(8, 8)),
    "depthwise": lambda: network(before, down=halves(8, 8, feature_group_count=8)),
    "several filters": lambda: network(before, down=halves(8, 16, feature_group_count=8), last=exact(16, 8)),
    "a stem": lambda: started(lambda net, x: net.own(net.down(PAD(x))), down=halves(3, 3, feature_group_count=3),
                              own=exact(3, 8)),
    "a function on pictures": lambda: started(lambda net, x: net.down(net.pad(x)), pad=PAD),
    "a function on orbits": lambda: network(lambda net, x: net.down(net.pad(x)), pad=PAD),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_zeros_on_one_side_become_part_of_the_convolution(name):
    model = NETWORKS[name]()
    axes = "v" if name == "called twice" else "hv"
    new = wild(equivariant(model, axes, example=X, measure=False))
    assert max(errors(new, axes, X)) < SMALL
    if name == "a function on orbits":  # the mirrors see it in the mirror already
        assert (type(new.pad).__name__, hasattr(new.down, "padded")) == ("Mirrored", False)
        return
    assert hasattr(new.down, "padded")
    if name in ("by lax", "by two layers", "once for two layers", "depthwise", "unlike on both axes"):
        return  # the way back is that of others
    plain = desymmetrize(new, example=X)
    assert not [module for _, module in nnx.iter_modules(plain) if type(module).__module__.startswith("symmetric")]
    alike(new, plain, X)


def test_the_law_holds_at_other_sizes():
    new = wild(equivariant(network(before), "hv", example=X, measure=False))
    for shape in ((2, 7, 10, 3), (1, 10, 7, 3)):
        assert max(errors(new, "hv", drawn(*shape))) < SMALL
    assert max(errors(wild(equivariant(network(cast), "h", example=X)), "h", X)) < 1e-6


def test_orbits_compute_what_the_convolution_did():
    model = started(before)
    new = equivariant(model, "h", example=X, measure=False)
    seen, old = new.down(PAD(X)), model.down(PAD(X))
    np.testing.assert_allclose(seen[..., ::2], old[..., ::2], atol=SMALL)
    mirrored = jnp.flip(model.down(PAD(jnp.flip(X, 2))), 2)
    np.testing.assert_allclose(seen[..., 1::2], mirrored[..., ::2], atol=SMALL)


def test_a_network_with_padding_starts_as_the_average():
    model = wild(network(before))
    new = equivariant(model, "h", example=X, width=2, init="average", measure=False)
    np.testing.assert_allclose(new(X), (model(X) + jnp.flip(model(jnp.flip(X, 2)), 2)) / 2, atol=SMALL * 1000)


def test_padding_along_other_axes_is_left_alone():
    new = equivariant(network(lambda net, x: net.down(jnp.pad(x, ((0, 0), (0, 1), (1, 1), (0, 0))))), "h", example=X)
    assert not hasattr(new.down, "padded")
    kept = equivariant(started(before), "h", example=X, keep=["down"], measure=False)
    assert type(kept.down) is nnx.Conv


def even(net, x):
    return net.down(jnp.pad(x, ((0, 0), (0, -x.shape[1] % 2), (0, -x.shape[2] % 2), (0, 0))))


STEPS = {
    "ones": (lambda net, x: net.down(jnp.pad(x, ONE, constant_values=1.0)), {}),
    "a pool": (lambda net, x: net.down(nnx.max_pool(PAD(x), (2, 2), (2, 2))), {}),
    "another reader": (lambda net, x: net.down(PAD(x)) + PAD(x).mean((1, 2), keepdims=True), {}),
    "once with it, once without": (lambda net, x: net.down(PAD(x)) + net.down(x).mean((1, 2), keepdims=True), {}),
    "on the other side, too": (lambda net, x: net.down(PAD(x)) + net.down(jnp.pad(x, TURNED)), {}),
    "padding of the other sort": (before, {"down": halves(8, 8, padding="SAME")}),
    "made even": (even, {}),
}  # fmt: skip


@pytest.mark.parametrize("name", STEPS)
def test_other_padding_on_one_side_is_refused_with_a_way_out(name):
    step, parts = STEPS[name]
    with pytest.raises(SymmetryError) as refusal:
        equivariant(network(step, **parts), "h", example=X, measure=False)
    assert str(refusal.value) == (
        "model: 'pad' in 'its call' lies otherwise in the mirror at this size. Expected padding that is alike on both "
        "sides, or zeros, as many at every size, right before an nnx.Conv with padding='VALID'. Write it so, or make "
        "it a function that is an attribute, like self.pad = functools.partial(jnp.pad, ...), which is then seen in "
        "the mirror, too."
    )
