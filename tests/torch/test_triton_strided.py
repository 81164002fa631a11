"""The kernels for GPUs make gradients of the input of strided layers themselves, phase after phase."""

import pytest
import torch
from test_cpu import last
from test_cpu_phases import alone  # noqa: F401
from test_folded import exchanged, filled
from test_triton import DEEP, DEVICE, DTYPES, _poisoned, _without_onednn, agrees, pytestmark, random, same_bits  # noqa: F401

import symmetric_layers.torch as layers
from symmetric_layers.letters import axes

ALONE = pytest.mark.usefixtures("alone")  # the host is not asked


def strided(inputs, filters, kernel=3, dtype=torch.float32, **more):
    how = {"stride": 2, "padding": kernel // 2, "grid": "mirrored", "algorithm": "triton", **more}
    return filled(layers.SymmetricConv2d(inputs, filters, kernel, **how)).to(DEVICE, dtype)


@ALONE
@DEEP
@pytest.mark.parametrize("grid", ["shared", "mirrored"])
@pytest.mark.parametrize("kind", ["h", "hv"])
@pytest.mark.parametrize("kernel", [1, 3])
def test_strides_of_two(kernel, kind, grid, deep):
    layer = strided(8, 12, kernel, symmetry={kind: 12}, in_symmetry={kind: 8} if deep else None, grid=grid)
    agrees(layer, random(2, 8, 6, 6))
    agrees(layer, last(random(1, 8, 7, 7)))


@ALONE
@DTYPES
def test_every_type_of_numbers(dtype):
    layer = strided(16, 32, symmetry={"hv": 32}, in_symmetry={"hv": 16}, dtype=dtype)
    agrees(layer, last(random(2, 16, 8, 6, dtype=dtype)))


@ALONE
@pytest.mark.parametrize("symmetry", [{"h": 4}, {"v": 4, "h": 2}, {"hv": 4, "h": 2}], ids=str)
@pytest.mark.parametrize("in_symmetry", [None, {"hv": 8}], ids=str)
def test_banks_of_several_kinds(symmetry, in_symmetry):
    layer = strided(8, sum(symmetry.values()), symmetry=symmetry, in_symmetry=in_symmetry)
    agrees(layer, random(1, 8, 6, 8))


def test_strides_of_other_sizes():
    for stride in ((1, 2), 3):
        for deep in (False, True):
            layer = strided(4, 4, symmetry={"hv": 4}, in_symmetry={"hv": 4} if deep else None, stride=stride)
            agrees(layer, random(1, 4, 7, 8))


@ALONE
def test_lines_and_volumes():
    for rank, kind, sizes in ((1, "h", (8,)), (3, "hvz", (4, 2, 4))):
        layer = getattr(layers, f"SymmetricConv{rank}d")(
            8, 8, 2, 2, symmetry={kind: 8}, in_symmetry={kind: 8}, algorithm="triton"
        )
        agrees(filled(layer).to(DEVICE), random(1, 8, *sizes))


def test_free_filters_are_left_to_the_host():
    layer = strided(8, 10, symmetry={"hv": 8})
    agrees(layer, random(1, 8, 6, 6))


@ALONE
@DTYPES
@DEEP
def test_gradients_mirror_bit_for_bit(deep, dtype):
    layer = strided(8, 16, symmetry={"hv": 16}, in_symmetry={"hv": 8} if deep else None, dtype=dtype)
    x = last(random(1, 8, 8, 6, dtype=dtype)).requires_grad_()
    y = layer(x)
    gradient = random(*y.shape, dtype=dtype, seed=2)
    found = torch.autograd.grad(y, x, gradient, retain_graph=True)[0]
    for letter in "hv":
        mirrored = exchanged(gradient, layer.plan, letter).flip(axes(letter))
        turned = torch.autograd.grad(y, x, mirrored, retain_graph=True)[0]
        own = exchanged(found, layer.plan.inputs, letter) if deep else found
        assert same_bits(turned, own.flip(axes(letter)))
