"""The tiles and the 64-bit places of the kernels for GPUs: all give the answer, and those that fit are tried."""

import importlib

import pytest
import torch
from test_triton import DEVICE, HERE, agrees, conv, differentiated, last, random, same_bits

pytestmark = HERE


@pytest.fixture(autouse=True)
def _in_float32():
    before, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
    yield
    torch.backends.cudnn.allow_tf32 = before


@pytest.mark.parametrize("channels", [3, 4], ids=["by pointers", "in boxes"])
@pytest.mark.parametrize("deep", [False, True], ids=["lifting", "deep"])
def test_places_that_need_64_bits_are_the_same_places(deep, channels, monkeypatch):
    layer = conv(2, channels, channels, 3, deep, padding=1)
    x, gradient = random(2, layer.in_channels, 5, 6), random(2, layer.out_channels, 5, 6)
    expected = differentiated(layer, last(x), "triton", gradient)
    for name in ("by_pointers", "in_boxes", "order"):
        module = importlib.import_module(f"symmetric_layers.torch.kernels.triton.{name}")
        monkeypatch.setattr(module, "is_wide", lambda *tensors: True)
    found = differentiated(layer, last(x), "triton", gradient)
    assert all(same_bits(*pair) for pair in zip(found, expected, strict=True))


def trying(monkeypatch, kernels):
    """Every tile of these kernels is run, as the tuner would; each next one is said to be faster."""
    taken = []
    for kernel, every in kernels:
        monkeypatch.setattr(kernel, "configs", every)
        monkeypatch.setattr(kernel, "cache", {})

        def measured(call, quantiles, kernel=kernel):
            call()
            taken.append(kernel)
            return [1 / len(taken)] * 3

        monkeypatch.setitem(vars(kernel), "do_bench", measured)
    return taken


@pytest.mark.skipif(DEVICE == "cuda", reason="On a GPU the tuner itself is at work")
@pytest.mark.parametrize("deep", [False, True], ids=["lifting", "deep"])
def test_every_tile_that_may_be_taken_gives_the_answer(deep, monkeypatch):
    """The tuner measures each of them; here it takes the last."""
    home = "symmetric_layers.torch.kernels.triton"
    every = importlib.import_module(f"{home}.launch")._ALL
    names = ("answers", "pictures", "filters")
    taken = trying(
        monkeypatch, [(getattr(importlib.import_module(f"{home}.{name}"), name), every) for name in names]
    )  # fmt: skip
    layer = conv(2, 3, 21, (1, 3), deep, padding=(0, 1))
    agrees(layer, random(1, layer.in_channels, 9, 10))
    assert len(taken) == (8 if deep else 12)


@pytest.mark.skipif(DEVICE == "cuda", reason="On a GPU the tuner itself is at work")
@pytest.mark.parametrize(("deep", "dtype"), [(False, torch.bfloat16), (True, torch.float32)], ids=["lifting", "deep"])
def test_every_tile_of_boxes_that_may_be_taken_gives_the_answer(deep, dtype, monkeypatch):
    """The same where everything is read in boxes."""
    home = "symmetric_layers.torch.kernels.triton"
    tiles, launch, boxes = (
        importlib.import_module(f"{home}.{name}") for name in ("box_tiles", "box_launch", "in_boxes")
    )
    kernels = []
    for name in ("answers", "pictures", "filters"):
        mine = getattr(tiles, name.upper())[dtype.itemsize][2]
        kernel = getattr(importlib.import_module(f"{home}.box_{name}"), f"box_{name}")
        kernels.append((kernel, [launch._config(tile) for tile in mine]))
    taken = trying(monkeypatch, kernels)
    monkeypatch.setattr(launch, "INTERPRETED", False)
    monkeypatch.setattr(boxes, "ACROSS", 32)
    layer = conv(2, 64 if deep else 256, 64, (1, 3), deep, dtype, padding=(0, 1))
    agrees(layer, random(1, layer.in_channels, 9, 10, dtype=dtype))
    tried = [len(mine) for _, mine in kernels]  # orbits of a deep layer ask for answers twice, with one shape
    if deep:
        tried[1] = 0
    assert [taken.count(kernel) for kernel, _ in kernels] == tried


def test_of_the_tiles_those_fit_that_are_neither_empty_nor_too_large():
    launch = importlib.import_module("symmetric_layers.torch.kernels.triton.launch")

    def fitting(letters, columns, depth, dtype):
        found = launch.fit(launch._ALL, {"x": torch.zeros(1, dtype=dtype)}, lambda _: (letters, columns, depth))
        return {tuple(config.kwargs.values()) for config in found}

    assert fitting(1, 128, 256, torch.bfloat16) == {
        (rows, columns, depth) for rows, columns in ((128, 128), (128, 64), (64, 64)) for depth in (32, 64)
    }
    assert fitting(3, 8, 8, torch.bfloat16) == {(64, 16, 16)}
    assert fitting(2, 32, 256, torch.float32) == {
        (64, columns, depth) for columns in (16, 32) for depth in (16, 32)
    }  # fmt: skip
    for letters in range(4):
        for columns in (1, 16, 17, 100, 5000):
            for depth in (1, 16, 5000):
                assert 1 <= len(fitting(letters, columns, depth, torch.float16)) <= 8
