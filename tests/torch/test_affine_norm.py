"""Group, instance and layer norms whose affine terms are shared within orbits."""

import pytest
import torch
from torch import nn

import symmetric_layers.torch as layers
from symmetric_layers import SymmetryError, plan

KINDS = {1: "h", 2: "hv", 3: "hvz"}
POSITIONS = {1: (7,), 2: (5, 6), 3: (3, 4, 5)}


def with_random_numbers(layer):
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_()
    return layer.double()


def host_with_the_full_numbers(host, layer):
    """The host's layer, holding what the orbit layer means."""
    index = list(layer.plan.representative)
    host.load_state_dict({k: v[index] if v.dim() else v for k, v in layer.state_dict().items()})
    return host.double()


def cases():
    for rank in (1, 2, 3):
        kind, channels = KINDS[rank], 2 * 2**rank + 2
        symmetry = {kind: 2 * 2**rank}
        for groups in (1, channels):
            yield (
                layers.OrbitGroupNorm(groups, channels, symmetry=symmetry),
                nn.GroupNorm(groups, channels),
                rank,
            )
        for arguments in ({"affine": True}, {"affine": True, "track_running_stats": True}, {}):
            yield (
                getattr(layers, f"OrbitInstanceNorm{rank}d")(channels, symmetry=symmetry, **arguments),
                getattr(nn, f"InstanceNorm{rank}d")(channels, **arguments),
                rank,
            )
    yield layers.OrbitGroupNorm(4, 16, symmetry={"hv": 16}), nn.GroupNorm(4, 16), 2
    yield layers.OrbitGroupNorm(8, 16, symmetry={"hv": 16}), nn.GroupNorm(8, 16), 2


CASES = list(cases())


@pytest.mark.parametrize(("layer", "host", "rank"), CASES, ids=lambda value: str(value))
def test_it_is_the_host_with_equal_numbers_in_an_orbit_and_keeps_the_law(layer, host, rank, tolerance):
    layer = with_random_numbers(layer)
    host = host_with_the_full_numbers(host, layer)
    assert isinstance(layer, type(host))
    for training in (True, False):
        layer.train(training)
        host = host_with_the_full_numbers(host, layer).train(training)
        x = torch.randn(3, layer.plan.filters, *POSITIONS[rank], dtype=torch.float64)
        assert (layer(x) - host(x)).abs().max() <= tolerance["float64"]
        for letter in KINDS[rank]:
            exchange = list(layer.plan.exchange(letter))
            moved = layer(x[:, exchange].flip(-1)) - layer(x)[:, exchange].flip(-1)
            assert moved.abs().max() <= tolerance["float64"]


def test_running_statistics_are_the_mean_over_the_orbit():
    layer = layers.OrbitInstanceNorm2d(4, track_running_stats=True, symmetry={"h": 4})
    host = nn.InstanceNorm2d(4, track_running_stats=True)
    x = torch.randn(3, 4, 5, 5) + torch.arange(4)[:, None, None]
    layer(x), host(x)
    assert torch.allclose(layer.running_mean, host.running_mean.view(2, 2).mean(1))
    assert torch.allclose(layer.running_var, host.running_var.view(2, 2).mean(1))


def test_one_picture_without_a_batch():
    layer = layers.OrbitInstanceNorm2d(4, affine=True, symmetry={"h": 4})
    x = torch.randn(4, 5, 5)
    assert torch.equal(layer(x), layer(x[None])[0])
    with pytest.raises(ValueError, match="to match num_features"):
        layer(torch.randn(2, 5, 4, 4))


@pytest.mark.parametrize("arguments", [{}, {"bias": False}, {"elementwise_affine": False}])
def test_layer_norm_is_the_host_in_both_formats(arguments, tolerance):
    layer = with_random_numbers(layers.OrbitLayerNorm(8, symmetry={"hv": 8}, **arguments))
    host = host_with_the_full_numbers(nn.LayerNorm(8, **arguments), layer)
    x = torch.randn(2, 5, 6, 8, dtype=torch.float64)
    assert (layer(x) - host(x)).abs().max() <= tolerance["float64"]
    first = layers.OrbitLayerNorm(8, symmetry={"hv": 8}, data_format="channels_first", **arguments).double()
    first.load_state_dict(layer.state_dict())
    assert (first(x.movedim(-1, 1)).movedim(1, -1) - host(x)).abs().max() <= tolerance["float64"]
    exchange = list(layer.plan.exchange("v"))
    assert (layer(x[..., exchange]) - layer(x)[..., exchange]).abs().max() <= tolerance["float64"]


def test_what_does_not_fit_is_refused():
    with pytest.raises(SymmetryError) as refusal:
        layers.OrbitGroupNorm(2, 12, symmetry={"hv": 8})
    assert str(refusal.value) == (
        "num_groups: 2 groups of 6 channels are torn apart by the exchange along 'v'. Expected one of [1, 3, 6, 12]. "
        "Use such a number."
    )
    with pytest.raises(SymmetryError) as refusal:
        layers.OrbitLayerNorm([8, 5, 5], symmetry={"h": 8})
    assert str(refusal.value) == (
        "normalized_shape: [8, 5, 5] holds positions as well as channels. Expected the number of channels. "
        "Use OrbitLayerNorm(channels), which any size of picture fits."
    )
    with pytest.raises(SymmetryError, match="'channels' is no choice here"):
        layers.OrbitLayerNorm(8, data_format="channels")
    with pytest.raises(SymmetryError, match="'z' is no kind of mirror in 2-D"):
        layers.OrbitInstanceNorm2d(8, symmetry={"z": 8})


def test_the_repr_shows_the_symmetry():
    assert repr(layers.OrbitGroupNorm(2, 8, symmetry={"h": 8})).endswith("symmetry={'h': 8})")
    assert repr(layers.OrbitLayerNorm(8, symmetry={"h": 8})).endswith("symmetry={'h': 8})")
    assert repr(layers.OrbitInstanceNorm2d(8, symmetry={"h": 8})).endswith("symmetry={'h': 8})")
    assert layers.OrbitGroupNorm(2, 8, symmetry={"h": 8}).plan is plan({"h": 8}, 8, 3)


@pytest.mark.parametrize("training", [True, False])
def test_instance_norm_without_momentum_is_the_host(training):
    layer = layers.OrbitInstanceNorm2d(4, momentum=None, track_running_stats=True, symmetry={"h": 4}).train(training)
    host = nn.InstanceNorm2d(4, momentum=None, track_running_stats=True).train(training)
    x = torch.randn(3, 4, 5, 5) + 2
    torch.testing.assert_close(layer(x), host(x))
    for name in ("running_mean", "running_var"):
        assert torch.equal(layer.state_dict()[name], host.state_dict()[name][:2])
