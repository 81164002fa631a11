"""Filters on two grids, which are wider than what is stored of them, are answered with and without gradients alike."""

import pytest
import torch
from test_cpu import instruction_set, last  # noqa: F401
from test_cpu_shapes import DEEP, conv, random

from symmetric_layers.torch.kernels import library

pytestmark = [
    pytest.mark.skipif(library.missing() is not None, reason=f"{library.missing()}"),
    pytest.mark.usefixtures("instruction_set"),
]


def answers_at_once(layer, x):
    """Twice: the second answer is the first one whose filters are kept."""
    with torch.no_grad():
        found = [layer(x) for _ in range(3)]
    assert layer._note is not None
    expected = layer(x.requires_grad_()).detach()
    assert all(torch.equal(one, expected) for one in found)


@DEEP
@pytest.mark.parametrize("padding", [0, 1, 2])
@pytest.mark.parametrize(("kernel", "stride"), [(1, 2), (3, 2), (3, 3), (5, 2), ((2, 3), (1, 2)), ((7, 4), (3, 2))])
def test_grids_of_every_kind(kernel, stride, padding, deep):
    layer = conv(2, 3, 5, kernel, deep, stride=stride, padding=padding, grid="mirrored")
    for sizes in ((12, 14), (13, 14), (14, 13), (12, 15)):
        x = random(2, layer.in_channels, *sizes)
        answers_at_once(layer, x)
        answers_at_once(layer, last(x.detach()))


@DEEP
@pytest.mark.parametrize(("inputs", "outputs"), [(1, 2), (24, 40), (20, 16)])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_any_number_of_channels(rank, inputs, outputs, deep):
    layer = conv(rank, inputs, outputs, 3, deep, stride=2, padding=1, grid="mirrored")
    answers_at_once(layer, random(2, layer.in_channels, *(6, 8, 10)[-rank:]))


def test_filters_whose_channels_lie_last():
    layer = conv(2, 20, 40, 3, stride=2, padding=1, grid="mirrored").to(memory_format=torch.channels_last)
    assert not layer.weight.is_contiguous()
    answers_at_once(layer, random(2, 20, 12, 14))
