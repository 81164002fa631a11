"""From a trained network to the nearest mirrored banks."""

import copy
import itertools
import sys

import pytest
import torch
from networks_torch import ResNet, UNet
from torch import nn

from symmetric_layers import SymmetryError, plan
from symmetric_layers.torch import SymmetricConv1d, SymmetricConv2d, SymmetricConv3d, desymmetrize, symmetrize
from symmetric_layers.torch.convert.match import nearest, order_of

MIRRORS = {1: {"h": 4}, 2: {"h": 4, "v": 2, "hv": 8}, 3: {"z": 2, "hvz": 16}}


class Chain(nn.Module):
    """A network in which channels may change places: norms, slopes, scales, groups, a transposed layer, a head."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.act = nn.PReLU(16)
        self.up = nn.ConvTranspose2d(16, 18, 3, 2, bias=False)
        self.scale = nn.Parameter(torch.rand(18, 1, 1))
        self.drop = nn.Dropout2d(0.2)
        self.last = nn.Conv2d(18, 20, (3, 2), groups=1)
        self.head = nn.Linear(20, 3)

    def forward(self, x):
        x = self.drop(self.scale * self.up(self.act(self.norm(self.first(x)))))
        return self.head(nn.functional.gelu(self.last(x)).mean((2, 3)))


def randomise(model):
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for tensor in [*model.parameters(), *model.buffers()]:
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator, dtype=tensor.dtype) + 0.2)
    return model


def scrambled(model):
    """The same network with its channels in another order."""
    model = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(6)
    one, two, three = (torch.randperm(n, generator=generator) for n in (16, 18, 20))
    with torch.no_grad():
        for tensor in (*model.first.parameters(), *model.norm.state_dict().values(), model.act.weight, model.up.weight):
            tensor.copy_(tensor[one] if tensor.dim() else tensor)
        model.up.weight.copy_(model.up.weight[:, two])
        model.scale.copy_(model.scale[two])
        model.last.weight.copy_(model.last.weight[:, two])
        for tensor in model.last.parameters():
            tensor.copy_(tensor[three])
        model.head.weight.copy_(model.head.weight[:, three])
    return model


def test_mirrors_in_scrambled_order_are_found_and_the_network_computes_what_it_did(tolerance):
    mirrored = desymmetrize(symmetrize(randomise(Chain().double()), {"h": "25%", "hv": "50%"})).eval()
    model = scrambled(mirrored)
    x = torch.randn(2, 2, 7, 6, dtype=torch.float64)
    assert (model(x) - mirrored(x)).abs().max() <= tolerance["float64"] * mirrored(x).abs().max()
    sentences = []
    new = symmetrize(model, {"h": "25%", "hv": "50%"}, init="nearest", example=x, report=sentences.append)
    assert new.first.weight.shape[0] < 16
    assert (new(x) - model(x)).abs().max() <= tolerance["float64"] * model(x).abs().max()
    assert sentences == [f"'{name}': 100.0% of its filters' squares are kept." for name in ("first", "up", "last")]
    assert (symmetrize(model, {"h": "25%", "hv": "50%"})(x) - model(x)).abs().max() > 1e-3


@pytest.mark.parametrize("inplace", [False, True])
def test_what_reads_the_channels_is_given_to_the_optimizer_anew(inplace):
    model = randomise(Chain().double())
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    x = torch.randn(2, 2, 7, 6, dtype=torch.float64)
    new = symmetrize(model, {"h": "50%"}, init="nearest", example=x, optimizer=optimizer, inplace=inplace)
    assert {id(p) for group in optimizer.param_groups for p in group["params"]} == {id(p) for p in new.parameters()}
    assert (new is model) is inplace
    if not inplace:
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def change_of(filters, bias, order, arranged):
    """How much a bank changes, in the slow way."""
    total = 0.0
    for orbit in arranged.orbits:
        chosen = [order[member] for member in orbit.members]
        seen = [filters[i].flip(arranged.axes[m]) for i, m in zip(chosen, orbit.members)]
        mean = sum(seen) / len(seen)
        total += float(sum((one - mean).square().sum() for one in seen))
        total += float((bias[chosen] - bias[chosen].mean()).square().sum())
    return total


@pytest.mark.parametrize(("symmetry", "filters", "groups"), [({"h": 6}, 6, 1), ({"v": 4}, 6, 1), ({"h": 4}, 6, 2)])
def test_the_least_change_of_all_pairings_is_found(symmetry, filters, groups, tolerance):
    generator = torch.Generator().manual_seed(1)
    arranged = plan(symmetry, filters, 2, groups)
    size = filters // groups
    for _ in range(2):
        bank = torch.randn(filters, 2, 3, 3, generator=generator, dtype=torch.float64)
        bias = torch.randn(filters, generator=generator, dtype=torch.float64)
        order = order_of(bank, bias, arranged)
        assert sorted(order) == list(range(filters))
        assert all(place // size == chosen // size for place, chosen in enumerate(order))
        groupwise = [
            [tuple(group * size + i for i in one) for one in itertools.permutations(range(size))]
            for group in range(groups)
        ]
        whole = (sum(parts, ()) for parts in itertools.product(*groupwise))
        best = min(change_of(bank, bias, one, arranged) for one in whole)
        found = change_of(bank, bias, order, arranged)
        assert found == pytest.approx(best, rel=tolerance["float64"])
        new, level, kept = nearest(bank[order], bias[order], arranged)
        squares = bank.square().sum() + bias.square().sum()
        assert (1 - kept) * squares == pytest.approx(found, rel=1e-9)
        layer = SymmetricConv2d(2 * groups, filters, 3, groups=groups, symmetry=symmetry, dtype=torch.float64)
        chosen = [f for f, mirror in enumerate(arranged.mirror) if not mirror]
        layer.load_state_dict({"weight": new[chosen], "bias": level[chosen]})
        assert torch.equal(layer.full_weight(), new)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_orbits_of_every_kind_are_found(rank):
    sort = {1: SymmetricConv1d, 2: SymmetricConv2d, 3: SymmetricConv3d}[rank]
    layer = sort(2, 22, 3, symmetry=MIRRORS[rank], dtype=torch.float64)
    bank, bias = layer.full_weight().detach(), layer.full_bias().detach()
    mixed = torch.randperm(22, generator=torch.Generator().manual_seed(2))
    order = order_of(bank[mixed], bias[mixed], layer.plan)
    new, _, kept = nearest(bank[mixed][order], bias[mixed][order], layer.plan)
    assert kept == pytest.approx(1.0, abs=1e-15)
    torch.testing.assert_close(new, bank[mixed][order], rtol=0, atol=1e-15)


def test_many_filters_are_paired_nearest_first():
    layer = SymmetricConv2d(1, 200, 3, symmetry={"h": 160}, dtype=torch.float64)
    bank = layer.full_weight().detach()[torch.randperm(200, generator=torch.Generator().manual_seed(2))]
    assert nearest(bank[order_of(bank, None, layer.plan)], None, layer.plan)[2] == pytest.approx(1.0, abs=1e-15)


@pytest.mark.parametrize(
    ("build", "shape", "still"),
    [(ResNet, (2, 3, 8, 9), {"first", "second", "skip"}), (UNet, (2, 1, 8, 12), {"first", "up"})],
)
def test_where_channels_meet_others_filters_stay_where_they_are(build, shape, still):
    model = build().double().eval()
    sentences = []
    example = torch.randn(shape)
    new = symmetrize(model, {"h": "50%"}, init="nearest", example=example, report=sentences.append)
    told = {sentence.split("'")[1]: sentence.endswith("where they were.") for sentence in sentences}
    assert {name for name, stays in told.items() if stays} == still
    assert not all(told.values())
    for name in still:
        old, made = model.get_submodule(name), new.get_submodule(name)
        dim = 1 if old.transposed else 0
        pair = [old.weight.select(dim, 0), old.weight.select(dim, 1).flip(-1)]
        # over all input channels, which may have changed places
        assert torch.allclose(made.weight.select(dim, 0).sum(0), sum(pair).sum(0) / 2)


class Telling(nn.Module):
    """Knows its channels by their numbers, which nothing that is followed shows."""

    def forward(self, x):
        return x * torch.arange(1.0, 9.0)[:, None, None]


def test_an_order_that_shows_is_not_taken():
    model = nn.Sequential(nn.Conv2d(1, 8, 3), Telling(), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 4, 1)).double()
    sentences = []
    symmetrize(model, {"h": "50%"}, init="nearest", example=torch.randn(1, 1, 6, 6), report=sentences.append)
    assert [sentence.endswith("where they were.") for sentence in sentences] == [True, False, True]


@pytest.mark.parametrize("reader", [nn.Conv2d(8, 4, 1, groups=2), nn.GroupNorm(2, 8), nn.Conv2d(8, 8, 3, groups=8)])
def test_channels_that_are_read_in_groups_stay_where_they_are(reader):
    model = nn.Sequential(nn.Conv2d(1, 8, 3), reader).double()
    sentences = []
    symmetrize(
        model, {"h": 8}, where=lambda name, conv: name == "0", init="nearest", example=torch.randn(1, 1, 6, 6),
        report=sentences.append,
    )  # fmt: skip
    assert [sentence.endswith("kept, with its filters where they were.") for sentence in sentences] == [True]


def test_tied_weights_stay_tied_and_where_they_are():
    model = nn.Sequential(*[nn.Conv2d(8, 8, 3, padding=1) for _ in range(3)])
    model[1].weight = model[0].weight
    new = symmetrize(model, {"h": "50%"}, init="nearest", example=torch.randn(1, 8, 6, 6))
    assert new[1].weight is new[0].weight


def test_what_is_missing_is_said(monkeypatch):
    model = nn.Sequential(nn.Conv2d(1, 4, 3))
    with pytest.raises(SymmetryError) as refusal:
        symmetrize(model, {"h": 4}, init="nearest")
    assert str(refusal.value) == (
        "example: None does not show which layers read the channels that init='nearest' brings in order. Expected an "
        "input of the model. Pass one."
    )
    with pytest.raises(SymmetryError, match=r"^init: 'best' is no choice here. Expected 'own' or 'nearest'"):
        symmetrize(model, {"h": 4}, init="best")
    monkeypatch.setitem(sys.modules, "networkx", None)
    with pytest.raises(SymmetryError) as refusal:
        symmetrize(model, {"h": 4}, init="nearest", example=torch.randn(1, 1, 4, 4))
    assert str(refusal.value) == (
        "init: 'nearest' matches filters with networkx, which is missing. Expected that package. Install it "
        "(pip install networkx), or use init='own'."
    )
