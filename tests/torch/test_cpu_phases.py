"""Gradients of the input of strided layers: the same taps reach one phase of the pixels, which mirrors exchange."""

import copy

import pytest
import torch
from test_cpu import _poisoned, _shared_out, agrees, instruction_set, last, possible  # noqa: F401
from test_cpu_shapes import DEEP, conv, random
from test_folded import exchanged, filled, same_bits

import symmetric_layers.torch as layers
from symmetric_layers.letters import axes
from symmetric_layers.torch.kernels import library
from symmetric_layers.torch.kernels.geometry import Geometry

pytestmark = [
    pytest.mark.skipif(library.missing() is not None, reason=f"{library.missing()}"),
    pytest.mark.usefixtures("instruction_set"),
]


@pytest.fixture
def alone(monkeypatch):
    """The host is not asked."""

    def asked(*_):
        pytest.fail("The host was asked for a gradient that the kernel knows.")

    monkeypatch.setattr(Geometry, "host_gradient", asked)


def strided(inputs, filters, kernel, **more):
    """A layer with strides of 2 and what else is said."""
    how = {"stride": 2, "padding": 1, "grid": "mirrored", "algorithm": "cpu", **more}
    return filled(layers.SymmetricConv2d(inputs, filters, kernel, **how))


def both(layer, *sizes):
    """Pictures of these sizes in both memory formats."""
    x = random(2, layer.in_channels, *sizes)
    return x, last(x)


@DEEP
@pytest.mark.parametrize("grid", ["shared", "mirrored"])
@pytest.mark.parametrize(("kernel", "stride"), [(1, 2), (2, 2), (3, 2), (3, 3), (4, 3), (5, 2), (7, 4)])
def test_strides_of_every_kind(kernel, stride, grid, deep, request):
    if stride == 2 or deep:
        request.getfixturevalue("alone")
    layer = conv(2, 3, 5, kernel, deep, stride=stride, padding=kernel // 2, grid=grid)
    for size in range(8, 12):
        for x in both(layer, size, size + 2 * stride):
            agrees(layer, x)


@pytest.mark.parametrize("kind", ["h", "v"])
@pytest.mark.parametrize("stride", [(1, 2), (2, 1), (3, 2)])
@DEEP
def test_strides_along_one_axis_only(kind, stride, deep, alone):
    layer = strided(6, 8, 3, stride=stride, symmetry={kind: 8}, in_symmetry={kind: 6} if deep else None)
    for sizes in ((9, 8), (8, 9)):
        for x in both(layer, *sizes):
            agrees(layer, x)


@pytest.mark.parametrize("inputs", [4, 16, 20, 32, 36, 44, 72])
@DEEP
def test_any_number_of_channels(inputs, deep, alone):
    for kind in ("h", "hv"):
        layer = strided(inputs, 24, 3, symmetry={kind: 24}, in_symmetry={kind: inputs} if deep else None)
        for x in both(layer, 6, 8):
            agrees(layer, x)


BANKS = [
    ({"h": 6, "v": 4, "hv": 8}, None),
    ({"v": 8, "h": 2}, None),
    ({"h": 6, "v": 4, "hv": 8}, {"hv": 36}),
    ({"v": 8, "h": 2}, {"hv": 36}),
    ({"h": 12}, {"h": 20, "hv": 16}),
    ({"v": 20}, {"v": 4, "hv": 32}),
]


@pytest.mark.parametrize(("symmetry", "in_symmetry"), BANKS, ids=str)
def test_banks_of_several_kinds(symmetry, in_symmetry, alone):
    layer = strided(36, 20, 3, symmetry=symmetry, in_symmetry=in_symmetry)
    for sizes in ((8, 10), (7, 9)):
        for x in both(layer, *sizes):
            agrees(layer, x)


@DEEP
@pytest.mark.parametrize("sizes", [(6, 7), (8, 8), (9, 8)])
def test_orbits_where_some_mirrors_lead_to_the_same_pixels(sizes, deep):
    """The height is odd, the width even, or filters are: the host is asked where channels are no orbits."""
    for kernel in (3, (3, 4), (4, 3)):
        layer = strided(8, 8, kernel, symmetry={"hv": 8}, in_symmetry={"hv": 8} if deep else None)
        for x in both(layer, *sizes):
            agrees(layer, x)


@DEEP
def test_filters_whose_channels_lie_last(deep, alone):
    for size in (8, 9):
        layer = strided(20, 16, 3, symmetry={"hv": 16}, in_symmetry={"hv": 20} if deep else None)
        for x in both(layer.to(memory_format=torch.channels_last), size, size):
            agrees(layer, x)


@DEEP
@pytest.mark.parametrize("sizes", [(30, 34), (5, 121), (61, 7)])
def test_pictures_of_several_tiles(sizes, deep, alone):
    layer = strided(40, 48, 3, symmetry={"hv": 48}, in_symmetry={"hv": 40} if deep else None)
    for x in both(layer, *sizes):
        agrees(layer, x)


@DEEP
def test_lines_and_volumes(deep, alone):
    for rank, sizes in ((1, (10,)), (1, (11,)), (3, (6, 4, 8)), (3, (5, 7, 5))):
        layer = conv(rank, 2, 3, 3, deep, stride=2, padding=1, grid="mirrored")
        x = random(2, layer.in_channels, *sizes)
        agrees(layer, x)
        agrees(layer, last(x))


def test_pixels_that_no_tap_reaches_have_no_gradient(alone):
    layer = strided(8, 8, 1, symmetry={"hv": 8}, padding=0, grid="shared")
    for x in both(layer, 7, 7):
        x.requires_grad_()
        layer(x).sum().backward()
        reached = torch.zeros(7, 7, dtype=torch.bool)
        reached[::2, ::2] = True
        assert (x.grad[..., ~reached] == 0).all()
        assert (x.grad[..., reached] != 0).all()


def test_no_pixels_and_no_pictures():
    layer = strided(8, 8, 3, symmetry={"hv": 8})
    for x in (random(0, 8, 6, 6), random(1, 8, 1, 1), random(1, 8, 2, 2)):
        agrees(layer, x)


@pytest.mark.parametrize("sizes", [(12, 14), (13, 15)])
@DEEP
def test_gradients_mirror_bit_for_bit(sizes, deep, alone):
    layer = strided(20, 24, 3, symmetry={"hv": 24}, in_symmetry={"hv": 20} if deep else None)
    for x in both(layer, *sizes):
        gradient = torch.randn(layer(x).shape, generator=torch.Generator().manual_seed(3))
        found = back(layer, x, gradient)
        for letter in "hv":
            turned = back(layer, x, exchanged(gradient, layer.plan, letter).flip(axes(letter)))
            own = exchanged(found, layer.plan.inputs, letter) if deep else found
            assert same_bits(turned, own.flip(axes(letter)))


def exactly(layer):
    exact = copy.deepcopy(layer).double()
    exact.algorithm = "reference"
    return exact


def back(layer, x, gradient):
    x = x.detach().requires_grad_()
    return torch.autograd.grad(layer(x), x, gradient.contiguous())[0]


def test_gradients_that_lie_between_other_numbers(alone):
    layer = strided(20, 24, 3, symmetry={"hv": 24}, in_symmetry={"hv": 20})
    x = random(2, 20, 12, 14)
    gradient = random(2, 24, 6, 7)
    between = torch.stack([gradient, gradient + torch.inf], -1)[..., 0]
    assert torch.equal(back(layer, x, gradient), torch.autograd.grad(layer(x.requires_grad_()), x, between)[0])


def test_what_is_not_finite_stays_where_it_is(alone):
    layer = strided(8, 8, 3, symmetry={"hv": 8}, in_symmetry={"hv": 8})
    gradient = torch.zeros(1, 8, 4, 4)
    gradient[0, 3, 1, 2] = torch.nan
    found = back(layer, random(1, 8, 8, 8), gradient)
    exact = back(exactly(layer), random(1, 8, 8, 8).double(), gradient.double())
    near = torch.zeros(8, 8, dtype=torch.bool)
    near[1:5, 3:7] = True  # a tap more on either side: filters on two grids are wider, by zeros
    assert torch.isnan(exact).any()
    assert torch.isnan(found[torch.isnan(exact)]).all()
    assert torch.isfinite(found[..., ~near]).all()


def test_the_host_is_asked_for_dilated_taps():
    layer = strided(8, 8, 3, symmetry={"h": 8}, dilation=3, padding=3, grid="shared")
    for x in both(layer, 12, 14):
        assert possible(layer, x)
        agrees(layer, x)


@pytest.mark.parametrize("kernel", [8, 16])
def test_large_patches_are_left_to_the_host(kernel, monkeypatch):
    """Filters would be read for every phase."""
    asked, by_the_host = [], Geometry.host_gradient
    monkeypatch.setattr(Geometry, "host_gradient", lambda *given: asked.append(1) or by_the_host(*given))
    layer = strided(3, 8, kernel, symmetry={"h": 8}, stride=kernel, padding=0)
    agrees(layer, random(1, 3, 2 * kernel, 2 * kernel))
    assert asked


def test_gradients_of_gradients(alone):
    agrees_twice(strided(8, 8, 3, symmetry={"hv": 8}, in_symmetry={"hv": 8}), random(1, 8, 8, 6))


def agrees_twice(layer, x):
    """Gradients of gradients beside the reference in float64."""

    def twice(layer, x):
        x = x.clone().requires_grad_()
        first = torch.autograd.grad(layer(x).pow(2).sum(), [x, layer.weight], create_graph=True)
        return torch.autograd.grad(sum(one.pow(2).sum() for one in first), [x, layer.weight])

    for found, exact in zip(twice(layer, x), twice(exactly(layer), x.double()), strict=True):
        assert (found - exact).abs().max() <= 1e-4 * exact.abs().max()
