"""Padding on one side only before a convolution: mirrors are padded on the other side."""

import copy

import pytest
import torch
import torch.nn.functional as F
from test_convert_networks import randomise
from torch import nn

from symmetric_layers import SymmetryError
from symmetric_layers.torch import desymmetrize, equivariance_error, equivariant

PADS = {1: (0, 1), 2: (0, 1, 0, 1), 3: (0, 1, 1, 0, 0, 1)}


class Encoder(nn.Module):
    """What an autoencoder of pictures has before it makes them smaller."""

    def __init__(self, pads, rank=2, channels=8, **how):
        super().__init__()
        conv = getattr(nn, f"Conv{rank}d")
        self.pads, self.stem = pads, conv(2, channels, 3, padding=1)
        self.down, self.out = conv(channels, channels, 3, 2, **how), conv(channels, 2, 1)

    def forward(self, x):
        return self.out(F.relu(self.down(F.pad(F.relu(self.stem(x)), self.pads))))


def obeys(new, x, axes):
    return max(row.relative for row in equivariance_error(new, x.double(), axes)) < 1e-12


@pytest.mark.parametrize(("rank", "axes"), [(1, "h"), (2, "hv"), (3, "hz")])
def test_padding_on_one_side_belongs_to_the_convolution_behind_it(rank, axes):
    torch.manual_seed(0)
    model, x = Encoder(PADS[rank], rank), torch.randn(2, 2, 8, 6, 10)[(..., *[0] * (3 - rank))]
    new = randomise(equivariant(model, axes, example=x).double()).eval()
    assert obeys(new, x, axes)
    other = torch.randn(2, 2, 9, 7, 5)[(..., *[0] * (3 - rank))]
    assert obeys(new, other, axes), "at other sizes, too"
    assert new.down.weight.shape[0] == 8 // 2 ** len(axes)
    back = desymmetrize(new, example=x.double())
    assert torch.allclose(back(x.double()), new(x.double()), atol=1e-12)
    assert type(back.down) is getattr(nn, f"Conv{rank}d")


@pytest.mark.parametrize("how", [{"padding": 1}, {"dilation": 2}, {"groups": 8}, {"padding": "valid"}], ids=str)
@pytest.mark.parametrize("pads", [(0, 1, 0, 1), (1, 0), (2, 0, 0, 1), (0, 0, 1, 2)], ids=str)
def test_whatever_the_convolution_is(how, pads):
    torch.manual_seed(0)
    x = torch.randn(1, 2, 9, 8)
    new = randomise(equivariant(Encoder(pads, **how), "hv", example=x).double()).eval()
    assert obeys(new, x, "hv")
    assert obeys(new, x[..., 1:, 1:], "hv")
    back = desymmetrize(new, example=x.double())
    assert torch.allclose(back(x.double()), new(x.double()), atol=1e-12)


def test_representatives_compute_what_they_did():
    torch.manual_seed(0)
    model, x = Encoder((0, 1, 0, 1)), torch.randn(1, 2, 8, 8)
    new = equivariant(model, "h", example=x)
    y = F.pad(torch.randn(1, 8, 8, 8), (0, 1, 0, 1))
    ordinary = copy.deepcopy(model.down)
    ordinary.weight.data = new.down.full_weight().detach()
    ordinary.bias.data = new.down.full_bias().detach()
    assert torch.allclose(new.down(y)[:, ::2], ordinary(y)[:, ::2], atol=1e-6)
    assert not torch.allclose(new.down(y)[:, 1::2], ordinary(y)[:, 1::2], atol=1e-2)


class FirstPadded(nn.Module):
    """A stem that pads the picture itself, as EfficientNets do, with a module or without one."""

    def __init__(self, pad):
        super().__init__()
        self.pad, self.stem = pad, nn.Conv2d(3, 8, 3, stride=2)
        self.deep, self.out = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 2, 1)

    def forward(self, x):
        return self.out(F.relu(self.deep(F.relu(self.stem(self.pad(x))))))


@pytest.mark.parametrize(
    "pad",
    [nn.ZeroPad2d((0, 1, 0, 1)), nn.ConstantPad2d((0, 1, 0, 1), 0.0), lambda x: F.pad(x, (0, 1, 0, 1))],
    ids=["module", "constant", "function"],
)
def test_pictures_are_padded_by_the_first_convolution(pad):
    torch.manual_seed(0)
    x = torch.randn(1, 3, 8, 6)
    new = randomise(equivariant(FirstPadded(pad), "hv", example=x).double()).eval()
    assert obeys(new, x, "hv")
    assert obeys(new, x[..., 1:], "hv")


def test_it_is_exported_like_any_other():
    torch.manual_seed(0)
    x = torch.randn(2, 2, 8, 8)
    new = equivariant(Encoder((0, 1, 0, 1)), "h", example=x).eval()
    want = new(x)
    program = torch.export.export(new, (x,), dynamic_shapes=({2: torch.export.Dim("rows", min=4, max=64)},))
    assert torch.allclose(program.module()(x), want, atol=1e-5)
    y = torch.randn(2, 2, 11, 8)
    assert torch.allclose(program.module()(y), new(y), atol=1e-5)


@pytest.mark.parametrize("mode", ["constant", "replicate"])
def test_what_else_is_padded_is_left_to_the_law(mode):
    class Padded(Encoder):
        def forward(self, x):
            pads = (1, 1, 1, 1) if mode == "constant" else (0, 1, 0, 1)
            return self.out(F.relu(self.down(F.pad(self.stem(x), pads, mode))))

    model, x = Padded(None), torch.randn(1, 2, 8, 8)
    if mode == "constant":
        assert type(equivariant(model, "hv", example=x).down).__name__ == "SymmetricConv2d"
    else:
        with pytest.raises(SymmetryError, match=r"breaks the law by .* before it calls 'down'"):
            equivariant(model, "hv", example=x)


class Pooled(nn.Module):
    def __init__(self, pool):
        super().__init__()
        self.stem, self.pool, self.out = nn.Conv2d(1, 8, 3, padding=1), pool, nn.Conv2d(8, 2, 1)

    def forward(self, x):
        return self.out(self.pool(F.pad(self.stem(x), (0, 1, 0, 1))))


@pytest.mark.parametrize("pool", [nn.MaxPool2d(2, 1), nn.AvgPool2d(3, 2)], ids=["max", "mean"])
def test_pools_behind_such_padding_are_seen_in_the_mirror_with_it(pool):
    torch.manual_seed(0)
    x = torch.randn(1, 1, 8, 6)
    new = randomise(equivariant(Pooled(pool), "hv", example=x).double()).eval()
    assert obeys(new, x, "hv")
    assert obeys(new, x[..., 1:], "hv")
    upright = F.pad(torch.randn(1, 8, 8, 6).double(), (0, 1, 0, 1))
    assert torch.equal(new.pool(upright)[:, ::4], pool(upright)[:, ::4])
    with pytest.raises(SymmetryError, match="'pool', a pool behind padding on one side, has no ordinary form"):
        desymmetrize(new, example=x.double())


class Changed(Encoder):
    """Zeros that are none any more when the convolution reads them."""

    def __init__(self, change):
        super().__init__((0, 1, 0, 1))
        self.change = change

    def forward(self, x):
        y = F.pad(F.relu(self.stem(x)), self.pads)
        self.change(y)
        return self.out(F.relu(self.down(y)))


@pytest.mark.parametrize("change", [lambda y: y.add_(1), torch.sigmoid_, lambda y: y[..., -1].fill_(2)])
def test_zeros_that_are_written_over_are_no_padding(change):
    with pytest.raises(SymmetryError, match=r"breaks the law by .* before it calls 'down'"):
        equivariant(Changed(change), "hv", example=torch.randn(1, 2, 8, 6))


def test_padding_that_depends_on_the_size_is_left_to_the_law():
    class Fitting(Encoder):
        def forward(self, x):
            y = F.relu(self.stem(x))
            y = F.pad(y, (0, y.shape[3] % 2, 0, (y.shape[2] + 1) % 2))
            return self.out(F.relu(self.down(y)))

    with pytest.raises(SymmetryError, match=r"breaks the law by .* before it calls 'down'"):
        equivariant(Fitting(None), "h", example=torch.randn(1, 2, 7, 7))
    new = equivariant(Fitting(None), "h", example=torch.randn(1, 2, 7, 8), measure=False)
    assert type(new.down).__name__ == "SymmetricConv2d"


def test_padding_along_other_axes_changes_nothing():
    x = torch.randn(1, 2, 8, 7)
    assert type(equivariant(Encoder((0, 0, 2, 0)), "h", example=x).down).__name__ == "SymmetricConv2d"
    new = equivariant(Encoder((0, 1, 2, 0)), "v", example=x)
    assert new.down.padded == ((2, 0), (0, 0))
