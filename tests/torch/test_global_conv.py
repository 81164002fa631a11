"""The 1-D convolution that is indifferent to the order of its features."""

import numpy as np
import oracle
import pytest
import torch

from symmetric_layers import SymmetryError
from symmetric_layers.torch import GlobalConv1d


def layer_and_input(bias=True, length=9):
    torch.manual_seed(0)
    return GlobalConv1d(3, 5, bias=bias, dtype=torch.float64), torch.randn(4, 3, length, dtype=torch.float64)


@pytest.mark.parametrize("length", [1, 2, 9])
@pytest.mark.parametrize("bias", [True, False])
def test_it_is_the_literal_wide_convolution(bias, length, tolerance):
    layer, x = layer_and_input(bias, length)
    numbers = [None if p is None else p.detach().numpy() for p in (layer.centre, layer.surround, layer.bias)]
    np.testing.assert_allclose(
        layer(x).detach().numpy(), oracle.global_conv(x.numpy(), *numbers), rtol=0, atol=tolerance["float64"]
    )


def test_it_permutes_with_its_input(tolerance):
    layer, x = layer_and_input()
    order = torch.randperm(9)
    assert (layer(x[..., order]) - layer(x)[..., order]).abs().max() <= tolerance["float64"]


@pytest.mark.parametrize("dtype", [torch.bool, torch.float32, torch.int64])
def test_masked_features_are_left_out(dtype, tolerance):
    layer, x = layer_and_input()
    mask = torch.arange(9)[None] < torch.tensor([9, 5, 1, 0])[:, None]
    poisoned = x.masked_fill(~mask[:, None], float("nan"))
    answer = layer(poisoned, mask=mask.to(dtype))
    for picture, row, kept in zip(x, answer, (9, 5, 1, 0), strict=True):
        if kept:
            assert (row[:, :kept] - layer(picture[None, :, :kept])[0]).abs().max() <= tolerance["float64"]
        assert torch.equal(row[:, kept:], torch.zeros_like(row[:, kept:]))


def test_gradients_do_not_leak_from_masked_features():
    layer, x = layer_and_input()
    mask = torch.arange(9)[None].expand(4, 9) < 5
    x.requires_grad_()
    layer(x, mask).square().sum().backward()
    assert (x.grad[..., 5:] == 0).all()
    assert (x.grad[..., :5] != 0).all()


def test_the_cost_is_linear_in_the_length():
    layer = GlobalConv1d(16, 16)
    assert layer(torch.randn(1, 16, 100_000)).shape == (1, 16, 100_000)


def test_it_starts_like_a_linear_layer():
    torch.manual_seed(0)
    expected = torch.nn.Linear(3, 5)
    torch.manual_seed(0)
    layer = GlobalConv1d(3, 5)
    assert torch.equal(layer.centre, expected.weight)
    assert layer.surround.abs().max() <= 3**-0.5
    assert {key: tuple(value.shape) for key, value in layer.state_dict().items()} == {
        "centre": (5, 3),
        "surround": (5, 3),
        "bias": (5,),
    }
    assert repr(layer) == "GlobalConv1d(3, 5, bias=True)"


@pytest.mark.parametrize("arguments", [(0, 5), (3, 2.5), (3, True)])
def test_impossible_channels_are_refused(arguments):
    with pytest.raises(SymmetryError, match=r"^(in|out)_channels: \S+ is no usable count. Expected a whole number, "):
        GlobalConv1d(*arguments)
