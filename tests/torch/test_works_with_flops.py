"""PyTorch's counter of operations sees what layers do: fused kernels make a half, a quarter, an eighth of it."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from symmetric_layers.torch import (
    SymmetricConv1d,
    SymmetricConv2d,
    SymmetricConv3d,
    SymmetricConvTranspose2d,
)
from symmetric_layers.torch.kernels import library, opaque_host, operators

pytestmark = pytest.mark.skipif(library.missing() is not None, reason="the kernel is not compiled")

DEEP = {"symmetry": {"hv": 8}, "in_symmetry": {"hv": 8}}
LAYERS = {
    "rows": (lambda: SymmetricConv1d(3, 8, 3, padding=1, symmetry={"h": 8}), (2, 3, 9), 1 / 2),
    "even taps": (lambda: SymmetricConv2d(3, 8, 4, symmetry={"v": 8}), (2, 3, 9, 8), 1 / 2),
    "pictures": (lambda: SymmetricConv2d(3, 8, 3, symmetry={"hv": 8}), (2, 3, 9, 8), 1 / 4),
    "orbits": (lambda: SymmetricConv2d(8, 8, 3, padding=1, **DEEP), (2, 8, 9, 8), 1 / 4),
    "some free": (lambda: SymmetricConv2d(3, 8, 3, symmetry={"h": 4}), (2, 3, 9, 8), 3 / 4),
    "strides": (lambda: SymmetricConv2d(8, 8, 3, 2, 1, **DEEP), (2, 8, 9, 9), 1 / 4),
    "volumes": (lambda: SymmetricConv3d(2, 8, 3, symmetry={"hvz": 8}), (1, 2, 5, 6, 7), 1 / 8),
    "transposed": (lambda: SymmetricConvTranspose2d(8, 8, 2, stride=2, **DEEP), (2, 8, 5, 4), 1 / 4),
}


def counted(layer, x):
    """What the counter counts of an answer, and of its gradients."""
    x = x.detach().requires_grad_()
    with FlopCounterMode(display=False) as there:
        y = layer(x)
    with FlopCounterMode(display=False) as back:
        y.sum().backward()
    return there.get_total_flops(), back.get_total_flops()


@pytest.mark.parametrize("name", LAYERS)
def test_the_counter_sees_a_share_of_the_products(name):
    make, shape, share = LAYERS[name]
    layer, x = make(), torch.randn(shape)
    layer.algorithm = "reference"
    expected = counted(layer, x)
    assert min(expected) > 0
    layer.algorithm = "cpu"
    assert counted(layer, x) == tuple(share * number for number in expected)


def test_wider_filters_count_as_they_are_multiplied():
    layer = SymmetricConv2d(3, 8, 3, 2, symmetry={"h": 8}, grid="mirrored", algorithm="cpu")
    wide = SymmetricConv2d(3, 8, (3, 4), 2, symmetry={"h": 8}, algorithm="cpu")
    for size, expected in ((9, SymmetricConv2d(3, 8, 3, 2, symmetry={"h": 8}, algorithm="cpu")), (10, wide)):
        x = torch.randn(1, 3, 9, size)
        assert counted(layer, x) == counted(expected, x)


def test_where_the_host_makes_a_gradient_all_filters_count():
    layer = SymmetricConv2d(3, 8, 3, 2, dilation=2, symmetry={"hv": 8}, algorithm="cpu")
    x = torch.randn(1, 3, 16, 16)
    there, back = counted(layer, x)
    assert back == there + 4 * there  # that of the filters, and that of the pictures


def test_operators_for_open_sizes_count_the_same():
    x, weight = torch.randn(2, 3, 9, 10), torch.randn(4, 3, 3, 3)
    told = ([1, 4], [], [2, 2], [0, 0], [1, 1])
    wide = torch.nn.functional.pad(weight, [0, 1])
    with FlopCounterMode(display=False) as found:
        operators.FOR_ANY_SIZE.answer(x, weight, None, *told)
    with FlopCounterMode(display=False) as expected:
        operators.TRIO.answer(x, wide, None, *told)
    assert found.get_total_flops() == expected.get_total_flops() > 0
    full, how = torch.randn(8, 3, 3, 3), ([1, 8], [1], [2, 2], [0, 0], [1, 1])
    with FlopCounterMode(display=False) as found:
        opaque_host.TRIO.answer(x, full, None, *how)
    with FlopCounterMode(display=False) as expected:
        nn.functional.conv2d(x, full, None, 2)
    assert found.get_total_flops() == expected.get_total_flops() > 0
