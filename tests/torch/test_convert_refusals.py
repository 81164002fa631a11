"""What `equivariant` refuses, keeps and hands on: sentences, hybrids, optimizers, hooks, shared modules."""

import copy
import io
import pickle

import pytest
import torch
from networks_torch import ResNet, UNet
from torch import nn
from torch.nn import functional as F

from symmetric_layers import SymmetryError
from symmetric_layers.torch import assert_equivariant, equivariant, where_it_breaks


class Around(nn.Module):
    """Something between two convolutions."""

    def __init__(self, between, last=None, channels=1):
        super().__init__()
        self.first = nn.Conv2d(channels, 8, 3, padding=1)
        self.last = last or nn.Conv2d(8, 2, 1)
        self.place = nn.Parameter(torch.randn(1, 8, 9, 1))
        self.line = nn.Parameter(torch.randn(9))
        self.between = between

    def forward(self, x):
        return self.last(self.between(self, x, self.first(x)))


PICTURE = torch.randn(1, 1, 9, 9)
CLOSED = "Put a convolution between the input and the concatenation, or keep that part ordinary with keep."
REFUSED = {
    "flatten": (
        Around(lambda model, x, y: y.flatten(1), nn.BatchNorm1d(8 * 81)),
        "model: 'last', a BatchNorm1d, reads channels that 'flatten' has mixed with positions. Expected channels "
        "alone. Pool over all positions first (nn.AdaptiveAvgPool2d(1)), or keep that part ordinary with keep.",
    ),
    "positions": (
        Around(lambda model, x, y: y + model.place),
        "model: 'its forward' combines channels with 'place', which has other numbers than one for each channel "
        "(add). Expected parameters that know channels alone, or tables as large as the maps of orbits that they are "
        "combined with. Leave these out, or keep that part ordinary with keep.",
    ),
    "columns": (
        Around(lambda model, x, y: y * model.line),
        "model: 'its forward' combines channels with 'a parameter', which has other numbers than one for each "
        "channel (mul). Expected parameters that know channels alone, or tables as large as the maps of orbits that "
        "they are combined with. Leave these out, or keep that part ordinary with keep.",
    ),
    "mixer": (
        Around(lambda model, x, y: y, nn.Linear(9, 2)),
        "model: 'last', a Linear, reads channels that cannot be followed through 'an exchange of axes'. Expected "
        "channels that are moved, joined or combined one by one. Write that part with layers of torch.nn, or keep it "
        "ordinary with keep.",
    ),
    "own weights": (
        Around(lambda model, x, y: F.conv2d(y, model.place, padding=(4, 0))),
        "model: 'its forward' weighs channels with a parameter of its own (conv2d). Expected a "
        "layer of torch.nn for that. Use one, or keep that part ordinary with keep.",
    ),
    "shuffle": (
        Around(lambda model, x, y: y.unflatten(1, (2, 4)).transpose(1, 2).flatten(1, 2)),
        "model: 'last', a Conv2d, reads channels that cannot be followed through 'a shuffle of channels'. Expected "
        "channels that are moved, joined or combined one by one. Write that part with layers of torch.nn, or keep it "
        "ordinary with keep.",
    ),
    "twice": (
        Around(lambda model, x, y: model.first(y), channels=8),
        "model: 'first' is used both on pictures and on orbits. Expected one of both. Use two modules, one for each.",
    ),
    "picture and orbits": (
        Around(lambda model, x, y: torch.cat([x, y], 1), nn.Sequential(nn.Conv2d(9, 8, 1), nn.Conv2d(8, 1, 1))),
        "model: 'its forward' concatenates an input of the model with channels of layers. Expected one sort of "
        "channels. " + CLOSED,
    ),
    "channels": (
        nn.Sequential(nn.Conv2d(1, 6, 3), nn.Conv2d(6, 2, 1)),
        "model: '0' has 6 output channels, which are no whole orbits of 'hv'. Expected a multiple of 4. Use such a "
        "number, or keep that part ordinary with keep.",
    ),
    "groups": (
        nn.Sequential(nn.Conv2d(1, 8, 3), nn.GroupNorm(2, 8), nn.Conv2d(8, 12, 1, groups=2), nn.Conv2d(12, 1, 1)),
        "model: '2' has 12 output channels in 2 groups, which are no whole orbits of 'hv'. Expected a multiple of 8. "
        "Use such a number, or keep that part ordinary with keep.",
    ),
    "empty": (
        nn.Sequential(),
        "model: no convolution is in it. Expected nn.Conv1d, 2d, 3d or transposed ones. Pass a model that has some.",
    ),
    "input": (
        nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 2, 1)),
        "example: the model does not accept [(1, 1, 9, 9)] in evaluation mode (Given groups=1, weight of size [8, 3, "
        "3, 3], expected input[1, 1, 9, 9] to have 3 channels, but got 1 channels instead). Expected an input that it "
        "runs on. Pass one of another size or sort.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_converted_is_refused_in_one_sentence(name):
    model, sentence = REFUSED[name]
    example = torch.randn(1, 8, 9, 9) if name == "twice" else PICTURE
    before = repr(model)
    with pytest.raises(SymmetryError) as refusal:
        equivariant(model, "hv", example=example, inplace=True)
    assert str(refusal.value) == sentence
    assert repr(model) == before  # nothing half converted


def test_a_network_that_breaks_the_law_is_not_handed_back():
    model = Around(lambda model, x, y: F.max_pool2d(y, 2))
    with pytest.raises(SymmetryError, match=r"in evaluation mode, first at 'its forward' \(Around"):
        equivariant(model, "h", example=PICTURE, inplace=True)
    assert type(model.first) is nn.Conv2d
    assert type(equivariant(model, "h", example=PICTURE[..., :8]).last).__name__ == "InvariantConv2d"
    with pytest.raises(SymmetryError, match=r"first at '1' \(ChannelOrder\): mirroring along 'h' does not mirror"):
        equivariant(nn.Sequential(nn.Conv2d(1, 8, 3), ChannelOrder(), nn.Conv2d(8, 1, 1)), "h", example=PICTURE)


class ChannelOrder(nn.Module):
    """Tells one channel from another."""

    def forward(self, x):
        return x * torch.arange(8.0).to(x)[:, None, None]


def test_axes_and_arguments_are_checked():
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.Conv2d(8, 2, 1))
    with pytest.raises(SymmetryError, match=r"^axes: 'hz' is no kind of mirror in 2-D"):
        equivariant(model, "hz", example=PICTURE)
    with pytest.raises(SymmetryError, match=r"^example: \[\(9, 9\)\] holds no pictures"):
        equivariant(model, "h", example=PICTURE[0, 0])
    with pytest.raises(SymmetryError, match=r"^keep: 'x' is no module of the model"):
        equivariant(model, "h", example=PICTURE, keep=["x"])
    with pytest.raises(SymmetryError, match=r"^model: '0' is a layer of this package already"):
        equivariant(equivariant(model, "h", example=PICTURE), "h", example=PICTURE)
    with pytest.raises(SymmetryError, match=r"^model: 'str' is no module"):
        equivariant("model", "h", example=PICTURE)
    with pytest.raises(SymmetryError, match=r"^model: '0' derives its weight from something else"):
        equivariant(nn.Sequential(nn.utils.parametrizations.weight_norm(model[0])), "h", example=PICTURE)


def test_kept_modules_stay_ordinary_and_the_error_is_reported():
    sentences = []
    model = UNet()
    new = equivariant(model, "hv", example=torch.randn(1, 1, 8, 8), keep=["second"], report=sentences.append)
    assert type(new.second) is nn.Conv2d
    assert type(new.first).__name__ == "SymmetricConv2d"
    (sentence,) = sentences
    assert sentence.startswith("With 'second' ordinary, the largest relative deviation is ")
    assert float(sentence.split()[-1].rstrip(".")) > 1e-3
    assert where_it_breaks(new.double(), torch.randn(1, 1, 8, 8).double(), "hv").offender.module == "second"


def test_everything_of_the_old_model_survives():
    model = ResNet()
    model.double().eval()
    model.second.train()
    model.second.requires_grad_(False)
    model.alias = model.second
    model.scale.requires_grad_(False)
    model.head.note = "a note"
    calls = []
    model.first.register_forward_hook(lambda *_: calls.append(1))
    before = copy.deepcopy(model.state_dict())
    sentences = []
    example, luck = torch.randn(1, 3, 9, 12), torch.get_rng_state()
    new = equivariant(model, "hv", example=example, report=sentences.append)
    assert torch.equal(torch.get_rng_state(), luck)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert sentences == ["'first': 1 hook went to the new layer."]
    assert new.alias is new.second
    assert new.head.note == "a note"
    assert (new.training, new.second.training) == (False, True)
    assert not new.second.weight.requires_grad
    assert not new.scale.requires_grad
    assert new.scale.shape == (4, 1, 1)
    assert new.act.weight.shape == (2,)
    calls.clear()
    x = torch.randn(1, 3, 9, 12, dtype=torch.float64)
    assert new(x).dtype is torch.float64
    assert calls == [1]
    again = equivariant(model, "hv", example=x)
    again.first._forward_hooks.clear()
    loaded = pickle.loads(pickle.dumps(again))
    assert torch.equal(loaded(x), new(x))
    assert torch.equal(copy.deepcopy(again)(x), new(x))
    saved = io.BytesIO()
    torch.save(new.state_dict(), saved)
    saved.seek(0)
    fresh = ResNet().double().eval()
    fresh.alias = fresh.second
    fresh = equivariant(fresh, "hv", example=x)
    fresh.load_state_dict(torch.load(saved))
    assert torch.equal(fresh(x), new(x))
    assert new.state_dict().keys() == model.state_dict().keys()


def test_it_trains_with_the_optimizer_that_it_was_given():
    torch.manual_seed(0)  # a gate whose one hidden orbit is dead would learn nothing
    model = ResNet(16)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    new = equivariant(model, "hv", example=torch.randn(1, 3, 8, 8), inplace=True, optimizer=optimizer)
    assert new is model
    known = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert known == {id(p) for p in new.parameters()}
    x, y = torch.randn(4, 3, 8, 9), torch.tensor([0, 1, 2, 3])
    before = [p.detach().clone() for p in new.parameters()]
    losses = []
    for _ in range(5):
        loss = F.cross_entropy(new(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    pairs = zip(new.named_parameters(), before, strict=True)
    still = [name for (name, parameter), old in pairs if torch.equal(parameter, old)]
    assert set(still) <= {"stem.bias"}  # which the batch norm after it takes away again
    assert_equivariant(new.double(), x.double(), "hv", tolerance=1e-12)


def test_several_inputs_and_answers_in_a_dict():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.left = nn.Conv2d(1, 8, 3)
            self.right = nn.Conv2d(2, 8, 3)
            self.condition = nn.Linear(4, 8)
            self.map = nn.Conv2d(16, 3, 1)
            self.head = nn.Linear(8, 2)
            self.unused = nn.Conv2d(8, 8, 1)

        def forward(self, left, right, numbers):
            left, right = self.left(left), self.right(right).relu() * self.condition(numbers)[..., None, None]
            return {"map": self.map(torch.cat([left, right], 1)), "classes": [self.head(right.mean((-1, -2)))]}

    example = {"left": torch.randn(1, 1, 7, 8), "right": torch.randn(1, 2, 7, 8), "numbers": torch.randn(1, 4)}
    sentences = []
    new = equivariant(Two(), "hv", example=example, report=sentences.append)
    assert sentences == ["'unused' was not reached by the example, and stays ordinary."]
    assert [type(module).__name__ for module in new.children()] == [
        "SymmetricConv2d", "SymmetricConv2d", "SymmetricLinear", "InvariantConv2d", "OrbitLinear", "Conv2d",
    ]  # fmt: skip
    assert_equivariant(new.double(), {key: value.double() for key, value in example.items()}, "hv", tolerance=1e-12)
