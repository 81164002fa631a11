"""`torch.fx` traces networks of layers symbolically: every layer is a leaf, as the host's are."""

import inspect

import pytest
import torch
from torch import nn
from torch.fx import symbolic_trace

from symmetric_layers import SymmetryError
from symmetric_layers import torch as layers

H, HV, DEEP = {"h": 8}, {"hv": 8}, {"symmetry": {"h": 8}, "in_symmetry": {"h": 8}}
PICTURE, ROWS, VOLUME = (2, 8, 6, 7), (2, 8, 9), (2, 8, 4, 5, 6)
SHAPES = {"1d": ROWS, "3d": VOLUME}
OTHERS = {
    "Mirrored": lambda: layers.Mirrored(nn.MaxPool2d(2), HV),
    "MirrorMean": lambda: layers.MirrorMean(),
    "OrbitGroupNorm": lambda: layers.OrbitGroupNorm(2, 8, symmetry=H),
    "OrbitPool": lambda: layers.OrbitPool(HV, "max"),
    "TopKPool": lambda: layers.TopKPool(3),
    "OrbitPixelShuffle": lambda: layers.OrbitPixelShuffle(2, {"h": 2}),
    "OrbitPixelUnshuffle": lambda: layers.OrbitPixelUnshuffle(2, H),
    "OrbitLinear": lambda: layers.OrbitLinear(8, 4, in_symmetry=H),
    "OrbitLayerNorm": lambda: layers.OrbitLayerNorm(8, symmetry=H),
    "GlobalConv1d": lambda: layers.GlobalConv1d(8, 4),
}
INPUTS = {"OrbitPixelUnshuffle": (2, 8, 6, 4), "OrbitLinear": (2, 8), "OrbitLayerNorm": (2, 5, 8), "GlobalConv1d": ROWS}
ALONE = ["OrbitGroupNorm", "OrbitLinear", "OrbitLayerNorm", "GlobalConv1d"]  # what they do depends on no size
PUBLIC = [name for name in layers.__all__ if inspect.isclass(getattr(layers, name))]


def made(name):
    """A layer and an input."""
    torch.manual_seed(0)
    if name in OTHERS:
        return OTHERS[name](), torch.randn(INPUTS.get(name, PICTURE))
    sort, x = getattr(layers, name), torch.randn(SHAPES.get(name[-2:], PICTURE))
    if "Norm" in name:
        return sort(8, symmetry=H), x
    return sort(8, 8, 3, **(DEEP if name.startswith("Symmetric") else {"in_symmetry": H})), x


@pytest.mark.parametrize("name", PUBLIC)
def test_every_layer_is_a_leaf(name):
    layer, x = made(name)
    network = nn.Sequential(layer, nn.Identity())
    traced = symbolic_trace(network)
    assert [node.target for node in traced.graph.nodes if node.op == "call_module"] == ["0", "1"]
    again = symbolic_trace(traced)
    for other in (traced, again):
        assert list(other.state_dict()) == list(network.state_dict())
        assert torch.equal(other(x), network(x))


@pytest.mark.parametrize("name", PUBLIC)
def test_a_layer_that_is_traced_alone_is_refused_unless_it_asks_for_no_size(name):
    layer, x = made(name)
    if name in ALONE:
        assert torch.equal(symbolic_trace(layer, {"mask": None} if name == "GlobalConv1d" else None)(x), layer(x))
        return
    with pytest.raises(SymmetryError) as refusal:
        symbolic_trace(layer)
    assert str(refusal.value) == (
        f"root: {name} is a leaf, and traced alone there is nothing around it. "
        "Expected a module that it is a part of. Use nn.Sequential(layer)."
    )


class Around(nn.Module):
    """Calls with more than a picture."""

    def __init__(self):
        super().__init__()
        self.up = layers.SymmetricConvTranspose2d(8, 8, 3, stride=2, **DEEP)
        self.out = layers.InvariantConvTranspose2d(8, 8, 3, stride=2, in_symmetry=H)
        self.mix = layers.GlobalConv1d(8, 4)

    def forward(self, x, mask):
        x = self.up(x, output_size=(14, 16))
        x = self.out(input=x, output_size=[30, 33])
        return self.mix(x.flatten(2)[..., :9], mask=mask)


def test_what_else_a_layer_is_given_is_noted():
    network, x, mask = Around(), torch.randn(PICTURE), torch.rand(2, 9) > 0.5
    assert torch.equal(symbolic_trace(network)(x, mask), network(x, mask))


class Doubling(layers.SymmetricConv2d):
    def forward(self, x):
        return super().forward(2 * x)


class Halving(layers.OrbitGroupNorm):
    def forward(self, x):
        return super().forward(x / 2 + x.square())


def test_what_a_subclass_does_before_is_not_done_twice():
    x = torch.randn(PICTURE)
    with pytest.raises(SymmetryError) as refusal:
        symbolic_trace(nn.Sequential(Doubling(8, 8, 3, **DEEP)))
    assert str(refusal.value) == (
        "forward: that of Doubling calls one that is a leaf, of the same module. Expected no look into it. "
        "Use a torch.fx.Tracer whose is_leaf_module says so of Doubling."
    )
    network = nn.Sequential(Halving(2, 8, symmetry=H))
    torch.testing.assert_close(symbolic_trace(network)(x), network(x))
