"""Pools over orbits and over positions, and heads that ignore the mirror."""

import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from flax import nnx
from flax_face import apply, deep, flat

from symmetric_layers import SymmetryError
from symmetric_layers.flax import InvariantConv, Mirrored, OrbitLinear, OrbitPool, TopKPool


def random(*shape):
    return np.random.RandomState(0).standard_normal(shape)


@pytest.mark.parametrize("reduce", ["mean", "max"])
@pytest.mark.parametrize("positions", [(), (5,), (4, 3), (2, 4, 3)])
def test_orbit_pool_is_the_oracles(reduce, positions, tolerance):
    symmetry = {"h": 4, "vz": 4, "hvz": 8}
    x = random(2, 19, *positions)
    y = apply(OrbitPool(symmetry, reduce), flat(x) if positions else jnp.asarray(x))
    expected = oracle.orbit_pool(x, symmetry, reduce)
    np.testing.assert_allclose(deep(y) if positions else y, expected, rtol=0, atol=tolerance["float64"])


def test_orbit_pool_takes_percentages_of_what_comes():
    pool = OrbitPool({"h": "50%"})
    assert pool(jnp.ones((2, 8))).shape == (2, 6)
    assert pool(jnp.ones((2, 5, 4))).shape == (2, 5, 3)
    assert pool(jnp.ones((0, 5, 4))).shape == (0, 5, 3)
    assert OrbitPool(None)(jnp.ones((2, 0))).shape == (2, 0)


@pytest.mark.parametrize("pool", [OrbitPool, lambda symmetry: Mirrored(lambda x: x, symmetry)])
def test_channels_that_do_not_fit_are_refused(pool):
    with pytest.raises(SymmetryError) as refusal:
        pool("h")
    assert str(refusal.value) == (
        "symmetry: 'h' is no mapping. Expected kinds and numbers, like {'h': 8, 'hv': '50%'}, or None. Use a dict."
    )
    with pytest.raises(SymmetryError) as refusal:
        pool({"hv": 8})(jnp.ones((1, 4, 4, 6)))
    assert str(refusal.value) == (
        "symmetry: 'hv': 8 does not fit 6 filters. Expected a multiple of 4 (the size of one 'hv' orbit), at most 6. "
        "Use such a number, or a percentage, which rounds down to whole orbits."
    )


def test_no_such_way_to_pool_is_refused():
    with pytest.raises(SymmetryError) as refusal:
        OrbitPool({"h": 2}, reduce="sum")
    assert str(refusal.value) == "reduce: 'sum' is no choice here. Expected 'mean' or 'max'. Use one of these."


@pytest.mark.parametrize("positions", [(7,), (3, 4), (2, 3, 2)])
@pytest.mark.parametrize("k", [1, 3, 7])
def test_top_k_pool_is_the_oracles(positions, k):
    x = random(2, 5, *positions)
    np.testing.assert_array_equal(deep(apply(TopKPool(k), flat(x))), oracle.top_k(x, k))


def test_the_gradient_of_top_k_goes_to_the_chosen_entries():
    x, g = random(1, 5, 1), np.array([[[2.0], [3.0]]])
    of_x = nnx.grad(lambda x: (TopKPool(2)(x) * g).sum())(jnp.asarray(x))
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


def test_too_large_a_k_is_refused():
    with pytest.raises(SymmetryError) as refusal:
        apply(TopKPool(5), jnp.ones((1, 3, 2)))
    assert str(refusal.value) == (
        "k: 5 is more than the 3 positions of the input. Expected at most 3. Use a smaller k, or a longer input."
    )


@pytest.mark.parametrize("symmetry", [{"h": 8}, {"hv": 8}, {"hvz": 8}, {"h": 4}, None])
def test_a_linear_head_ignores_the_mirror(symmetry, tolerance):
    head = OrbitLinear(8, 3, in_symmetry=symmetry, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    x = jnp.asarray(random(5, 8))
    for letter in sorted({letter for kind in symmetry or {} for letter in kind}):
        np.testing.assert_allclose(head(x[:, np.array(head.plan.exchange(letter))]), head(x), atol=1e-12)
    host = nnx.Linear(8, 3, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    first = np.array([index for index, letters in enumerate(head.plan.mirror) if not letters])
    np.testing.assert_array_equal(head.kernel[...], host.kernel[...][first])
    host.kernel[...] = head.full_kernel()
    np.testing.assert_allclose(head(x), host(x), atol=1e-12)


def test_only_distinct_numbers_lead_out_of_the_orbits():
    head = InvariantConv(16, 6, (3, 3), feature_group_count=2, in_symmetry={"hv": 16}, rngs=nnx.Rngs(0))
    host = nnx.Conv(16, 6, (3, 3), feature_group_count=2, rngs=nnx.Rngs(0))
    assert head.kernel.shape == (3, 3, 2, 6)
    assert head.full_kernel().shape == host.kernel.shape
    np.testing.assert_array_equal(head.kernel[...], host.kernel[...][:, :, ::4])
    host.kernel[...] = head.full_kernel()
    x = flat(random(2, 16, 7, 9).astype("float32"))
    np.testing.assert_allclose(head(x), host(x), atol=1e-5)
    assert head.kernel_shape == head.kernel.shape
    with pytest.raises(SymmetryError, match=r"^mask: an array of shape"):
        InvariantConv(4, 2, (1, 1), mask=jnp.ones((1, 1, 4, 2)), in_symmetry={"hv": 4}, rngs=nnx.Rngs(0))
    masked = InvariantConv(4, 2, (1, 1), mask=jnp.zeros((1, 1, 1, 2)), in_symmetry={"hv": 4}, rngs=nnx.Rngs(0))
    np.testing.assert_array_equal(masked(jnp.ones((1, 3, 3, 4))), 0)


@pytest.mark.parametrize(
    ("in_symmetry", "groups", "sentence"),
    [
        (
            {"h": 4, "hv": 4},
            1,
            "in_symmetry: {'h': 4, 'hv': 4} of 8 input channels holds channels of several kinds. "
            "Expected one kind for all. Use a layer for each and add the answers.",
        ),
        (
            {"h": 4},
            1,
            "in_symmetry: {'h': 4} of 8 input channels holds channels of several kinds. "
            "Expected one kind for all. Use a layer for each and add the answers.",
        ),
        (
            None,
            1,
            "in_symmetry: None names no orbits to lead out of. Expected kinds and numbers, like {'h': 8}. "
            "Use nnx.Conv where channels are ordinary.",
        ),
        (
            {"hv": 8},
            4,
            "in_symmetry: 'hv': 8 does not fit 8 input channels in 4 groups. Expected a multiple of 16 (the size of "
            "one 'hv' orbit times 4 groups), at most 8. "
            "Use such a number, or a percentage, which rounds down to whole orbits.",
        ),
    ],
)
def test_channels_of_several_sorts_do_not_lead_out(in_symmetry, groups, sentence):
    with pytest.raises(SymmetryError) as refusal:
        InvariantConv(8, 4, (3, 3), feature_group_count=groups, in_symmetry=in_symmetry, rngs=nnx.Rngs(0))
    assert str(refusal.value) == sentence


def test_where_positions_are_gone_nothing_is_mirrored_back():
    x = jnp.asarray(random(3, 4, 5, 6))
    pool = Mirrored(lambda x: x.max((1, 2)), {"h": 2, "hv": 4})
    np.testing.assert_array_equal(pool(x), x.max((1, 2)))
