"""Pooling over orbits, and over the k largest values."""

import numpy as np
import oracle
import pytest
import torch

from symmetric_layers import SymmetryError, plan
from symmetric_layers.torch import MirrorMean, OrbitPool, SymmetricConv2d, TopKPool

SYMMETRY = {"h": 2, "v": 4, "hv": 8}


@pytest.mark.parametrize("positions", [(), (5,), (5, 4), (3, 4, 5)])
@pytest.mark.parametrize("reduce", ["mean", "max"])
def test_orbit_pool_is_the_oracles(reduce, positions, tolerance):
    x = np.random.RandomState(0).standard_normal((3, 16, *positions))
    answer = OrbitPool(SYMMETRY, reduce)(torch.from_numpy(x)).numpy()
    assert answer.shape == (3, 7, *positions)
    np.testing.assert_allclose(answer, oracle.orbit_pool(x, SYMMETRY, reduce), rtol=0, atol=tolerance["float64"])


def test_orbit_pool_understands_percentages_and_no_symmetry():
    x = torch.randn(2, 8, 5)
    assert OrbitPool({"h": "50%"})(x).shape == (2, 6, 5)
    assert torch.equal(OrbitPool(None)(x), x)
    assert repr(OrbitPool({"h": "50%"}, "max")) == "OrbitPool({'h': '50%'}, reduce='max')"


@pytest.mark.parametrize("reduce", ["mean", "max"])
def test_a_pooled_orbit_does_not_notice_the_mirror(reduce, tolerance):
    layer = SymmetricConv2d(3, 8, 3, padding=1, symmetry={"hv": 8}, dtype=torch.float64)
    pool = OrbitPool({"hv": 8}, reduce)
    x = torch.randn(2, 3, 6, 7, dtype=torch.float64)
    for axes in ([-1], [-2], [-1, -2]):
        assert (pool(layer(x.flip(axes))) - pool(layer(x)).flip(axes)).abs().max() <= tolerance["float64"]


def test_orbit_pool_refuses_in_a_sentence():
    with pytest.raises(SymmetryError) as refusal:
        OrbitPool(SYMMETRY, "median")
    assert str(refusal.value) == ("reduce: 'median' is no choice here. Expected 'mean' or 'max'. Use one of these.")
    with pytest.raises(SymmetryError, match="does not fit 3 filters"):
        OrbitPool({"h": 4})(torch.randn(1, 3, 5))
    with pytest.raises(SymmetryError, match="'x' is no kind of mirror"):
        OrbitPool({"x": 4})


@pytest.mark.parametrize("positions", [(9,), (3, 3), (2, 2, 3)])
@pytest.mark.parametrize("k", [1, 4, 9])
def test_top_k_is_the_oracles(k, positions):
    x = np.random.RandomState(0).standard_normal((3, 5, *positions))
    np.testing.assert_array_equal(TopKPool(k)(torch.from_numpy(x)).numpy(), oracle.top_k(x, k))


def test_top_one_is_global_max_pooling():
    x = torch.randn(2, 3, 4, 5)
    assert torch.equal(TopKPool(1)(x)[..., 0], torch.nn.functional.adaptive_max_pool2d(x, 1)[..., 0, 0])


def test_the_gradient_goes_to_the_chosen_entries():
    x = torch.tensor([[[1.0, 5.0, 3.0, 4.0]]], requires_grad=True)
    (TopKPool(2)(x) * torch.tensor([10.0, 1.0])).sum().backward()
    assert x.grad.tolist() == [[[0, 10, 0, 1]]]


@pytest.mark.parametrize(
    ("k", "sentence"),
    [
        (0, "k: 0 is no usable count. Expected a whole number, at least 1. Use such a number."),
        (1.5, "k: 1.5 is no usable count. Expected a whole number, at least 1. Use such a number."),
        (True, "k: True is no usable count. Expected a whole number, at least 1. Use such a number."),
    ],
)
def test_top_k_refuses_in_a_sentence(k, sentence):
    with pytest.raises(SymmetryError) as refusal:
        TopKPool(k)
    assert str(refusal.value) == sentence


def test_top_k_refuses_too_few_positions():
    with pytest.raises(SymmetryError) as refusal:
        TopKPool(5)(torch.randn(1, 2, 4))
    assert str(refusal.value) == (
        "k: 5 is more than the 4 positions of the input. Expected at most 4. Use a smaller k, or a longer input."
    )


def test_a_mirror_mean_is_the_mean():
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    torch.testing.assert_close(MirrorMean()(x), x.mean((2, 3), keepdim=True), rtol=0, atol=1e-15)


@pytest.mark.parametrize("positions", [(7,), (8, 9), (31, 33), (5, 6, 7), (64, 64)])
def test_a_mirror_mean_does_not_see_a_mirror(positions):
    x = torch.randn(2, 5, *positions, generator=torch.Generator().manual_seed(0))
    for axis in range(2, x.dim()):
        assert torch.equal(MirrorMean()(x), MirrorMean()(x.flip(axis)))


@pytest.mark.parametrize("letters", ["h", "v", "z", "hv", "hz", "vz", "hvz"])
def test_means_over_orbits_do_not_see_an_exchange(letters):
    x = torch.randn(2, 16, 33, generator=torch.Generator().manual_seed(0))
    pool, whole = OrbitPool({"hvz": 16}), plan({"hvz": 16}, 16, 3)
    assert torch.equal(pool(x), pool(x[:, list(whole.exchange(letters))]))
