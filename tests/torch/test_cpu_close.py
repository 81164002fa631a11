"""The fused kernel where all planes of a pixel stand side by side, folded right before they are multiplied."""

import pytest
from test_cpu import _poisoned, _shared_out, agrees, instruction_set, last  # noqa: F401
from test_cpu_shapes import conv, random
from test_folded import filled, mirrors_bitwise, same_bits

import symmetric_layers.torch as layers
from symmetric_layers.torch.kernels import library

pytestmark = pytest.mark.skipif(library.missing() is not None, reason=f"{library.missing()}")


def holds(layer, x):
    """Agrees with the reference, in both memory formats with the same bits, and mirrors bit for bit."""
    agrees(layer, x)
    agrees(layer, last(x))
    assert same_bits(layer(x), layer(last(x)))
    for letter in layer.plan.blocks[0].kind:
        assert mirrors_bitwise(layer, x, letter, "cpu")


@pytest.mark.parametrize("deep", [False, True], ids=["lifting", "deep"])
@pytest.mark.parametrize("positions", [(1, 1), (3, 5), (4, 7), (9, 31)], ids=str)
@pytest.mark.parametrize(("inputs", "orbits"), [(8, 17), (36, 18), (65, 9)])
def test_two_letters(instruction_set, inputs, orbits, positions, deep):  # noqa: F811
    """Rows end within what is multiplied together, and small pictures share a tile."""
    holds(conv(2, inputs, orbits, 3, deep, padding=1), random(3, inputs * (4 if deep else 1), *positions))


@pytest.mark.parametrize("deep", [False, True], ids=["lifting", "deep"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("rank", "kernel"), [(1, 9), (2, (5, 1)), (2, (1, 3)), (3, (3, 1, 3))], ids=str)
def test_ranks_kernels_and_strides(instruction_set, rank, kernel, stride, deep):  # noqa: F811
    """Axes that no tap moves along have planes at the positions of the answer, too."""
    positions = (5, 7, 9)[-rank:]
    holds(
        conv(rank, 40, 17, kernel, deep, padding=1, stride=stride), random(2, 40 * (2**rank if deep else 1), *positions)
    )


@pytest.mark.parametrize(("filters", "symmetry"), [(160, {"h": 160}), (112, {"h": 32})], ids=["orbits", "ordinary"])
@pytest.mark.parametrize("pictures", [1, 2])
def test_one_column(instruction_set, filters, symmetry, pictures):  # noqa: F811
    """The planes of one row end where those of the next one begin, some of which read padding and are left out."""
    layer = layers.SymmetricConv2d(32, filters, 3, padding=1, symmetry=symmetry, algorithm="cpu")
    agrees(filled(layer), random(pictures, 32, 4, 1))


@pytest.mark.parametrize("batch", [1, 700])
def test_many_small_pictures(instruction_set, batch):  # noqa: F811
    """What they read is mostly around them."""
    layer = conv(2, 16, 9, 7)
    agrees(layer, random(batch, 16, 7, 7))


@pytest.mark.parametrize("inputs", [300, 530])
def test_more_weights_than_the_second_cache_has_ready(instruction_set, inputs):  # noqa: F811
    """And more of a pixel than is multiplied in one go."""
    holds(conv(2, inputs, 36, 3, padding=1), random(1, inputs, 5, 17))
