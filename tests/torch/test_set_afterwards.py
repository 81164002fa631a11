"""What is set on a layer after it was made is obeyed as the host obeys it: one number is meant for all axes."""

import pytest
import torch
from torch import nn

from symmetric_layers.torch import (
    InvariantConv1d,
    InvariantConv2d,
    InvariantConvTranspose2d,
    SymmetricConv1d,
    SymmetricConv2d,
    SymmetricConv3d,
    SymmetricConvTranspose2d,
    SymmetricConvTranspose3d,
    assert_equivariant,
    why_not,
)

LAYERS = {
    "rows": lambda **how: SymmetricConv1d(4, 4, 3, symmetry={"h": 4}, **how),
    "pictures": lambda **how: SymmetricConv2d(4, 4, 3, symmetry={"hv": 4}, **how),
    "volumes": lambda **how: SymmetricConv3d(4, 8, 3, symmetry={"hvz": 8}, **how),
    "transposed": lambda **how: SymmetricConvTranspose2d(4, 4, 3, symmetry={"h": 4}, **how),
    "transposed volumes": lambda **how: SymmetricConvTranspose3d(4, 4, 3, symmetry={"h": 4}, **how),
    "way out, rows": lambda **how: InvariantConv1d(4, 2, 3, in_symmetry={"h": 4}, **how),
    "way out": lambda **how: InvariantConv2d(4, 2, 3, in_symmetry={"h": 4}, **how),
    "way out, transposed": lambda **how: InvariantConvTranspose2d(4, 2, 3, in_symmetry={"h": 4}, **how),
}


@pytest.mark.parametrize("name", LAYERS)
def test_one_number_for_all_axes_is_obeyed(name):
    layer, made = LAYERS[name](), LAYERS[name](stride=2, padding=1, dilation=2)
    layer.load_state_dict(made.state_dict())
    layer.stride, layer.padding, layer.dilation = 2, 1, 2
    assert repr(layer) == repr(made)
    x = torch.randn(2, 4, *[9] * layer._rank)
    with torch.no_grad():
        assert torch.equal(layer(x), made(x))
    assert torch.equal(layer(x), made(x))


def test_so_it_is_where_it_is_asked_about():
    layer, host = SymmetricConv2d(3, 4, 3, symmetry={"h": 4}), nn.Conv2d(3, 4, 3)
    layer.stride = host.stride = 2
    with torch.no_grad():
        host.weight.copy_(layer.full_weight())
        host.bias.copy_(layer.full_bias())
    x = torch.randn(1, 3, 9, 9)
    torch.testing.assert_close(layer(x), host(x))
    assert why_not(layer, x)
    assert_equivariant(layer.double(), x.double(), "h")
