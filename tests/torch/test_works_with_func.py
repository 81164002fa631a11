"""`torch.func` maps, differentiates and stacks every layer."""

import copy

import pytest
import torch
from cases_torch import (
    CONVOLUTIONS,
    EVERYTHING,
    GLOBAL,
    NETWORK_EVAL,
    NORM_EVAL,
    SINGLE_PICTURES,
    STORING,
    Case,
    name,
)
from torch import Tensor
from torch.func import functional_call, grad, jvp, replace_all_batch_norm_modules_, stack_module_state, vjp, vmap

# third parties: forward derivatives are prepared by what PyTorch itself calls deprecated
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")

STORING_SINGLE = [*CONVOLUTIONS, NORM_EVAL, *GLOBAL, NETWORK_EVAL]


def double(case: Case) -> tuple[torch.nn.Module, dict[str, Tensor], Tensor]:
    """The layer, its parameters and its input; a norm in training forgets its running statistics, as its host must."""
    layer = case.layer().double()
    if case.training:
        replace_all_batch_norm_modules_(layer)
    return layer, {key: value.detach() for key, value in layer.named_parameters()}, case.input(dtype=torch.float64)


@pytest.mark.parametrize("case", SINGLE_PICTURES, ids=name)
def test_a_layer_mapped_over_inputs_answers_each_of_them(case: Case) -> None:
    layer, _, x = double(case)
    stack = torch.stack([x, x.flip(0), 2 * x, -x])
    torch.testing.assert_close(vmap(layer)(stack), torch.stack([layer(one) for one in stack]))
    last = vmap(layer, in_dims=-1, out_dims=1)(stack.movedim(0, -1))
    torch.testing.assert_close(last, torch.stack([layer(one) for one in stack], 1))


@pytest.mark.parametrize("case", STORING_SINGLE, ids=name)
def test_an_ensemble_of_layers_answers_as_its_members_do(case: Case) -> None:
    members = [case.layer(seed).double() for seed in range(3)]
    parameters, buffers = stack_module_state(members)
    empty = copy.deepcopy(members[0]).to("meta")
    x = case.input(dtype=torch.float64)

    def answer(parameters: dict[str, Tensor], buffers: dict[str, Tensor]) -> Tensor:
        return functional_call(empty, (parameters, buffers), (x,))

    torch.testing.assert_close(vmap(answer)(parameters, buffers), torch.stack([member(x) for member in members]))


@pytest.mark.parametrize("case", STORING, ids=name)
def test_the_functional_gradient_is_that_of_backward(case: Case) -> None:
    layer, stored, x = double(case)

    def loss(stored: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(layer, stored, (x,)).pow(3).sum()

    layer(x).pow(3).sum().backward()
    torch.testing.assert_close(grad(loss)(stored, x), {key: value.grad for key, value in layer.named_parameters()})


@pytest.mark.parametrize("case", STORING_SINGLE, ids=name)
def test_the_gradients_of_single_pictures_add_up_to_the_gradient_of_the_batch(case: Case) -> None:
    layer, stored, x = double(case)

    def loss(stored: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(layer, stored, (x,)).pow(3).sum()

    single = vmap(grad(loss), in_dims=(None, 0))(stored, x.unsqueeze(1))
    summed = {key: value.sum(0) for key, value in single.items()}
    torch.testing.assert_close(summed, grad(loss)(stored, x))


@pytest.mark.parametrize("case", EVERYTHING, ids=name)
def test_forward_and_backward_derivatives_agree(case: Case) -> None:
    layer, stored, x = double(case)

    def answer(stored: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(layer, stored, (x,))

    torch.manual_seed(0)
    towards = ({key: torch.randn_like(value) for key, value in stored.items()}, torch.randn_like(x))
    y, moved = jvp(answer, (stored, x), towards)
    weights = torch.randn_like(y)
    by_stored, by_input = vjp(answer, stored, x)[1](weights)
    backward = sum((by_stored[key] * towards[0][key]).sum() for key in stored) + (by_input * towards[1]).sum()
    torch.testing.assert_close((moved * weights).sum(), backward)
    assert moved.abs().sum() > 0


def test_an_orbit_norm_without_running_statistics_is_mapped_in_training() -> None:
    layer = NORM_EVAL.build(dtype=torch.float64, track_running_stats=False)
    x = NORM_EVAL.input(dtype=torch.float64)
    stack = torch.stack([x, x.flip(0) + 1])
    torch.testing.assert_close(vmap(layer)(stack), torch.stack([layer(one) for one in stack]))
