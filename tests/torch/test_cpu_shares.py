"""The fused kernel where one vector of representatives is left: inputs side by side share them."""

import pytest
import torch
from test_cpu import _poisoned, _shared_out, agrees, instruction_set, last  # noqa: F401
from test_cpu_shapes import conv, random
from test_folded import filled, mirrors_bitwise, same_bits

import symmetric_layers.torch as layers
from symmetric_layers.torch.kernels import library

pytestmark = pytest.mark.skipif(library.missing() is not None, reason=f"{library.missing()}")


# vectors of 16, 8 or 4 floats, whole or with empty lanes, alone or behind whole blocks: 2, 4 or 8 inputs share them
ORBITS = [3, 4, 7, 8, 12, 20, 34, 36, 44]


@pytest.mark.parametrize("deep", [False, True], ids=["lifting", "deep"])
@pytest.mark.parametrize("inputs", [33, 34, 40])
@pytest.mark.parametrize("orbits", ORBITS)
def test_inputs_share_vectors(instruction_set, orbits, inputs, deep):  # noqa: F811
    layer = conv(2, inputs, orbits, 3, deep, padding=1)
    x = random(2, layer.in_channels, 5, 3)
    agrees(layer, x)
    agrees(layer, last(x))
    assert same_bits(layer(x), layer(last(x)))
    for letter in "hv":
        assert mirrors_bitwise(layer, x, letter, "cpu")


@pytest.mark.parametrize("inputs", [514, 1030, 1048])
def test_inputs_share_vectors_in_pieces(instruction_set, inputs):  # noqa: F811
    """Pieces of inputs hold all that share a vector."""
    layer = conv(1, inputs, 7, 3, padding=1)
    x = random(2, inputs, 9)
    agrees(layer, x)
    assert mirrors_bitwise(layer, x, "h", "cpu")


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_what_is_not_finite_stays_in_its_pixels(instruction_set, value):  # noqa: F811
    layer = conv(2, 34, 7, 1)
    x = random(1, 34, 3, 4)
    x[0, 33, 1, 2] = value
    with torch.no_grad():
        found = layer(x).isfinite().all(1)
    assert found.sum() == found.numel() - 1
    assert not found[0, 1, 2]


@pytest.mark.parametrize("orbits", [12, 20])
def test_inputs_share_vectors_where_rows_are_left_out(instruction_set, orbits):  # noqa: F811
    """What is summed last reads padding in some rows: what was summed apart there is added all the same."""
    layer = filled(layers.SymmetricConv2d(520, 2 * orbits, 3, padding=1, symmetry={"h": 2 * orbits}, algorithm="cpu"))
    x = random(1, 520, 6, 9)
    agrees(layer, x)
    agrees(layer, last(x))
    assert mirrors_bitwise(layer, x, "h", "cpu")


@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (1, 2), (2, 1), (3, 2)])
@pytest.mark.parametrize("width", [1, 2, 3, 5])
def test_rows_of_any_length(instruction_set, width, kernel, stride):  # noqa: F811
    """Pixels of several rows, planes and pictures are summed together, whatever gaps there are between them."""
    symmetry = {"h": 24, "hvz": 16}
    layer = layers.SymmetricConv3d(
        34, 42, kernel, stride=stride, padding=kernel // 2, symmetry=symmetry, algorithm="cpu"
    )
    for size in [(4, 3), (1, 15)]:
        x = random(3, 34, *size, width)
        agrees(filled(layer), x)
        agrees(layer, last(x))


@pytest.mark.parametrize("pictures", [1, 4, 5])
def test_gaps_that_add_up(instruction_set, pictures):  # noqa: F811
    """Ordinary filters seen backwards: 14 pixels reach as far as 14 that are evenly apart would."""
    layer = layers.SymmetricConv3d(1, 6, 2, symmetry={"hz": 4}, algorithm="cpu")
    agrees(filled(layer), random(pictures, 1, 4, 3, 3))
