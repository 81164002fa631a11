"""The law, measured: deviations, the first offender, and sizes that fit."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import symmetric_layers.torch as layers
from symmetric_layers import SymmetryError
from symmetric_layers.torch.law import assert_equivariant, equivariance_error, is_exact, where_it_breaks

HV = {"hv": 8}


class Net(nn.Module):
    """A small network that obeys the law, with a map and a vector for an answer."""

    def __init__(self, pool=None):
        super().__init__()
        self.lift = layers.SymmetricConv2d(3, 8, 3, 2, 1, symmetry=HV, grid="mirrored")
        self.norm = layers.OrbitBatchNorm2d(8, symmetry=HV)
        self.act = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.5)
        self.pool = pool or layers.Mirrored(nn.MaxPool2d(2), HV)
        self.map = layers.InvariantConv2d(8, 2, 3, padding=1, in_symmetry=HV)
        self.head = layers.OrbitLinear(8, 5, in_symmetry=HV)

    def forward(self, x):
        x = self.pool(F.dropout(self.drop(self.act(self.norm(self.lift(x)))), 0.2, self.training))
        return {"map": self.map(x), "classes": (self.head(x.mean((-2, -1))), None)}


@pytest.fixture
def x():
    return torch.randn(2, 3, 14, 13, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("training", [False, True])
def test_a_network_that_obeys_deviates_by_rounding(x, training, tolerance):
    model = Net().double().train(training)
    before = copy.deepcopy(model.state_dict())
    luck = torch.get_rng_state()
    found = equivariance_error(model, x, "vh")
    assert [(row.axis, row.output) for row in found] == [
        ("h", "map"), ("h", "classes.0"), ("v", "map"), ("v", "classes.0"),
    ]  # fmt: skip
    assert max(row.absolute for row in found) <= tolerance["float64"]
    assert_equivariant(model, x, "hv")
    assert where_it_breaks(model, x, "hv").offender is None
    assert torch.equal(torch.get_rng_state(), luck)
    assert model.training is training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_deviation_is_what_the_formula_says(x):
    model = nn.Conv2d(3, 4, 3).double()
    (row,) = equivariance_error(model, x, "h")
    expected = (model(x.flip(-1)) - model(x).flip(-1)).abs().max()
    assert row.absolute == expected
    assert row.relative == expected / model(x).abs().max()


def test_layers_with_orbits_are_compared_with_their_channels_exchanged(x, tolerance):
    free = layers.SymmetricConv2d(3, 11, 3, symmetry={"h": 2, "hv": 8}).double()
    assert {row.axis: row.absolute <= tolerance["float64"] for row in equivariance_error(free, x, "hv")} == {
        "h": True, "v": True,
    }  # fmt: skip
    middle = layers.SymmetricConv2d(8, 8, 3, symmetry=HV, in_symmetry=HV).double()
    orbits = torch.randn(1, 8, 6, 7, dtype=torch.float64)
    for layer in (middle, layers.OrbitBatchNorm2d(8, symmetry=HV).double(), layers.Mirrored(nn.MaxPool2d(2), HV)):
        assert max(row.absolute for row in equivariance_error(layer, orbits, "hv")) <= tolerance["float64"]
    for layer in (layers.OrbitPool(HV), layers.InvariantConv2d(8, 2, 3, in_symmetry=HV).double()):
        assert max(row.absolute for row in equivariance_error(layer, orbits, "hv")) <= tolerance["float64"]
    head = layers.OrbitLinear(8, 2, in_symmetry=HV).double()
    assert max(row.absolute for row in equivariance_error(head, orbits[0, :, 0].T, "hv")) <= tolerance["float64"]
    both = nn.Sequential(middle, nn.ReLU())
    assert equivariance_error(both, orbits, "h")[0].relative > 1e-3
    assert equivariance_error(both, orbits, "h", in_symmetry=HV, symmetry=HV)[0].relative <= tolerance["float64"]


def test_several_inputs_are_mirrored_together(x, tolerance):
    class Two(nn.Module):
        def forward(self, picture, scale, other):
            return picture.mean(1) * scale.sum() + other.mean(1)  # (N, H, W)

    values = torch.randn(2, 7, dtype=torch.float64)
    for given in ((x, values, x + 1), {"picture": x, "scale": values, "other": x * x}):
        assert max(row.absolute for row in equivariance_error(Two(), given, "hv")) <= tolerance["float64"]


def test_the_first_offender_is_named_with_its_sizes(x):
    model = Net(pool=nn.MaxPool2d(2)).double().eval()
    table = where_it_breaks(model, x, "hv")  # 14 x 13 pictures, 7 x 7 after the first layer
    assert table.offender.module == "pool"
    assert table.offender.reason == "along 'h': n=7, k=2, s=2, p=0, d=1 leave a remainder of 1"
    assert str(table).splitlines()[1].split()[:2] == ["pool", "MaxPool2d"]
    assert [row.module for row in table[1:]] == ["lift", "norm", "act", "drop", "map", "head", ""]
    with pytest.raises(AssertionError, match="It breaks at 'pool': along 'h': n=7, k=2, s=2, p=0, d=1 leave"):
        assert_equivariant(model, x, "hv")


def test_an_offender_without_modules_of_its_own_is_named(x):
    class Padded(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Identity()
            self.second = nn.Identity()

        def forward(self, x):
            return self.second(F.pad(self.first(x), (0, 1)))

    offender = where_it_breaks(nn.Sequential(nn.ReLU(), Padded()), x, "h").offender
    assert (offender.module, offender.reason) == ("1", "in its own forward, before it calls '1.second'")
    offender = where_it_breaks(nn.Sequential(nn.ReLU(), nn.Conv2d(3, 3, 3).double()), x, "h").offender
    assert (offender.module, offender.reason) == ("1", "mirroring along 'h' does not mirror its answer")


def test_a_grid_is_exact_where_nothing_is_left_over():
    for n in range(5, 12):
        for k, s, p, d in ((3, 2, 1, 1), (2, 2, 0, 1), (3, 3, 0, 2), (5, 1, 2, 1)):
            layer = nn.AvgPool1d(k, s, p) if d == 1 else nn.MaxPool1d(k, s, p, d)
            x = torch.arange(n, dtype=torch.float64).square()[None, None]
            assert is_exact(n, k, s, p, d) == torch.allclose(layer(x.flip(-1)), layer(x).flip(-1))
    assert is_exact((225, 7), 3, (2, 1), (1, 0))
    assert not is_exact((225, 224), 3, (2, 2), 1)


def test_bad_arguments_are_refused_in_a_sentence(x):
    with pytest.raises(SymmetryError, match=r"^axes: 'z' is no kind of mirror in 2-D"):
        equivariance_error(nn.Identity(), x, "z")
    with pytest.raises(SymmetryError, match=r"^x: \[\(4, 3\)\] holds no pictures"):
        where_it_breaks(nn.Identity(), x[0, 0, :4, :3], "h")
    with pytest.raises(SymmetryError, match=r"^size: \{'size': 2, 'stride': 3\} are different numbers of axes"):
        is_exact((8, 9), 3, (2, 2, 2))
    with pytest.raises(SymmetryError, match="stride: 0 is no usable count"):
        is_exact(8, 3, 0)
