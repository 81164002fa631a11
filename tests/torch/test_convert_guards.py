"""What conversion must not do: take constants for channels, change what a layer computes, touch what it was given."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from symmetric_layers import SymmetryError
from symmetric_layers.torch import Mirrored, SymmetricConv2d, desymmetrize, equivariance_error, equivariant

PICTURE = torch.randn(2, 3, 12, 12)


class Conditioned(nn.Module):
    """Something that knows no picture is added to channels."""

    def __init__(self, embed):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 2, 1)
        self.linear = nn.Linear(16, 16)
        self.register_buffer("rates", torch.exp(-torch.arange(8) / 2.0))
        self.register_buffer("code", torch.randn(16))
        self.token = nn.Parameter(torch.randn(16))
        self.embed = embed

    def forward(self, x, t):
        numbers = self.linear(self.embed(self, t.to(x)))
        return self.last(F.relu(self.first(x) + numbers.view(-1, 16, 1, 1)))


def waves(angles):
    return torch.cat([angles.sin(), angles.cos()], -1)


EMBEDDINGS = {
    "broadcast": lambda m, t: waves(t[:, None] * m.rates[None]),
    "aligned": lambda m, t: waves(t[:, None] * m.rates),
    "outer": lambda m, t: waves(torch.outer(t, m.rates)),
    "einsum": lambda m, t: waves(torch.einsum("b,f->bf", t, m.rates)),
    "constant": lambda m, t: m.code,
    "learnt": lambda m, t: m.token,
}


@pytest.mark.parametrize("name", EMBEDDINGS)
def test_numbers_of_the_model_that_meet_no_channels_are_no_channels(name):
    model, given = Conditioned(EMBEDDINGS[name]), (PICTURE, torch.rand(2))
    twin = equivariant(model, "hv", example=given)
    assert type(twin.first) is SymmetricConv2d
    assert twin.rates.shape == (8,)
    assert torch.equal(twin.rates, model.rates)


class Down(nn.Module):
    """A block around a pool."""

    def __init__(self):
        super().__init__()
        self.pool, self.tag = nn.MaxPool2d(2), "mine"

    def forward(self, x):
        return self.pool(x)


@pytest.mark.parametrize("size", [11, 12])
def test_blocks_around_pools_stay_the_blocks_they_are(size):
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), Down(), nn.Conv2d(8, 2, 1))
    x = torch.randn(1, 3, size, size)
    twin = equivariant(model, "hv", example=x).eval()
    assert (type(twin[1]), type(twin[1].pool), twin[1].tag) == (Down, Mirrored, "mine")
    torch.testing.assert_close(desymmetrize(twin, x)(x), twin(x))
    kept = equivariant(model, "hv", example=x, keep=["1.pool"], report=lambda told: None)
    assert type(kept[1].pool) is nn.MaxPool2d


def test_modules_are_tried_alone_on_small_pictures_with_what_strides_leave_over():
    seen = []

    class Swish(nn.Module):
        def forward(self, x):
            seen.append(x.shape[2:])
            return x * x.sigmoid()

    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), Swish(), nn.Conv2d(8, 2, 1))
    equivariant(model, "hv", example=torch.randn(1, 3, 75, 64), measure=False)
    alone = [sizes for sizes in seen if sizes != (75, 64)]
    assert {*alone} == {(16 + 75 % 16, 16), (17 + 75 % 16, 17)}


def test_one_block_for_pictures_and_orbits_is_refused_where_it_has_to_be_seen_in_the_mirror():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last, self.halve = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 2, 1), Half()

        def forward(self, x):
            return self.last(self.halve(self.first(self.halve(x))))

    class Half(nn.Module):
        def forward(self, x):
            return F.max_pool2d(x, 2)

    with pytest.raises(SymmetryError, match="'halve' is used both on pictures and on orbits"):
        equivariant(Twice(), "h", example=PICTURE)


def test_features_as_long_as_a_signal_are_no_mask():
    class Signal(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last, self.linear = nn.Conv1d(1, 8, 3, padding=1), nn.Conv1d(8, 2, 1), nn.Linear(32, 8)

        def forward(self, x, features):
            return self.last(F.relu(self.first(x) + self.linear(features)[:, :, None]))

    equivariant(Signal(), "h", example=(torch.randn(2, 1, 32), torch.randn(2, 32)))


def test_maps_of_fewer_axes_that_are_laid_out_are_refused_as_such():
    class Profile(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8 * 12, 2)

        def forward(self, x):
            return self.last(self.first(x).mean(2).flatten(1))

    with pytest.raises(SymmetryError, match="'last', a Linear, reads channels that 'flatten' has mixed with positions"):
        equivariant(Profile(), "hv", example=PICTURE)


class Counted(nn.Conv2d):
    """Standardises filters as a batch norm does, which counts them; and gathers a statistic."""

    def __init__(self, *args, **more):
        super().__init__(*args, **more)
        self.register_buffer("seen", torch.zeros(self.out_channels))

    def forward(self, x):
        flat = self.weight.reshape(1, self.out_channels, -1)
        weight = F.batch_norm(flat, None, None, training=True, momentum=0.0, eps=1e-6).reshape_as(self.weight)
        y = F.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)
        if self.training:
            self.seen.mul_(0.9).add_(0.1 * y.detach().mean((0, 2, 3)))
        return y + self.seen.view(1, -1, 1, 1)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_layer_with_a_forward_of_its_own_computes_what_it_computed(stride):
    model = nn.Sequential(Counted(3, 8, 3, stride, 1), nn.ReLU(), nn.Conv2d(8, 2, 1))
    twin = equivariant(model, "hv", example=PICTURE)
    torch.testing.assert_close(twin[0].eval()(PICTURE)[:, ::4], model[0].eval()(PICTURE)[:, ::4])
    before = twin.train()[0].conv.seen.clone()
    twin(PICTURE)
    assert not torch.equal(twin[0].conv.seen, before)
    assert equivariance_error(copy.deepcopy(twin).double().eval(), PICTURE.double(), "hv")[0].relative < 1e-12


def test_nothing_is_changed_where_a_later_layer_is_refused():
    twin = equivariant(
        nn.Sequential(Counted(3, 8, 3), nn.ReLU(), Counted(8, 8, 3, 2), nn.Conv2d(8, 2, 1)), "h", example=PICTURE
    )
    before = {name: tensor.clone() for name, tensor in twin.state_dict().items()}
    with pytest.raises(SymmetryError, match="has no ordinary form"):
        desymmetrize(twin, PICTURE, inplace=True)
    assert all(torch.equal(before[name], tensor) for name, tensor in twin.state_dict().items())
    assert before.keys() == twin.state_dict().keys()


def test_an_optimizer_follows_such_layers_both_ways():
    twin = equivariant(nn.Sequential(Counted(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 2, 1)), "h", example=PICTURE)
    optimizer = torch.optim.SGD(twin.parameters(), 0.1)
    plain = desymmetrize(twin, optimizer=optimizer)
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    assert held == {id(parameter) for parameter in plain.parameters()}


def test_numbers_of_any_sign_show_what_activations_hide():
    class Hidden(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.middle, self.last = nn.Conv2d(3, 16, 3), nn.Linear(16, 16), nn.Linear(16, 2)

        def forward(self, x):
            y = self.middle(F.relu(self.first(x)).mean((2, 3)))
            return self.last(F.relu(y + 0.1 * torch.arange(16, dtype=y.dtype)))

    with pytest.raises(SymmetryError, match="breaks the law"):
        equivariant(Hidden(), "h", example=PICTURE)


def test_constants_that_orbits_share_are_told():
    class Levels(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Conv2d(3, 16, 3)
            self.register_buffer("levels", torch.arange(16.0))

        def forward(self, x):
            return (self.first(x).softmax(1) * self.levels.view(1, -1, 1, 1)).sum(1, keepdim=True)

    told = []
    equivariant(Levels(), "h", example=PICTURE, report=told.append)
    assert told == ["'levels' knew each channel by a number of its own: of every orbit, the first one's is kept."]


def test_layers_that_inputs_make_plain_are_told_and_no_others():
    class Modulated(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
            self.last = nn.Conv2d(16, 3, 1)

        def forward(self, x, gains):
            y = self.first(x)
            return x + self.last(y + self.second(y) * gains[:, :, None, None])

    told = []
    equivariant(Modulated(), "h", example=(PICTURE, torch.randn(2, 16)), report=told.append)
    assert [line.split(": plain")[0] for line in told] == ["'first', 'second'"]


def test_an_example_is_left_as_it_was():
    numbers = torch.randint(0, 255, (2, 3, 8, 8), dtype=torch.uint8)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 2, 1))

    class Whole(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = model

        def forward(self, x):
            x.sum().item()  # asks for numbers
            return self.net(x.to(self.net[0].bias) / 255)

    equivariant(Whole(), "h", example=numbers)
    assert not vars(numbers)


def test_learnt_queries_are_arranged_as_what_they_ask():
    class Asks(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Conv2d(3, 16, 3, 2), nn.Linear(16, 2)
            self.query = nn.Parameter(torch.randn(1, 1, 16))
            self.attention = nn.MultiheadAttention(16, 2, batch_first=True)

        def forward(self, x):
            tokens = self.first(x).flatten(2).mT
            return self.last(self.attention(self.query.expand(len(x), -1, -1), tokens, tokens)[0][:, 0])

    twin = equivariant(Asks(), "h", example=PICTURE)
    assert twin.query.shape == (1, 1, 8)
