"""Batch norms that share statistics and affine terms within orbits."""

import numpy as np
import oracle
import pytest
import torch
from torch import nn

import symmetric_layers.torch as layers
from symmetric_layers import SymmetryError, plan

POSITIONS = {1: (7,), 2: (5, 6), 3: (3, 4, 5)}
SYMMETRY = {1: {"h": 4}, 2: {"h": 2, "hv": 4}, 3: {"z": 2, "hvz": 8}}
FILTERS = 12


def norm(rank, **arguments):
    return getattr(layers, f"OrbitBatchNorm{rank}d")(FILTERS, symmetry=SYMMETRY[rank], dtype=torch.float64, **arguments)


def picture(rank, seed=0):
    return np.random.RandomState(seed).standard_normal((4, FILTERS, *POSITIONS[rank])) * 3 + 1


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_training_is_the_oracles(rank, tolerance):
    layer, x = norm(rank, momentum=0.3), picture(rank)
    weight, bias = np.random.RandomState(1).standard_normal((2, layer.plan.stored))
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight))
        layer.bias.copy_(torch.from_numpy(bias))
    expected, mean, var = oracle.orbit_batch_norm(x, SYMMETRY[rank], layer.eps, weight, bias)
    answer = layer(torch.from_numpy(x))
    np.testing.assert_allclose(answer.detach().numpy(), expected, rtol=0, atol=tolerance["float64"])
    sizes = np.bincount([stored for stored, _ in oracle.arrangement(SYMMETRY[rank], FILTERS)])
    count = sizes * x[:, 0].size
    np.testing.assert_allclose(layer.running_mean.numpy(), 0.3 * mean, rtol=0, atol=tolerance["float64"])
    unbiased = var * count / (count - 1)
    np.testing.assert_allclose(layer.running_var.numpy(), 0.7 + 0.3 * unbiased, rtol=0, atol=tolerance["float64"])
    assert layer.num_batches_tracked == 1


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_evaluation_uses_what_was_tracked(rank, tolerance):
    layer = norm(rank)
    for seed in range(3):
        layer(torch.from_numpy(picture(rank, seed)))
    host = getattr(nn, f"BatchNorm{rank}d")(FILTERS, dtype=torch.float64).eval()
    index = list(layer.plan.representative)
    host.load_state_dict({key: value[index] if value.dim() else value for key, value in layer.state_dict().items()})
    x = torch.from_numpy(picture(rank, 9))
    assert (layer.eval()(x) - host(x)).abs().max() <= tolerance["float64"]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_exchanging_channels_before_or_after_is_the_same(rank, training, tolerance):
    layer = norm(rank)
    layer(torch.from_numpy(picture(rank)))
    with torch.no_grad():
        layer.weight.normal_()
        layer.bias.normal_()
    layer.train(training)
    x = picture(rank, 1)
    for letter in {letter for kind in SYMMETRY[rank] for letter in kind}:
        mirrored = layer(torch.from_numpy(oracle.act(x, letter, SYMMETRY[rank]))).detach().numpy()
        expected = oracle.act(layer(torch.from_numpy(x)).detach().numpy(), letter, SYMMETRY[rank])
        np.testing.assert_allclose(mirrored, expected, rtol=0, atol=10 * tolerance["float64"])
        host = getattr(nn, f"BatchNorm{rank}d")(FILTERS, dtype=torch.float64)
        with torch.no_grad():
            host.weight.normal_()
        mirrored = host(torch.from_numpy(oracle.act(x, letter, SYMMETRY[rank]))).detach().numpy()
        expected = oracle.act(host(torch.from_numpy(x)).detach().numpy(), letter, SYMMETRY[rank])
        assert np.abs(mirrored - expected).max() > 0.1, "an ordinary batch norm breaks the law"


@pytest.mark.parametrize(
    "arguments", [{}, {"momentum": None}, {"affine": False}, {"bias": False}, {"track_running_stats": False}]
)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_one_orbit_a_channel_is_the_host_with_more_positions(rank, arguments, tolerance):
    kind = {1: "h", 2: "hv", 3: "hvz"}[rank]
    size = 2**rank
    layer = getattr(layers, f"OrbitBatchNorm{rank}d")(
        2 * size, symmetry={kind: 2 * size}, dtype=torch.float64, **arguments
    )
    host = nn.BatchNorm1d(2, dtype=torch.float64, **arguments)
    for training in (True, True, False):
        x = torch.randn(4, 2 * size, *POSITIONS[rank], dtype=torch.float64)
        layer.train(training)
        host.train(training)
        expected = host(x.reshape(4, 2, -1)).reshape(x.shape)
        assert (layer(x) - expected).abs().max() <= tolerance["float64"]
    for key, value in host.state_dict().items():
        assert torch.allclose(layer.state_dict()[key], value, rtol=0, atol=tolerance["float64"])


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_without_symmetry_it_is_the_host(rank):
    host = getattr(nn, f"BatchNorm{rank}d")(6)
    layer = getattr(layers, f"OrbitBatchNorm{rank}d")(6)
    x = torch.randn(4, 6, *POSITIONS[rank])
    assert torch.equal(layer(x), host(x))
    assert isinstance(layer, type(host))
    assert layer.state_dict().keys() == host.state_dict().keys()


def test_vectors_are_normalised_too():
    layer = layers.OrbitBatchNorm1d(8, symmetry={"hv": 8})
    assert layer(torch.randn(16, 8)).shape == (16, 8)
    assert layer.weight.shape == (2,)


def test_gradients_are_shared_within_orbits():
    layer = layers.OrbitBatchNorm2d(4, symmetry={"h": 4})
    layer(torch.randn(3, 4, 5, 5)).square().sum().backward()
    assert layer.weight.grad.shape == (2,)


def test_the_repr_shows_the_symmetry():
    host = repr(nn.BatchNorm2d(8))
    layer = layers.OrbitBatchNorm2d(8, symmetry={"h": "50%"})
    assert repr(layer) == "Orbit" + host[:-1] + ", symmetry={'h': 4})"
    assert layers.OrbitBatchNorm2d(8, symmetry={"h": "50%"}).plan is plan({"h": 4}, 8, 2)


def test_wrong_inputs_get_the_hosts_error():
    for rank in (1, 2, 3):
        host = getattr(nn, f"BatchNorm{rank}d")(FILTERS)
        layer = getattr(layers, f"OrbitBatchNorm{rank}d")(FILTERS, symmetry=SYMMETRY[rank])
        for x in (torch.randn(3), torch.randn(2, FILTERS + 1, *POSITIONS[rank])):
            with pytest.raises((ValueError, RuntimeError)) as expected:
                host(x)
            with pytest.raises((ValueError, RuntimeError)) as refusal:
                layer(x)
            assert str(refusal.value) == str(expected.value)
            assert type(refusal.value) is type(expected.value)


def test_a_symmetry_that_does_not_fit_is_refused():
    with pytest.raises(SymmetryError, match="'z' is no kind of mirror in 2-D"):
        layers.OrbitBatchNorm2d(8, symmetry={"z": 2})
    with pytest.raises(SymmetryError, match="'h': 3 does not fit 8 filters"):
        layers.OrbitBatchNorm2d(8, symmetry={"h": 3})
