"""The mirrored grid: the law at every size."""

import itertools

import numpy as np
import pytest
import torch
from contract import law_error
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from strategies import cases
from test_random_layers import FACE, reaches

import symmetric_layers.torch as layers
from symmetric_layers import SymmetryError


def error(layer, case, positions):
    """The largest deviation from the law for a picture of this size."""
    x = np.random.RandomState(0).standard_normal((2, case.channels, *positions))
    return law_error(lambda x: FACE.call(layer, x), case.symmetry, case.in_symmetry, x, case.groups)


@settings(max_examples=150, deadline=None)
@given(st.booleans().flatmap(cases), st.tuples(*[st.integers(1, 9)] * 3))
def test_any_layer_on_the_mirrored_grid_obeys_the_law_at_every_size(case, positions):
    positions = positions[: case.rank]
    assume(reaches(case, positions) and case.bias != "each")
    layer = FACE.layer(case)
    layer.grid = "mirrored"
    assert error(layer, case, positions) <= 1e-12


@pytest.mark.parametrize(("stride", "kernel", "size"), [*itertools.product((2, 3, 4), range(2, 8), (11, 12))])
def test_strides_and_sizes_that_do_not_fit(stride, kernel, size):
    """The shared grid errs where the remainder is not 0, the mirrored grid never."""
    torch.manual_seed(0)
    errors = {}
    for grid in ("shared", "mirrored"):
        layer = layers.SymmetricConv2d(2, 8, kernel, stride, 1, symmetry={"hv": 8}, grid=grid, dtype=torch.float64)
        x = torch.randn(1, 2, size, size, dtype=torch.float64)
        expected = layer(x)[:, list(layer.plan.exchange("h"))].flip(-1)
        errors[grid] = (layer(x.flip(-1)) - expected).abs().max().item()
    assert errors["mirrored"] <= 1e-12
    remainder = (size + 2 - kernel) % stride
    assert (errors["shared"] > 1e-2) == (remainder != 0)


@pytest.mark.parametrize("grid", ["shared", "mirrored"])
def test_the_first_member_computes_what_the_host_computes(grid):
    layer = layers.SymmetricConv2d(3, 8, 3, 2, 1, symmetry={"hv": 8}, grid=grid)
    x = torch.randn(2, 3, 8, 10)
    host = torch.nn.functional.conv2d(x, layer.weight, layer.bias, stride=2, padding=1)
    assert torch.allclose(layer(x)[:, ::4], host, atol=1e-6)


def test_where_the_geometry_fits_both_grids_are_the_same():
    shared = layers.SymmetricConv2d(3, 8, 3, 2, 1, symmetry={"hv": 8})
    mirrored = layers.SymmetricConv2d(3, 8, 3, 2, 1, symmetry={"hv": 8}, grid="mirrored")
    mirrored.load_state_dict(shared.state_dict())
    x = torch.randn(2, 3, 9, 11)
    assert torch.equal(shared(x), mirrored(x))
    assert repr(mirrored).endswith("symmetry={'hv': 8}, grid='mirrored')")


@pytest.mark.parametrize("name", ["Conv2d", "ConvTranspose2d"])
@pytest.mark.parametrize("grid", ["shared", "mirrored"])
def test_depthwise_layers_exchange_their_groups(name, grid, tolerance):
    more = {"output_padding": 1} if name == "ConvTranspose2d" and grid == "mirrored" else {}
    layer = getattr(layers, f"Symmetric{name}")(
        8, 8, 3, 2, 1, groups=8, symmetry={"hv": 8}, in_symmetry={"hv": 8}, grid=grid, dtype=torch.float64, **more
    )
    assert layer.weight.shape == (2, 1, 3, 3)
    assert layer.full_weight().shape == (8, 1, 3, 3)
    x = torch.randn(2, 8, 9 if grid == "shared" else 8, 9, dtype=torch.float64)
    for letters, axes in (("h", [-1]), ("v", [-2]), ("hv", [-1, -2])):
        exchange = list(layer.plan.exchange(letters))
        mirrored = layer(x[:, exchange].flip(axes))
        assert (mirrored - layer(x)[:, exchange].flip(axes)).abs().max() <= tolerance["float64"]
    layer(x).sum().backward()
    assert layer.weight.grad.shape == layer.weight.shape


def test_a_depthwise_layer_has_one_symmetry():
    with pytest.raises(SymmetryError) as refusal:
        layers.SymmetricConv2d(8, 8, 3, groups=8, symmetry={"h": 4}, in_symmetry={"h": 8})
    assert str(refusal.value) == (
        "in_symmetry: {'h': 8} is not the symmetry {'h': 4} of a depthwise layer. Expected both to be the same. "
        "Use one of them for both."
    )


def test_output_size_is_lawful_on_the_mirrored_grid(tolerance):
    layer = layers.SymmetricConvTranspose2d(3, 4, 3, 2, 1, symmetry={"h": 4}, grid="mirrored", dtype=torch.float64)
    x = torch.randn(1, 3, 5, 5, dtype=torch.float64)
    answer = layer(x, output_size=(10, 10))
    expected = answer[:, list(layer.plan.exchange("h"))].flip(-1)
    assert (layer(x.flip(-1), output_size=(10, 10)) - expected).abs().max() <= tolerance["float64"]


def test_an_unknown_grid_is_refused():
    with pytest.raises(SymmetryError) as refusal:
        layers.SymmetricConv2d(1, 2, 3, symmetry={"h": 2}, grid="own")
    assert str(refusal.value) == "grid: 'own' is no choice here. Expected 'shared' or 'mirrored'. Use one of these."
