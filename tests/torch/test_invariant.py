"""The way out of the orbits: answers that mirror as ordinary maps, heads that ignore the mirror."""

import copy
import itertools

import numpy as np
import oracle
import pytest
import torch

import symmetric_layers.torch as layers
from symmetric_layers import SymmetryError

SIZES = {1: (8,), 2: (8, 9), 3: (5, 6, 7)}
IN_SYMMETRY = {1: {"h": 4}, 2: {"hv": 8}, 3: {"hvz": 16}}


def law_error(layer, in_symmetry, groups, letters, positions, channels):
    """How far the answer to a mirrored picture is from the mirrored answer."""
    x = np.random.RandomState(0).standard_normal((2, channels, *positions))
    straight = layer(torch.from_numpy(x)).detach().numpy()
    worst = 0.0
    for letter in letters:
        seen = oracle.act(x, letter, in_symmetry, groups)
        answer = layer(torch.from_numpy(np.ascontiguousarray(seen))).detach().numpy()
        worst = max(worst, np.abs(answer - oracle.flip(straight, letter)).max())
    return worst


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("from_orbits", [True, False])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [1, 3, 4])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_the_answer_mirrors_at_every_size(rank, groups, kernel, stride, from_orbits, transposed, tolerance):
    name = f"InvariantConv{'Transpose' if transposed else ''}{rank}d"
    channels = 2 * sum(IN_SYMMETRY[rank].values())
    in_symmetry = {kind: 2 * count for kind, count in IN_SYMMETRY[rank].items()} if from_orbits else None
    more = {"output_padding": stride - 1} if transposed else {}
    layer = getattr(layers, name)(
        channels, 6, kernel, stride, padding=0, groups=groups, in_symmetry=in_symmetry, dtype=torch.float64, **more
    )
    for larger in itertools.product((0, 1), repeat=rank):
        positions = [n + more for n, more in zip(SIZES[rank], larger, strict=True)]
        assert law_error(layer, in_symmetry, groups, "hvz"[:rank], positions, channels) <= tolerance["float64"]
    assert layer.full_weight().shape[2:] == (kernel,) * rank


def test_only_distinct_numbers_are_stored():
    head = layers.InvariantConv2d(16, 3, 3, in_symmetry={"hv": 16})
    assert head.weight.shape == (3, 4, 3, 3)
    assert head.full_weight().shape == (3, 16, 3, 3)
    alone = layers.InvariantConv2d(2, 3, (3, 4))
    assert alone.weight.shape == (3, 2, 2, 2)
    assert torch.equal(alone.full_weight(), alone.full_weight().flip(-1))
    assert torch.equal(alone.full_weight(), alone.full_weight().flip(-2))
    up = layers.InvariantConvTranspose2d(16, 6, 2, 2, groups=2, in_symmetry={"hv": 16})
    assert up.weight.shape == (4, 3, 2, 2)
    assert up.full_weight().shape == (16, 3, 2, 2)


def test_some_letters_may_be_left_out(tolerance):
    layer = layers.InvariantConv2d(8, 3, 3, in_symmetry={"hv": 8}, axes="h", dtype=torch.float64)
    assert layer.weight.shape == (3, 4, 3, 3)
    assert law_error(layer, {"hv": 8}, 1, "h", (6, 7), 8) <= tolerance["float64"]
    assert law_error(layer, {"hv": 8}, 1, "v", (6, 7), 8) > 0.01
    more = layers.InvariantConv2d(8, 3, 3, in_symmetry={"h": 8}, axes="hv", dtype=torch.float64)
    assert more.weight.shape == (3, 4, 2, 3)
    assert law_error(more, {"h": 8}, 1, "hv", (6, 7), 8) <= tolerance["float64"]
    assert repr(more).endswith("axes='hv', in_symmetry={'h': 8})")


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
def test_every_padding_mode_and_dilation_obeys(mode, tolerance):
    layer = layers.InvariantConv2d(
        8, 2, 3, 2, 2, dilation=2, padding_mode=mode, in_symmetry={"hv": 8}, dtype=torch.float64
    )
    for positions in ((8, 9), (9, 8)):
        assert law_error(layer, {"hv": 8}, 1, "hv", positions, 8) <= tolerance["float64"]


def test_output_size_is_lawful_and_reached(tolerance):
    layer = layers.InvariantConvTranspose2d(4, 2, 3, 2, 1, in_symmetry={"h": 4}, dtype=torch.float64)
    x = torch.randn(1, 4, 5, 5, dtype=torch.float64)
    answer = layer(x, output_size=(10, 10))
    assert answer.shape[2:] == (10, 10)
    mirrored = layer(x[:, [1, 0, 3, 2]].flip(-1), output_size=(10, 10))
    assert (mirrored - answer.flip(-1)).abs().max() <= tolerance["float64"]


def test_it_starts_with_the_hosts_variance():
    torch.manual_seed(0)
    host = torch.nn.Conv2d(32, 64, 3)
    layer = layers.InvariantConv2d(32, 64, 3, in_symmetry={"hv": 32})
    assert layer.full_weight().std().item() == pytest.approx(host.weight.std().item(), rel=0.05)


def test_copies_and_state_answer_the_same():
    layer = layers.InvariantConv2d(8, 3, 3, in_symmetry={"hv": 8})
    fresh = layers.InvariantConv2d(8, 3, 3, in_symmetry={"hv": 8})
    fresh.load_state_dict(layer.state_dict())
    x = torch.randn(2, 8, 7, 7)
    assert torch.equal(fresh(x), layer(x))
    assert torch.equal(copy.deepcopy(layer)(x), layer(x))
    assert torch.autograd.gradcheck(layer.double(), (torch.randn(1, 8, 4, 4, dtype=torch.float64, requires_grad=True),))


def test_channels_of_two_sorts_are_refused():
    with pytest.raises(SymmetryError) as refusal:
        layers.InvariantConv2d(10, 3, 3, in_symmetry={"hv": 8})
    assert str(refusal.value) == (
        "in_symmetry: {'hv': 8} of 10 input channels holds channels that 'hv' exchanges and channels that it does not. "
        "Expected one sort. Use a layer for each and add the answers."
    )
    with pytest.raises(SymmetryError, match=r"^axes: 'z' is no kind of mirror in 2-D"):
        layers.InvariantConv2d(8, 3, 3, axes="z")


@pytest.mark.parametrize("symmetry", [{"h": 8}, {"hv": 8}, {"hvz": 8}, {"h": 4}])
def test_a_linear_head_ignores_the_mirror(symmetry):
    head = layers.OrbitLinear(8, 3, in_symmetry=symmetry)
    x = torch.randn(5, 8)
    for letter in sorted({letter for kind in symmetry for letter in kind}):
        assert torch.allclose(head(x), head(x[:, list(head.plan.exchange(letter))]), atol=1e-6)
    host = torch.nn.Linear(8, 3)
    with torch.no_grad():
        host.weight.copy_(head.full_weight())
        host.bias.copy_(head.bias)
    assert torch.allclose(head(x), host(x), atol=1e-6)
    assert head.weight.shape == (3, head.plan.stored)
    assert repr(head) == f"OrbitLinear(in_features=8, out_features=3, bias=True, in_symmetry={symmetry})"


def test_a_linear_head_without_symmetry_is_the_host():
    torch.manual_seed(0)
    host = torch.nn.Linear(8, 3)
    torch.manual_seed(0)
    head = layers.OrbitLinear(8, 3)
    assert torch.allclose(head.weight, host.weight)
    with pytest.raises(SymmetryError, match="'h': 3 does not fit 8 input channels"):
        layers.OrbitLinear(8, 3, in_symmetry={"h": 3})
