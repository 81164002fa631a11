"""Batch norms for orbits that share statistics over processes, and the host's own converter to them."""

import copy
import pickle
import socket

import pytest
import torch
from test_norm import FILTERS, POSITIONS, SYMMETRY, norm, picture
from torch import nn

import symmetric_layers.torch as layers
from symmetric_layers.torch.sync import OrbitSyncBatchNorm

convert = nn.SyncBatchNorm.convert_sync_batchnorm


def network(**arguments):
    orbits = layers.OrbitBatchNorm2d(8, symmetry={"hv": 4}, **arguments)
    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.Sequential(orbits), nn.BatchNorm2d(8)).double()


@pytest.mark.parametrize(
    "arguments", [{}, {"affine": False}, {"track_running_stats": False}, {"momentum": None}, {"bias": False}]
)
def test_the_hosts_converter_makes_norms_that_answer_and_learn_alike(arguments, tolerance):
    model = network(**arguments)
    new = convert(copy.deepcopy(model))
    assert [type(module) for module in (new[1][0], new[2])] == [OrbitSyncBatchNorm, nn.SyncBatchNorm]
    assert isinstance(new[1][0], nn.SyncBatchNorm)
    assert new.state_dict().keys() == model.state_dict().keys()
    for training in (True, True, False):
        x = torch.randn(3, 1, 6, 5, dtype=torch.float64)
        expected, answer = model.train(training)(x), new.train(training)(x)
        assert (expected - answer).abs().max() <= tolerance["float64"]
        expected.pow(3).sum().backward()
        answer.pow(3).sum().backward()
    torch.testing.assert_close(new.state_dict(), model.state_dict(), rtol=0, atol=tolerance["float64"])
    for (name, old), parameter in zip(model.named_parameters(), new.parameters()):
        torch.testing.assert_close(parameter.grad, old.grad, msg=name)


def test_a_converted_norm_keeps_what_the_hosts_converter_keeps():
    model = network().eval()
    old = model[1][0]
    group = object()
    new = convert(model, group)[1][0]
    assert new.weight is old.weight
    assert new.running_var is old.running_var
    assert (new.training, new.process_group, new.plan.counts) == (False, group, {"hv": 4})
    assert "symmetry={'hv': 4}" in repr(new)
    new.process_group = None
    for twin in (copy.deepcopy(new), pickle.loads(pickle.dumps(new))):
        assert torch.equal(twin(torch.ones(1, 8, 2, 2).double()), new(torch.ones(1, 8, 2, 2).double()))


def test_other_modules_in_the_place_of_a_norm_stay_what_they_are():
    model = network()
    model[1][0] = nn.SyncBatchNorm(8)
    assert type(model[1][0]) is nn.SyncBatchNorm
    model[2] = layers.OrbitBatchNorm2d(8)
    assert type(convert(model)[2]) is nn.SyncBatchNorm  # without orbits it is the host's norm


def test_the_root_is_converted_by_the_orbits_own_converter():
    root = OrbitSyncBatchNorm.convert_sync_batchnorm(layers.OrbitBatchNorm2d(8, symmetry={"h": 8}))
    assert type(root) is OrbitSyncBatchNorm
    assert root(torch.randn(2, 8, 3, 3)).shape == (2, 8, 3, 3)
    model = OrbitSyncBatchNorm.convert_sync_batchnorm(network())
    assert [type(module) for module in (model[1][0], model[2])] == [OrbitSyncBatchNorm, nn.SyncBatchNorm]


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_it_is_built_like_its_host_and_takes_pictures_of_any_rank(rank, tolerance):
    layer = OrbitSyncBatchNorm(FILTERS, 1e-4, 0.3, symmetry=SYMMETRY[rank], dtype=torch.float64)
    other = norm(rank, eps=1e-4, momentum=0.3)
    for training in (True, False):
        x = torch.from_numpy(picture(rank))
        assert (layer.train(training)(x) - other.train(training)(x)).abs().max() <= tolerance["float64"]
    with pytest.raises(RuntimeError, match="running_mean should contain 13 elements not 12"):
        layer(torch.randn(2, FILTERS + 1, *POSITIONS[rank]))
    with pytest.raises(ValueError, match=r"expected at least 2D input \(got 1D input\)"):
        layer(torch.randn(3))


@pytest.fixture
def processes(monkeypatch):
    """A group of one process, which synchronises all the same."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    torch.distributed.init_process_group("gloo", init_method=address, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this PyTorch knows no other process")
def test_among_processes_it_answers_in_evaluation_and_trains_where_its_host_trains(processes, tolerance):
    model = network()
    new, plain = convert(copy.deepcopy(model)), convert(nn.Sequential(nn.BatchNorm2d(1))).double()
    x = torch.randn(3, 1, 6, 5, dtype=torch.float64)
    assert (new.eval()(x) - model.eval()(x)).abs().max() <= tolerance["float64"]
    with pytest.raises(ValueError) as expected:  # the host synchronises between accelerators only
        plain(x)
    with pytest.raises(ValueError) as refusal:
        new.train()(x)
    assert str(refusal.value) == str(expected.value)


@pytest.mark.parametrize("arguments", [{}, {"affine": False}, {"track_running_stats": False}, {"momentum": None}])
def test_every_run_of_orbits_is_synchronised_by_the_hosts_norm(arguments, monkeypatch, processes, tolerance):
    """The host's norm computes as on one process, since there is no accelerator here; it is asked for what is right."""
    layer = OrbitSyncBatchNorm(FILTERS, symmetry=SYMMETRY[2], dtype=torch.float64, **arguments)
    other = norm(2, **arguments)
    asked = []
    forward = nn.SyncBatchNorm.forward

    def alone(self, x):
        asked.append((self.process_group, x.shape[:2]))
        with monkeypatch.context() as patched:
            patched.setattr(torch.distributed, "is_initialized", lambda: False)
            return forward(self, x)

    monkeypatch.setattr(nn.SyncBatchNorm, "forward", alone)
    for seed in range(2):
        x = torch.from_numpy(picture(2, seed)).requires_grad_()
        answer, expected = layer(x), other(x)
        assert (answer - expected).abs().max() <= tolerance["float64"]
        answer.pow(3).sum().backward()
        expected.pow(3).sum().backward()
    other.eval()
    assert (layer.eval()(x) - other(x)).abs().max() <= tolerance["float64"]
    assert asked == [(None, (4, 1)), (None, (4, 1)), (None, (4, 6))] * 2  # and not in evaluation
    torch.testing.assert_close(layer.state_dict(), other.state_dict(), rtol=0, atol=tolerance["float64"])
    for parameter, old in zip(layer.parameters(), other.parameters()):
        torch.testing.assert_close(parameter.grad, old.grad)


def test_a_network_with_synchronised_norms_is_converted_and_goes_back(tolerance):
    model = convert(nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 2, 1))).double()
    new = layers.equivariant(model, "hv", example=torch.randn(1, 1, 6, 7))
    assert type(new[1]) is OrbitSyncBatchNorm
    assert new[1].weight.shape == (2,)
    x = torch.randn(3, 1, 6, 5, dtype=torch.float64)
    new(x)
    plain = layers.desymmetrize(new.eval())
    assert type(plain[1]) is nn.SyncBatchNorm
    assert plain[1].num_features == 8
    assert (plain(x) - new(x)).abs().max() <= tolerance["float64"]
