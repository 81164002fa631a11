"""Attention over positions: channels meet channels, in heads or all together, and the law holds."""

import pytest
import torch
import torch.nn.functional as F
from test_convert_networks import randomise
from torch import nn

from symmetric_layers import SymmetryError
from symmetric_layers.torch import equivariance_error, equivariant


class Attention(nn.Module):
    """Positions attend to each other; how, is a function of what a convolution makes of them."""

    def __init__(self, how, channels=16, heads=2):
        super().__init__()
        self.how, self.heads = how, heads
        self.stem, self.norm = nn.Conv2d(1, channels, 3, padding=1), nn.GroupNorm(1, channels)
        self.qkv, self.out = nn.Conv2d(channels, 3 * channels, 1), nn.Conv2d(channels, channels, 1)
        self.head = nn.Conv2d(channels, 2, 1)

    def forward(self, x):
        x = F.silu(self.stem(x))
        x = x + self.out(self.how(self, self.qkv(self.norm(x))).reshape(x.shape))
        return self.head(x), self.head(x).mean((2, 3))


def all_together(model, qkv):
    q, k, v = (part.flatten(2) for part in qkv.chunk(3, 1))
    weights = (q.transpose(1, 2) @ k / q.shape[1] ** 0.5).softmax(-1)
    return v @ weights.transpose(1, 2)


def batched(model, qkv):
    q, k, v = (part.flatten(2).transpose(1, 2) for part in qkv.chunk(3, 1))
    return torch.bmm(torch.bmm(q, k.transpose(1, 2)).softmax(-1), v).mT


def fused(model, qkv):
    q, k, v = qkv.unflatten(1, (3, model.heads, -1)).flatten(-2).mT.unbind(1)
    return F.scaled_dot_product_attention(q, k, v).mT


def in_heads(model, qkv):
    q, k, v = (part.unflatten(1, (model.heads, -1)).flatten(3) for part in qkv.chunk(3, 1))
    return torch.matmul(v, torch.matmul(q.transpose(2, 3), k).softmax(-1).transpose(2, 3)).flatten(1, 2)


def linear(model, qkv):
    """Channels attend to channels, and their weights to positions."""
    q, k, v = (part.flatten(2) for part in qkv.chunk(3, 1))
    return (k.softmax(-1) * q.softmax(1)).sum(1, keepdim=True) * v


def as_it_was(model, qkv):
    q, k, v = (part.flatten(2) for part in qkv.chunk(3, 1))
    return (v @ (q.transpose(1, 2) @ k).softmax(-1).transpose(1, 2)).view_as(qkv[:, : v.shape[1]])


def channel_by_channel(model, qkv):
    return F.scaled_dot_product_attention(*qkv.chunk(3, 1))  # rows attend to rows, in every channel by itself


def waves(model, qkv):
    """No attention: of complex numbers, parts are read."""
    y = torch.fft.fft2(qkv.chunk(3, 1)[0])
    return (y.real**2 + y.imag**2).mean((2, 3), keepdim=True).sigmoid().expand_as(y.real)


HOWS = [all_together, batched, fused, in_heads, linear, as_it_was, channel_by_channel, waves]


@pytest.mark.parametrize("how", HOWS, ids=lambda how: how.__name__)
@pytest.mark.parametrize("axes", ["h", "hv"])
def test_positions_that_attend_to_each_other_obey(how, axes):
    torch.manual_seed(0)
    model, x = Attention(how), torch.randn(2, 1, 5, 6)
    new = randomise(equivariant(model, axes, example=x).double()).eval()
    assert type(new.qkv).__name__ == "SymmetricConv2d"
    errors = equivariance_error(new, torch.randn(1, 1, 7, 4).double(), axes)
    assert max(error.relative for error in errors) < 1e-12
    broken = equivariance_error(randomise(model.double()).eval(), torch.randn(1, 1, 7, 4).double(), axes)
    assert max(error.relative for error in broken) > 1e-3


def test_heads_may_be_exchanged_and_may_not_be_torn_apart():
    equivariant(Attention(in_heads, channels=12, heads=6), "hv", example=torch.randn(1, 1, 5, 6))
    with pytest.raises(SymmetryError, match=r"^model: .* breaks the law"):
        equivariant(Attention(in_heads, channels=12, heads=4), "h", example=torch.randn(1, 1, 5, 6))


def test_channels_that_are_weighed_by_channels_are_refused():
    """Weights of channels for channels are exchanged on both sides, which no layer knows."""

    def across(model, qkv):
        q, k, v = (part.flatten(2) for part in qkv.chunk(3, 1))
        return (q @ k.transpose(1, 2)).softmax(-1) @ v

    with pytest.raises(SymmetryError, match=r"^model: 'out', a Conv2d, reads channels that cannot be followed through"):
        equivariant(Attention(across), "h", example=torch.randn(1, 1, 5, 6))


def test_halves_that_gate_each_other_obey():
    net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.GLU(1), nn.Conv2d(4, 8, 3), nn.GLU(1), nn.Conv2d(4, 2, 1))
    new = randomise(equivariant(net, "hv", example=torch.randn(1, 1, 10, 9)).double())
    error = equivariance_error(new, torch.randn(1, 1, 10, 9).double(), "hv")
    assert max(one.relative for one in error) < 1e-12
    upside_down = nn.Sequential(nn.Conv2d(1, 8, 3), nn.GLU(2), nn.Conv2d(8, 2, 1))  # the lower half gates the upper one
    with pytest.raises(SymmetryError, match="breaks the law"):
        equivariant(upside_down, "hv", example=torch.randn(1, 1, 10, 9))


class Flat(nn.Module):
    """Positions become features, channels last."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 8, 3), nn.Linear(8 * 9, 2)

    def forward(self, x):
        return self.head(self.conv(x).permute(0, 2, 3, 1).flatten(1))


def test_positions_among_channels_are_named_as_such():
    with pytest.raises(SymmetryError, match="mixed with positions"):
        equivariant(Flat(), "h", example=torch.randn(1, 1, 5, 5))


def test_a_rotation_of_channels_is_refused_where_it_is():
    with pytest.raises(SymmetryError, match="cannot be followed through 'a shuffle of channels'"):
        equivariant(Attention(lambda model, qkv: qkv.chunk(3, 1)[0].roll(1, 1)), "h", example=torch.randn(1, 1, 5, 6))


class Patches(nn.Module):
    """Pixels that stand alike in their patches attend to each other, as in MobileViT."""

    def __init__(self, channels=16):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, channels, 3, padding=1), nn.LayerNorm(channels)
        self.mix, self.out = (
            nn.TransformerEncoderLayer(channels, 2, 32, 0.0, batch_first=True),
            nn.Conv2d(channels, 1, 1),
        )

    def forward(self, x):
        x = self.stem(x)
        n, c, h, w = x.shape
        rows, columns = h // 2, w // 2
        tokens = x.reshape(n * c * rows, 2, columns, 2).transpose(1, 2).reshape(n, c, rows * columns, 4)
        tokens = tokens.transpose(1, 3).reshape(n * 4, rows * columns, c)
        tokens = self.mix(self.norm(tokens))
        back = tokens.reshape(n, 4, rows * columns, c).transpose(1, 3).reshape(n * c * rows, columns, 2, 2)
        return self.out(back.transpose(1, 2).reshape(n, c, h, w))


def test_channels_are_found_again_behind_shapes_that_mix_them_with_others():
    torch.manual_seed(0)
    x = torch.randn(2, 1, 6, 8)
    new = randomise(equivariant(Patches(), "hv", example=x).double()).eval()
    assert max(row.relative for row in equivariance_error(new, x.double(), "hv")) < 1e-12
    assert type(new.norm).__name__ == "OrbitLayerNorm"
