"""The way back for layers that make their weights out of others, and for classes derived from this package's."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

from symmetric_layers import SymmetryError
from symmetric_layers.torch import (
    InvariantConv2d,
    OrbitBatchNorm2d,
    OrbitLinear,
    SymmetricConv2d,
    desymmetrize,
    equivariant,
)
from symmetric_layers.torch.convert import symmetrize

pytestmark = pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
H = {"h": 8}


def picture(*shape):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def masked(layer):
    prune.l1_unstructured(layer, "weight", 0.5)
    prune.random_unstructured(layer, "bias", 0.5)


def masked_twice(layer):
    prune.ln_structured(layer, "weight", 0.5, 2, 1)
    prune.random_unstructured(layer, "weight", 0.3)


DERIVED = {
    "pruned": masked,
    "pruned twice": masked_twice,
    "weight_norm": nn.utils.weight_norm,
    "spectral_norm": nn.utils.spectral_norm,
    "parametrized weight_norm": parametrizations.weight_norm,
    "parametrized spectral_norm": parametrizations.spectral_norm,
    "parametrized": lambda layer: parametrize.register_parametrization(layer, "weight", nn.Softplus()),
    "parametrized bias": lambda layer: parametrize.register_parametrization(layer, "bias", nn.Tanh()),
}


def network():
    return nn.Sequential(
        SymmetricConv2d(3, 8, 3, symmetry=H),
        OrbitBatchNorm2d(8, symmetry=H),
        InvariantConv2d(8, 4, 3, in_symmetry=H),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        OrbitLinear(4, 2, in_symmetry={"h": 4}),
    ).double()


def step(model, x):
    """Trains a little, so that what was made at the last call is what it was made of no longer."""
    model.train()(x).square().sum().backward()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.sub_(0.1 * parameter.grad)
    return model.eval()


@pytest.mark.parametrize("name", DERIVED)
def test_weights_that_are_made_out_of_others_are_written_out(name, tolerance):
    model, x = network(), picture(2, 3, 6, 7)
    for place in (0, 2, 5):
        DERIVED[name](model[place])
    step(model, x)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    expected, before = model(x), copy.deepcopy(model.state_dict())
    plain = desymmetrize(model, optimizer=optimizer)
    assert [type(layer) for layer in plain] == [
        nn.Conv2d, nn.BatchNorm2d, nn.Conv2d, nn.AdaptiveAvgPool2d, nn.Flatten, nn.Linear
    ]  # fmt: skip
    assert (plain(x) - expected).abs().max() <= tolerance["float64"] * expected.abs().max()
    fresh = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 3), *plain[3:5], nn.Linear(4, 2))
    assert plain.state_dict().keys() == fresh.state_dict().keys()
    plain.load_state_dict(plain.state_dict())
    assert [layer._forward_pre_hooks for layer in plain if layer._forward_pre_hooks] == []
    assert {id(one) for group in optimizer.param_groups for one in group["params"]} == {*map(id, plain.parameters())}
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert torch.equal(model(x), expected)


@pytest.mark.parametrize("name", DERIVED)
def test_what_was_frozen_stays_so(name):
    layer = SymmetricConv2d(3, 8, 3, symmetry=H)
    DERIVED[name](layer)
    plain = desymmetrize(layer.requires_grad_(False))
    assert not any(parameter.requires_grad for parameter in plain.parameters())
    told = []
    other = desymmetrize(layer.requires_grad_(True), report=told.append)
    assert all(parameter.requires_grad for parameter in other.parameters())
    names = {"pruned": ["weight", "bias"], "parametrized bias": ["bias"]}.get(name, ["weight"])
    said = "was made out of other numbers, and is written out as it is in evaluation mode."
    assert told == [f"{one!r} {said}" for one in names]


def test_attention_and_classes_of_their_own_too(tolerance):
    class Attends(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = Scaled(3, 8, 3), nn.Linear(8, 2)
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x):
            tokens = self.first(x).flatten(2).mT
            return self.last(self.attention(tokens, tokens, tokens)[0].mean(1))

    class Scaled(nn.Conv2d):
        def forward(self, x):
            return 2 * super().forward(x)

    x = picture(2, 3, 6, 7)
    twin = equivariant(Attends().double(), "h", example=x)
    parametrizations.weight_norm(twin.attention.out_proj)
    parametrizations.weight_norm(twin.attention, "in_proj_weight")
    step(twin, x)
    expected = twin(x)
    parametrizations.weight_norm(twin.first.conv)  # which its own forward is not shown
    plain = desymmetrize(twin)
    assert [type(layer) for layer in plain.children()] == [Scaled, nn.Linear, nn.MultiheadAttention]
    assert plain.state_dict().keys() == Attends().state_dict().keys()
    assert (plain(x) - expected).abs().max() <= tolerance["float64"]


class Mine(SymmetricConv2d):
    """Nothing new."""


class Twice(SymmetricConv2d):
    """Something else."""

    def forward(self, input):
        return 2 * super().forward(input)


class MyNorm(OrbitBatchNorm2d):
    """Nothing new."""


def test_classes_derived_from_this_package_s_are_its_layers():
    x = torch.randn(1, 3, 5, 5)
    model = nn.Sequential(Mine(3, 8, 3, symmetry=H), MyNorm(8, symmetry=H)).eval()
    plain = desymmetrize(model)
    assert [type(layer) for layer in plain] == [nn.Conv2d, nn.BatchNorm2d]
    torch.testing.assert_close(plain(x), model(x))
    parametrizations.weight_norm(model[0])
    assert type(desymmetrize(nn.Sequential(model[0]))[0]) is nn.Conv2d
    with pytest.raises(SymmetryError, match=r"^model: '0' is a layer of this package already"):
        equivariant(nn.Sequential(Mine(3, 8, 3), nn.Conv2d(8, 2, 1)), "h", example=x)


def test_what_computes_something_of_its_own_is_refused_by_name():
    own = (
        r"^model: '1' is a Twice, which computes something of its own. Expected a SymmetricConv2d that computes what "
        "the package's does. Exchange it yourself first, or take it out of the part that is converted.$"
    )
    model = nn.Sequential(SymmetricConv2d(3, 8, 3, symmetry=H), Twice(8, 8, 3, symmetry=H))
    before = model[0]
    with pytest.raises(SymmetryError, match=own):
        desymmetrize(model, inplace=True)
    assert model[0] is before
    model = nn.Sequential(SymmetricConv2d(3, 8, 3, symmetry=H), nn.Conv2d(8, 4, 3))
    for layer in model:
        layer.forward = layer.forward
    with pytest.raises(SymmetryError, match="'0' is a SymmetricConv2d, which computes something of its own"):
        desymmetrize(model)
    with pytest.raises(SymmetryError, match="'1' is a Conv2d, which computes something of its own"):
        symmetrize(model, {"h": 4})
