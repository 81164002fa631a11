"""Under autocast every layer computes in the precision its host would choose, and trains in full precision."""

import pytest
import torch
from cases_torch import CONVOLUTIONS, EVERYTHING, GLOBAL, NORM, NORM_EVAL, POOLS, Case, backward, host, name
from torch import nn

LAYERS = [*CONVOLUTIONS, NORM, NORM_EVAL, *POOLS, *GLOBAL]


@pytest.mark.parametrize("case", CONVOLUTIONS, ids=name)
def test_a_convolution_under_autocast_has_the_precision_of_its_host(case: Case) -> None:
    layer, x = case.layer(), case.input()
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype is host(layer)(x).dtype is torch.bfloat16
        assert layer(x.bfloat16()).dtype is torch.bfloat16


@pytest.mark.parametrize("case", GLOBAL, ids=name)
def test_a_global_convolution_under_autocast_has_the_precision_of_a_convolution(case: Case) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert case.layer()(case.input()).dtype is torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("case", [NORM, NORM_EVAL, *POOLS], ids=name)
def test_a_norm_or_pool_under_autocast_keeps_the_precision_of_its_input(case: Case, dtype: torch.dtype) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert nn.BatchNorm2d(3)(torch.zeros(2, 3, 4, 4, dtype=dtype)).dtype is dtype  # the host does so too
        assert case.layer()(case.input(dtype=dtype)).dtype is dtype


@pytest.mark.parametrize("case", LAYERS, ids=name)
def test_a_layer_under_autocast_is_close_to_itself_in_full_precision(case: Case) -> None:
    exact = backward(case.layer(), case.input())
    with torch.autocast("cpu", torch.bfloat16):
        rounded = backward(case.layer(), case.input())
    for key, value in exact.items():
        error = (rounded[key].float() - value).norm()
        assert error <= 0.02 * value.float().norm(), key


@pytest.mark.parametrize("case", EVERYTHING, ids=name)
def test_gradients_and_statistics_under_autocast_are_in_full_precision(case: Case) -> None:
    layer = case.layer()
    with torch.autocast("cpu", torch.bfloat16):
        found = backward(layer, case.input())
    for key, value in found.items():
        assert torch.isfinite(value).all(), key
        if key.startswith("gradient") or key.endswith(("running_mean afterwards", "running_var afterwards")):
            assert value.dtype is torch.float32, key
