"""Boxes that the copy engine of a GPU brings, filters on their way to and fro, and which path is taken when."""

import math
import os
from importlib.util import find_spec

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import symmetric_layers.torch as layers
from symmetric_layers.torch.kernels.bank import parts

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before the kernels are loaded
pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="No triton here: install it, `pip install triton`")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@given(st.sampled_from([16, 32, 64, 128]), st.integers(1, 64), st.tuples(*[st.integers(1, 40)] * 3))
def test_a_box_has_its_pixels_and_divides_the_pictures(rows, pictures, sizes):
    from symmetric_layers.torch.kernels.triton.boxes import box, counts

    shape = box(rows, pictures, sizes)
    assert math.prod(shape) == rows
    assert pictures % shape[0] == 0  # the next member may follow
    assert all(side & (side - 1) == 0 for side in shape)
    number = counts(shape, pictures, sizes)
    for side, many, size in zip(shape, number, (pictures, *sizes), strict=True):
        assert (many - 1) * side < size <= many * side


@pytest.mark.parametrize(
    ("pictures", "sizes", "shape"),
    [(64, (1, 28, 28), (8, 1, 4, 4)), (256, (1, 14, 14), (32, 1, 2, 2)), (2, (1, 56, 56), (2, 1, 8, 8))],
)
def test_nothing_of_a_box_is_empty_where_sizes_allow_it(pictures, sizes, shape):
    from symmetric_layers.torch.kernels.triton.boxes import box

    assert box(128, pictures, sizes) == shape


def packed_and_back(deep, pieces):
    from symmetric_layers.torch.kernels.triton.filter_calls import pack, unpack

    part = parts((3, 5), (3, 3) if deep else (), 12 if deep else 7, 2)[0]
    weight = torch.randn(5, 12 if deep else 7, 3, 3, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    packed, back = pack(weight, part, pieces), torch.full_like(weight, torch.nan)
    unpack(packed.sum(0, keepdim=True).transpose(2, 3).contiguous(), back, part)
    return weight, packed, back


@pytest.mark.parametrize("deep", [False, True], ids=["lifting", "deep"])
def test_unpacking_is_packing_turned_around(deep):
    """Parts are means with signs, and so is the gradient: a filter split and put together is a fraction of it."""
    weight, packed, back = packed_and_back(deep, 1)
    assert packed.shape == (1, 36 if deep else 9, 5, 3 if deep else 7)
    if deep:  # every tap of every member is in four parts
        torch.testing.assert_close(back * 4, weight)
    else:  # a tap that letters move is in as many parts as it has mirrors
        fractions = torch.tensor([[4, 2, 4], [2, 1, 2], [4, 2, 4]], device=DEVICE)
        torch.testing.assert_close(back * fractions, weight)


def test_two_pieces_are_what_tf32_keeps_and_what_it_drops():
    _, whole, _ = packed_and_back(True, 1)
    _, (kept, dropped), _ = packed_and_back(True, 2)
    assert torch.equal(kept + dropped, whole[0])
    assert not (kept.view(torch.int32) & 8191).any()
    assert (dropped.abs() <= kept.abs() * 2.0**-10).all()


def odd_ones():
    """Pictures of 8 channels that lie in memory as the copy engine cannot read them, but for the last."""
    numbers = torch.arange(2 * 8 * 6 * 5 + 1, dtype=torch.float32, device=DEVICE)
    contiguous = numbers[1:].view(2, 8, 6, 5)
    begins_late = numbers[1:].view(2, 6, 5, 8).movedim(-1, 1)
    some_channels = torch.zeros(2, 6, 5, 9, device=DEVICE).movedim(-1, 1)[:, :8]
    one_pixel = numbers[:16].view(2, 8, 1, 1)
    one_column = numbers[: 2 * 6 * 8].view(2, 6, 8).transpose(1, 2).unsqueeze(-1)
    one_picture = numbers[:240].as_strided((1, 8, 6, 5), (3, 1, 40, 8)).expand(2, 8, 6, 5)
    last = contiguous.to(memory_format=torch.channels_last)
    return [contiguous, begins_late, some_channels, one_pixel, one_column, one_picture, last]


@pytest.mark.parametrize("number", range(7))
def test_the_copy_engine_gets_what_it_can_read(number):
    from symmetric_layers.torch.kernels.triton.boxes import can_be_read
    from symmetric_layers.torch.kernels.triton.in_boxes import as_pictures

    x = odd_ones()[number]
    seen = as_pictures(x, parts((1, 2), (), 8, 2)[0])
    assert can_be_read(seen)
    assert seen.shape == (2, 1, *x.shape[2:], 8)
    assert torch.equal(seen[:, 0].movedim(-1, 1), x)
    assert number != 6 or seen.data_ptr() == x.data_ptr()


def answers_by(monkeypatch, layer, x):
    """Which of both ways is taken."""
    from symmetric_layers.torch.kernels.triton import by_pointers, in_boxes

    taken = []
    for module in (by_pointers, in_boxes):
        name = module.__name__.rsplit(".", 1)[1]
        monkeypatch.setattr(module, "run_answers", lambda *given, name=name: taken.append(name))
    with torch.no_grad():
        layer(x)
    return taken


@pytest.mark.parametrize(
    ("channels", "more", "way"),
    [
        (8, {}, "in_boxes"),
        (8, {"dilation": 2}, "in_boxes"),
        (8, {"stride": 2}, "by_pointers"),
        (7, {}, "by_pointers"),
        (8, {"in_symmetry": {"h": 8}}, "in_boxes"),
        (6, {"in_symmetry": {"h": 6}}, "by_pointers"),
    ],
    ids=str,
)
def test_boxes_are_read_where_they_can_be(monkeypatch, channels, more, way):
    layer = layers.SymmetricConv2d(channels, 4, 3, padding=1, symmetry={"h": 4}, algorithm="triton", **more).to(DEVICE)
    assert answers_by(monkeypatch, layer, torch.zeros(2, channels, 6, 5, device=DEVICE)) == [way]


def test_one_pixel_whose_members_lie_side_by_side_needs_no_sorting(monkeypatch):
    layer = layers.SymmetricConv2d(8, 4, 1, symmetry={"h": 4}, in_symmetry={"h": 8}, algorithm="triton").to(DEVICE)
    x = torch.zeros(2, 8, 6, 5, device=DEVICE)
    assert answers_by(monkeypatch, layer, x) == ["in_boxes"]
    assert answers_by(monkeypatch, layer, x.to(memory_format=torch.channels_last)) == ["by_pointers"]


KERNELS = [("answers", "orbits", "channels"), ("pictures", "channels", "orbits"), ("filters", "orbits", "pixels")]


@pytest.mark.parametrize("precision", ["ieee", "tf32", "tf32x3"])
@pytest.mark.parametrize("kind", [1, 3, 7], ids=["h", "hv", "hvz"])
@pytest.mark.parametrize(("name", "columns", "depth"), KERNELS, ids=[name for name, *_ in KERNELS])
def test_a_tile_is_left_whatever_the_shape(name, columns, depth, kind, precision, monkeypatch):
    """Those that are mostly empty, or do not fit a multiprocessor, are not tried."""
    import importlib

    home = "symmetric_layers.torch.kernels.triton"
    launch, tiles = (importlib.import_module(f"{home}.{module}") for module in ("box_launch", "box_tiles"))
    kernel = getattr(importlib.import_module(f"{home}.box_{name}"), f"box_{name}")
    x = torch.zeros(1, dtype=torch.bfloat16 if precision == "ieee" else torch.float32)
    every = tiles.__dict__[name.upper()][x.element_size()][kind.bit_count()]
    monkeypatch.setattr(launch, "INTERPRETED", False)
    monkeypatch.setattr(kernel, "configs", [launch._config(tile) for tile in every])
    monkeypatch.setattr(kernel, "nargs", {}, raising=False)
    for wide in (1, 8, 16, 17, 32, 64, 1000):
        for deep in (1, 8, 16, 25, 32, 64, 1000):
            found = kernel.prune_configs({"x": x, "kind": kind, "precision": precision, columns: wide, depth: deep})
            assert found
            smallest = min(tile.depth for tile in every)
            assert all(config.kwargs["depth"] <= max(2 * deep, 16, smallest) for config in found)
