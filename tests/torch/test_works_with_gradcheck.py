"""First and second derivatives of every layer are those of finite differences."""

import pytest
import torch
from cases_torch import CONVOLUTIONS, GLOBAL, NORM, NORM_EVAL, POOLS, Case, name
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call

# third parties: forward derivatives are prepared by what PyTorch itself calls deprecated
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")

LAYERS = [*CONVOLUTIONS, NORM, NORM_EVAL, *POOLS, *GLOBAL]


def function_of(case: Case) -> tuple:
    """The layer as a function of its input and of all that is trained, and where to differentiate it."""
    layer, x = case.layer().double(), case.input(2, dtype=torch.float64)
    names = [key for key, _ in layer.named_parameters()]

    def answer(x: Tensor, *stored: Tensor) -> Tensor:
        return functional_call(layer, dict(zip(names, stored, strict=True)), (x,))

    return answer, (x.requires_grad_(), *(value.detach().requires_grad_() for value in layer.parameters()))


@pytest.mark.parametrize("case", LAYERS, ids=name)
def test_the_gradients_are_those_of_finite_differences(case: Case) -> None:
    assert gradcheck(*function_of(case), check_forward_ad=True, fast_mode=True)


@pytest.mark.parametrize("case", LAYERS, ids=name)
def test_the_second_derivatives_are_those_of_finite_differences(case: Case) -> None:
    assert gradgradcheck(*function_of(case), fast_mode=True)
