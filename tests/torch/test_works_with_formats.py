"""Layers take inputs in any memory format, without a batch or with none in it, and answer in their host's format."""

import pytest
import torch
from cases_torch import CONVOLUTIONS, EVERYTHING, GLOBAL, NETWORK_EVAL, NORM, NORM_EVAL, Case, backward, host, name
from torch import nn

import symmetric_layers.torch as layers

FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}
PLANES = [case for case in CONVOLUTIONS if len(case.shape) in FORMATS]


@pytest.mark.parametrize("case", PLANES, ids=name)
def test_channels_last_in_is_channels_last_out_as_in_the_host(case: Case) -> None:
    layer, wanted = case.layer(), FORMATS[len(case.shape)]
    x = case.input(8).to(memory_format=wanted)
    expected = host(layer)(x)
    y = layer(x)
    torch.testing.assert_close(y, expected)
    assert y.is_contiguous(memory_format=wanted) is expected.is_contiguous(memory_format=wanted)


@pytest.mark.parametrize("name", ["SymmetricConv2d", "SymmetricConvTranspose2d"])
def test_the_mirrored_grid_keeps_the_memory_format(name: str) -> None:
    more = {"output_padding": 1} if "Transpose" in name else {"algorithm": "reference"}
    hv = {"hv": 8}
    layer = getattr(layers, name)(8, 8, 3, 2, 1, symmetry=hv, in_symmetry=hv, grid="mirrored", **more)
    x = torch.randn(2, 8, 10, 12, generator=torch.Generator().manual_seed(0))
    y = layer(x.to(memory_format=torch.channels_last))
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert layer(x).is_contiguous()
    torch.testing.assert_close(y, layer(x))


@pytest.mark.parametrize("case", [case for case in PLANES if case.shape[1] > 1], ids=name)  # one channel has no order
def test_a_layer_converted_to_channels_last_answers_so_and_trains_alike(case: Case) -> None:
    layer, wanted = case.layer(), FORMATS[len(case.shape)]
    converted = case.layer().to(memory_format=wanted)
    x = case.input(8)
    twin = host(layer).to(memory_format=wanted)(x.to(memory_format=wanted))
    y = converted(x.to(memory_format=wanted))
    assert y.is_contiguous(memory_format=wanted) is twin.is_contiguous(memory_format=wanted)
    torch.testing.assert_close(backward(converted, x.to(memory_format=wanted)), backward(layer, x))


@pytest.mark.parametrize("case", [NORM, NORM_EVAL], ids=name)
def test_an_orbit_norm_answers_alike_in_channels_last(case: Case) -> None:
    x = case.input()
    y = case.layer()(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(y, case.layer()(x))


def test_an_orbit_norm_in_evaluation_keeps_channels_last_as_its_host_does() -> None:
    x = NORM_EVAL.input().to(memory_format=torch.channels_last)
    for layer in (nn.BatchNorm2d(16).eval(), NORM_EVAL.layer()):
        assert layer(x).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("case", EVERYTHING, ids=name)
def test_memory_that_is_not_contiguous_changes_nothing(case: Case) -> None:
    x = case.input()
    strided = torch.stack([torch.zeros_like(x), x], -1)[..., 1]
    assert not strided.is_contiguous()
    torch.testing.assert_close(backward(case.layer(), strided), backward(case.layer(), x))
    turned = x.transpose(1, -1).contiguous().transpose(1, -1)
    torch.testing.assert_close(backward(case.layer(), turned), backward(case.layer(), x))


@pytest.mark.parametrize("case", CONVOLUTIONS, ids=name)
def test_one_picture_without_a_batch_is_answered_without_a_batch(case: Case) -> None:
    layer, x = case.layer(), case.input()
    torch.testing.assert_close(layer(x[1]), layer(x)[1])
    torch.testing.assert_close(layer(x[1]), host(layer)(x[1]))


@pytest.mark.parametrize("case", [*CONVOLUTIONS, NORM_EVAL, *GLOBAL, NETWORK_EVAL], ids=name)
def test_a_batch_of_no_pictures_has_no_answers(case: Case) -> None:
    layer, x = case.layer(), case.input()
    y = layer(x[:0].requires_grad_())
    assert y.shape == (0, *layer(x).shape[1:])
    y.sum().backward()
    assert all(not value.grad.any() for value in layer.parameters())
