"""Initialisers, parametrizations and pruning act on what is stored, and the mirrors follow."""

import pytest
import torch
from cases_torch import CONVOLUTIONS, GLOBAL, Case, all_filters, backward, host, name, written_out
from torch import nn
from torch.nn.utils import parametrize, prune
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

INITIALISERS = [
    nn.init.ones_,
    nn.init.zeros_,
    nn.init.normal_,
    nn.init.trunc_normal_,
    nn.init.xavier_uniform_,
    nn.init.kaiming_normal_,
    nn.init.orthogonal_,
]


def assert_mirrored(layer: nn.Module, x: torch.Tensor) -> None:
    """All filters are the stored ones and their mirrors, and the output is the host's with these filters."""
    torch.testing.assert_close(all_filters(layer), written_out(layer), rtol=0, atol=0)
    torch.testing.assert_close(layer(x), host(layer)(x))


@pytest.mark.parametrize("initialise", INITIALISERS, ids=lambda initialise: initialise.__name__)
@pytest.mark.parametrize("case", CONVOLUTIONS, ids=name)
def test_outputs_follow_an_initialiser_of_the_weight(case: Case, initialise) -> None:
    layer, x = case.layer(), case.input()
    before, stored = layer(x), layer.weight
    initialise(layer.weight)
    assert layer.weight is stored
    assert not torch.equal(layer(x), before)
    assert_mirrored(layer, x)


@pytest.mark.parametrize("case", GLOBAL[:1], ids=name)
def test_outputs_follow_an_initialiser_of_a_global_convolution(case: Case) -> None:
    layer, x = case.layer(), case.input()
    nn.init.zeros_(layer.surround)
    nn.init.ones_(layer.centre)
    torch.testing.assert_close(layer(x), x.sum(1, keepdim=True) + layer.bias[:, None])


def test_an_initialiser_of_the_bias_reaches_every_mirror() -> None:
    layer = CONVOLUTIONS[1].layer()
    nn.init.zeros_(layer.weight)
    nn.init.constant_(layer.bias, 2.0)
    assert torch.equal(layer(CONVOLUTIONS[1].input()), torch.full((3, 16, 6, 5), 2.0))


@pytest.mark.parametrize("normalise", [weight_norm, spectral_norm], ids=lambda normalise: normalise.__name__)
@pytest.mark.parametrize("case", CONVOLUTIONS, ids=name)
def test_a_parametrized_layer_stays_mirrored_and_trains_and_comes_back(case: Case, normalise) -> None:
    layer, x = case.layer(), case.input()
    plain = list(layer.state_dict())
    normalise(layer)
    assert_mirrored(layer.eval(), x)
    found = backward(layer.train(), x)
    stored = [key for key, _ in layer.named_parameters() if "parametrizations" in key]
    assert stored
    assert all(found[f"gradient of {key}"].abs().sum() > 0 for key in stored)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.sub_(0.1 * parameter.grad)
    y = layer.eval()(x)
    assert_mirrored(layer, x)
    parametrize.remove_parametrizations(layer, "weight")
    assert set(layer.state_dict()) == set(plain)
    torch.testing.assert_close(layer(x), y)
    assert_mirrored(layer, x)


@pytest.mark.parametrize("case", CONVOLUTIONS, ids=name)
def test_weight_norm_leaves_the_output_as_it_was(case: Case) -> None:
    x = case.input()
    torch.testing.assert_close(weight_norm(case.layer())(x), case.layer()(x))


@pytest.mark.parametrize("case", CONVOLUTIONS, ids=name)
def test_spectral_norm_bounds_what_is_stored(case: Case) -> None:
    layer = case.layer()
    nn.init.normal_(layer.weight, std=5.0)
    spectral_norm(layer, n_power_iterations=50, dim=0)
    weight = layer.weight.detach().flatten(1)
    assert torch.linalg.matrix_norm(weight, 2).item() == pytest.approx(1.0, rel=1e-3)


@pytest.mark.parametrize("case", CONVOLUTIONS, ids=name)
def test_a_pruned_layer_stays_mirrored(case: Case) -> None:
    layer, x = case.layer(), case.input()
    prune.l1_unstructured(layer, "weight", amount=0.5)
    layer(x)
    assert (layer.weight == 0).float().mean().item() == pytest.approx(0.5, abs=0.1)
    assert_mirrored(layer, x)
    prune.remove(layer, "weight")
    assert_mirrored(layer, x)
