"""A network is measured in both modes, and no convolution is asked the same question twice."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from symmetric_layers import SymmetryError
from symmetric_layers.torch import equivariant
from symmetric_layers.torch.convert import measure, products, remember
from symmetric_layers.torch.convert.remember import Remembered

PICTURE = torch.randn(1, 1, 9, 9)


def network(between):
    return nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), between, nn.ReLU(inplace=True), nn.Conv2d(8, 4, 3, padding=1))


def convolutions(between, limit, monkeypatch):
    """What a network measures, and how many convolutions that took."""
    asked, own = [], products.by_products
    with monkeypatch.context() as patch:
        patch.setattr(remember, "_LIMIT", limit)
        patch.setattr(products, "by_products", lambda *given: asked.append(1) or own(*given))
        new = equivariant(network(between), "h", example=PICTURE, measure=False)
        found = measure.law_error(new, PICTURE, measure.Law("h"))
        return {training: one.worst for training, one in found.items()}, len(asked)


@pytest.mark.parametrize(("between", "saved"), [(nn.GroupNorm(8, 8), 1.0), (nn.BatchNorm2d(8), 0.0)])
def test_no_convolution_is_asked_twice(between, saved, monkeypatch):
    expected, all_of_them = convolutions(between, 0, monkeypatch)
    found, asked = convolutions(between, 2**20, monkeypatch)
    assert found == pytest.approx(expected, abs=1e-15)
    assert all_of_them > 0
    assert asked == all_of_them * (1 - saved / 2)


class Lopsided(nn.Module):
    """Looks to the left while it is trained."""

    def forward(self, x):
        return x.roll(1, -1) if self.training else x


@pytest.mark.parametrize("place", [0, 1, 3])
def test_a_breach_of_training_mode_alone_is_found(place):
    model = network(nn.Identity())
    model.insert(place, Lopsided())
    with pytest.raises(SymmetryError, match="in training mode"):
        equivariant(model, "h", example=PICTURE)


def test_questions_and_answers_may_be_written_into():
    layer, x = nn.Conv2d(1, 2, 3).double(), PICTURE.double()
    with torch.no_grad(), Remembered(layer):
        expected = layer(x).clone()
        layer(x).zero_()
        assert torch.equal(layer(x), expected)
        assert torch.equal(layer(x.clone()), expected)
        before = x.clone()
        layer(x)
        x.mul_(2)
        assert torch.equal(layer(before), expected)
        assert torch.equal(layer(-x), F.conv2d(-x, layer.weight, layer.bias))
    assert "forward" not in vars(layer)


def test_layers_that_may_answer_otherwise_are_left_alone():
    hooked = nn.utils.parametrizations.spectral_norm(nn.Conv2d(1, 2, 3))
    own = type("Own", (nn.Conv2d,), {"__module__": "elsewhere"})(1, 2, 3)
    model = nn.ModuleList([hooked, own, nn.Linear(2, 2)])
    with Remembered(model):
        assert not any("forward" in vars(module) for module in model.modules())


def test_answers_that_need_gradients_are_not_kept():
    layer = nn.Conv2d(1, 2, 3)
    with Remembered(layer):
        assert layer(PICTURE).grad_fn is not layer(PICTURE).grad_fn


def test_inference_mode_is_measured_too():
    with torch.inference_mode():
        new = equivariant(network(nn.GroupNorm(8, 8)), "h", example=torch.randn(1, 1, 9, 9))
        assert new(PICTURE).shape == (1, 4, 9, 9)
