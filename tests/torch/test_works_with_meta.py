"""Layers are built without memory, get it later, and are built where and how precisely one asks."""

import pytest
import torch
from cases_torch import CONVOLUTIONS, EVERYTHING, GLOBAL, NETWORK, NORM, STORING, Case, name
from torch import nn


def devices(layer: nn.Module) -> set[str]:
    return {value.device.type for value in layer.state_dict().values()}


def draw_again(layer: nn.Module) -> None:
    for module in layer.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()


@pytest.mark.parametrize("case", STORING, ids=name)
def test_a_layer_is_built_without_memory(case: Case) -> None:
    assert devices(case.build(device="meta")) == {"meta"}
    with torch.device("meta"):
        assert devices(case.build()) == {"meta"}


@pytest.mark.parametrize("case", EVERYTHING, ids=name)
def test_a_layer_without_memory_knows_the_shape_of_its_answer(case: Case) -> None:
    layer = case.build(device="meta").train(case.training)
    assert layer(case.input().to("meta")).shape == case.layer()(case.input()).shape


@pytest.mark.parametrize("case", STORING, ids=name)
def test_a_layer_given_memory_later_starts_as_one_built_at_once(case: Case) -> None:
    torch.manual_seed(8)
    expected = case.build()
    draw_again(expected)
    torch.manual_seed(8)
    case.build()
    layer = case.build(device="meta").to_empty(device="cpu")
    with torch.no_grad():
        for value in layer.state_dict().values():
            value.fill_(float("nan") if value.is_floating_point() else -1)
    draw_again(layer)
    torch.testing.assert_close(layer.state_dict(), expected.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize("case", STORING, ids=name)
def test_a_layer_given_memory_later_loads_what_another_has_learnt(case: Case, assign: bool) -> None:
    learnt = case.layer().eval()
    layer = case.build(device="meta").eval()
    if not assign:
        layer.to_empty(device="cpu")
    layer.load_state_dict(learnt.state_dict(), assign=assign)
    torch.testing.assert_close(layer(case.input()), learnt(case.input()), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("case", [*CONVOLUTIONS, NORM, *GLOBAL, NETWORK], ids=name)
def test_a_layer_is_built_as_precise_as_asked(case: Case, dtype: torch.dtype) -> None:
    layer = case.build(dtype=dtype)
    assert {value.dtype for value in layer.state_dict().values() if value.is_floating_point()} == {dtype}
    assert layer(case.input(dtype=dtype)).dtype is dtype


@pytest.mark.parametrize("case", EVERYTHING, ids=name)
def test_a_layer_made_more_precise_answers_alike(case: Case) -> None:
    y = case.layer().double()(case.input(dtype=torch.float64))
    assert y.dtype is torch.float64
    torch.testing.assert_close(y.float(), case.layer()(case.input()))
