"""The law is measured as it is."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from symmetric_layers import SymmetryError
from symmetric_layers.flax import OrbitBatchNorm, OrbitPool, SymmetricConv, equivariance_error

BANK = {"h": 4, "hv": 4}
X = jnp.asarray(np.random.RandomState(0).standard_normal((2, 7, 8, 3)))


def layer(**more):
    return SymmetricConv(3, 8, (3, 3), symmetry=BANK, param_dtype=jnp.float64, rngs=nnx.Rngs(0), **more)


def test_deviations_are_those_of_ordinary_code():
    host = nnx.Conv(3, 4, (3, 3), param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    found = equivariance_error(host, X, "vh")
    assert [(deviation.axis, deviation.output) for deviation in found] == [("h", ""), ("v", "")]
    for axis, deviation in zip((2, 1), found, strict=True):
        expected = jnp.flip(host(X), axis)
        error = float(jnp.abs(host(jnp.flip(X, axis)) - expected).max())
        assert deviation.absolute == pytest.approx(error)
        assert deviation.relative == pytest.approx(error / float(jnp.abs(expected).max()))


def test_of_orbits_those_are_measured_that_know_the_letter(tolerance):
    net = layer()
    for letter in "hv":  # 'h' orbits do not know 'v', and free filters know nothing
        (named,) = equivariance_error(net, X, letter, symmetry=BANK)
        (unnamed,) = equivariance_error(net, X, letter)
        assert named.absolute <= tolerance["float64"] < 1e-3 < unnamed.absolute
    deep = SymmetricConv(
        8, 4, (3, 3), symmetry={"hv": 4}, in_symmetry={"hv": 8}, param_dtype=jnp.float64, rngs=nnx.Rngs(0)
    )
    (named,) = equivariance_error(deep, net(X), "h", in_symmetry={"hv": 8}, symmetry={"hv": 4})
    assert named.absolute <= tolerance["float64"]
    (vector,) = equivariance_error(lambda x: net(x).mean((1, 2)), X, "v", symmetry=BANK)
    assert vector.absolute <= tolerance["float64"]
    broken = SymmetricConv(3, 12, (3, 3), 2, symmetry={"h": 4, "hv": 4}, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    (found,) = equivariance_error(broken, X, "h", symmetry={"h": 4, "hv": 4})
    assert found.relative > 1e-2
    assert equivariance_error(lambda x: x[:0], X, "h") == [("h", "", 0.0, 0.0)]


def test_every_output_is_measured_and_named():
    net, pool = layer(), OrbitPool({"h": 4, "hv": 4})
    found = equivariance_error(lambda x: {"map": net(x), "more": (pool(net(x)).mean((1, 2)), x.sum())}, X, "h")
    assert [deviation.output for deviation in found] == ["map", "more.0", "more.1"]
    assert found[0].absolute > 1e-3
    assert max(found[1].absolute, found[2].absolute) < 1e-9
    (other,) = equivariance_error(lambda x: x[:, : 3 + int(x[0, 0, 0, 0] > x[0, -1, 0, 0])], X, "v")
    assert other.absolute == float("inf")
    with pytest.raises(SymmetryError) as refusal:
        equivariance_error(lambda x: {"left" if x[0, 0, 0, 0] > x[0, 0, -1, 0] else "right": x}, X, "h")
    assert str(refusal.value).startswith("model: the answer to the picture mirrored along 'h' has other parts (['")
    (broken,) = equivariance_error(lambda x: x / 0, X, "h")
    assert broken.relative == float("inf")


def test_a_module_is_the_same_afterwards():
    norm = OrbitBatchNorm(3, symmetry={"h": 2}, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    (found,) = equivariance_error(norm, X, "h", in_symmetry={"h": 2}, symmetry={"h": 2})
    assert found.relative < 1e-12
    np.testing.assert_array_equal(norm.mean[...], 0)


@pytest.mark.parametrize(
    ("x", "axes", "sentence"),
    [
        (
            X,
            "z",
            "axes: 'z' is no kind of mirror in 2-D. Expected different letters out of 'h', 'v'. "
            "Use 'h' or 'v' or 'hv'.",
        ),
        (
            X[0, 0],
            "h",
            "x: an array of shape (8, 3) is no batch of pictures. Expected (batch, *positions, channels) with 1 to 3 "
            "positions. Add the axes that are missing.",
        ),
    ],
)
def test_what_cannot_be_measured_is_refused(x, axes, sentence):
    with pytest.raises(SymmetryError) as refusal:
        equivariance_error(lambda x: x, x, axes)
    assert str(refusal.value) == sentence
