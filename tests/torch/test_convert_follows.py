"""What `equivariant` follows of what people write between layers, and what it makes of few channels."""

import copy
import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from symmetric_layers import SymmetryError
from symmetric_layers.torch import (
    InvariantConv2d,
    Mirrored,
    SymmetricConv2d,
    desymmetrize,
    equivariance_error,
    equivariant,
    symmetrize,
)
from symmetric_layers.torch.convert.alone import MirroredModule

PICTURE = torch.randn(2, 3, 8, 8)


class Between(nn.Module):
    """Something between convolutions, written in a `forward`."""

    def __init__(self, between, last=None, channels=8):
        super().__init__()
        self.first = nn.Conv2d(3, channels, 3, padding=1)
        self.middle = nn.Conv2d(channels, channels, 3, padding=1)
        self.last = last or nn.Conv2d(channels, 2, 1)
        self.between = between

    def forward(self, *x):
        return self.last(self.between(self, x[0], F.relu(self.first(x[0])), *x[1:]))


def obeys(model, example=PICTURE, axes="h", **how):
    """The converted network, which obeys the law as anybody can measure it."""
    twin = equivariant(model, axes, example=example, **how)
    probe = twin.double().eval()
    x = example.double() if isinstance(example, torch.Tensor) else tuple(one.double() for one in example)
    assert all(row.relative < 1e-12 for row in equivariance_error(probe, x, axes))
    return twin.float()


def channels_of_a_group(model, x, y):
    return model.middle(y.view(2, 4, 2, 8, 8).view(2, 8, 8, 8))


FOLLOWED = {
    "views of pools": (lambda m, x, y: F.adaptive_avg_pool2d(y, 1).view(y.size(0), -1), nn.Linear(8, 2)),
    "views of maps": (channels_of_a_group, None),
    "views of what is channels-last": (
        lambda m, x, y: m.middle(y.to(memory_format=torch.channels_last)).flatten(2).view(2, 8, 8, 8), None,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FOLLOWED)
def test_what_people_write_between_layers_is_followed(name):
    obeys(Between(*FOLLOWED[name]))


def test_pictures_may_be_looked_at_from_any_side_before_the_first_layer():
    """Frames in a batch: the first layer reads pictures, however they got there."""

    class Frames(Between):
        def forward(self, x):
            return super().forward(x.view(-1, 3, *x.shape[3:])).view(2, -1, 2, *x.shape[3:])

    obeys(Frames(lambda m, x, y: y), torch.randn(2, 4, 3, 8, 8))
    obeys(Between(lambda m, x, y: y, channels=8).first, PICTURE)
    assert symmetrize(Between(channels_of_a_group), {"h": "100%"}, init="nearest", example=PICTURE)(PICTURE).shape


def test_fewer_channels_than_an_orbit_has_are_plain_and_said_to_be():
    class Gate(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.gate = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 2, 3, padding=1)
            self.second, self.last = nn.Conv2d(2, 8, 3, padding=1), nn.Conv2d(8, 2, 1)
            self.unused = nn.Conv2d(8, 3, 1)

        def forward(self, x):
            y = self.first(x)
            self.unused(y)
            return self.last(y * torch.sigmoid(self.second(self.gate(y))))

    told = []
    twin = obeys(Gate(), axes="hv", report=told.append)
    assert told == [
        "'unused' makes no whole orbits of 'hv': its channels are plain.",
        "'gate' makes no whole orbits of 'hv': its channels are plain.",
    ]
    assert (type(twin.gate), type(twin.second), type(twin.unused)) == (
        InvariantConv2d,
        SymmetricConv2d,
        InvariantConv2d,
    )


def test_few_channels_that_meet_orbits_are_refused():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 6, 3), nn.ReLU(), nn.Conv2d(6, 2, 1))
    with pytest.raises(SymmetryError, match="'1' has 6 output channels, which are no whole orbits of 'hv'"):
        equivariant(model, "hv", example=PICTURE)

    class Joined(Between):
        def __init__(self):
            super().__init__(lambda m, x, y: torch.cat([y, m.few(y)], 1), nn.Conv2d(9, 2, 1))
            self.few = nn.Conv2d(8, 1, 1)

    with pytest.raises(SymmetryError, match=r"'last' cannot be converted\. in_symmetry: 'h': 9 does not fit 9"):
        equivariant(Joined(), "h", example=PICTURE)


def test_what_is_kept_and_breaks_the_law_warns_where_nobody_is_told():
    model = Between(lambda m, x, y: m.middle(y))
    with pytest.warns(
        UserWarning, match=r"With 'middle' ordinary, the network breaks the law: .* Pass report= to"
    ) as got:
        equivariant(model, "h", example=PICTURE, keep=["middle"])
    assert got[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        equivariant(model, "h", example=PICTURE, keep=["middle"], report=lambda told: None)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("compiled", [torch.compile, lambda m: torch.jit.trace(m, PICTURE), torch.jit.script])
def test_compiled_models_are_refused_in_a_sentence(compiled):
    model = compiled(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 2, 1)))
    for convert in (lambda: equivariant(model, "h", example=PICTURE), lambda: symmetrize(model, {"h": 8})):
        with pytest.raises(SymmetryError, match=r"is compiled\. Expected modules as they were written\. Convert the"):
            convert()


class Frozen(nn.Module):
    """A batch norm that is not trained, as detectors have it: its numbers are buffers."""

    def __init__(self, channels):
        super().__init__()
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(name, torch.rand(channels) + 0.5)

    def forward(self, x):
        scale = self.weight / (self.running_var + 1e-5).sqrt()
        return x * scale[:, None, None] + (self.bias - self.running_mean * scale)[:, None, None]


class NormAct(nn.BatchNorm2d):
    """A batch norm with an activation behind it, written anew."""

    def forward(self, x):
        if self.training:
            self.num_batches_tracked.add_(1)
        means = (self.running_mean, self.running_var)
        return F.relu(F.batch_norm(x, *means, self.weight, self.bias, self.training, self.momentum, self.eps))


@pytest.mark.parametrize("norm", [Frozen, NormAct])
def test_buffers_that_know_channels_are_shared_within_orbits(norm):
    model = nn.Sequential(nn.Conv2d(3, 8, 3), norm(8), nn.Conv2d(8, 2, 1))
    twin = obeys(model, axes="hv")
    assert twin.state_dict().keys() == model.state_dict().keys()
    assert torch.equal(twin[1].running_mean, model[1].running_mean[::4])
    assert twin[1].running_var.shape == (2,)
    plain = desymmetrize(twin.eval(), PICTURE)
    torch.testing.assert_close(plain(PICTURE), twin(PICTURE))
    assert plain[1].running_mean.shape == (8,)
    assert equivariant(model, "hv", example=PICTURE, width="parameters")[1].running_mean.dim() == 1


def test_statistics_that_are_gathered_are_gathered_by_orbits():
    twin = equivariant(nn.Sequential(nn.Conv2d(3, 8, 3), NormAct(8), nn.Conv2d(8, 2, 1)), "h", example=PICTURE).train()
    seen = []
    twin[0].register_forward_hook(lambda module, args, answer: seen.append(answer))
    twin(PICTURE)
    means = seen[0].mean((0, 2, 3)).view(4, 2).mean(1)
    torch.testing.assert_close(twin[1].running_mean, 0.1 * means)
    assert twin[1].num_batches_tracked == 1
    again = copy.deepcopy(twin).eval()
    assert torch.equal(again(PICTURE), twin.eval()(PICTURE))


def attention(model, x, y):
    keys, maps = model.middle(y).flatten(2), y.flatten(2)
    weights = torch.einsum("bcn,bcm->bnm", keys, maps).softmax(-1)
    return torch.einsum("b n m, b c m -> b c n", weights, maps).unflatten(2, y.shape[2:])


PRODUCTS = {
    "attention": attention,
    "heads": lambda m, x, y: torch.einsum(
        "bhnm,bhdm->bhdn",
        torch.einsum("bhdn,bhdm->bhnm", *[z.flatten(2).unflatten(1, (2, 4)) for z in (y, m.middle(y))]).softmax(-1),
        y.flatten(2).unflatten(1, (2, 4)),
    ).reshape(y.shape),
    "gates": lambda m, x, y: torch.einsum("bchw,bc->bchw", y, m.middle(y).mean((2, 3))),
    "sums over channels": lambda m, x, y: y * torch.einsum("bchw,bchw->bhw", y, m.middle(y))[:, None],
    "a sum over one": lambda m, x, y: y * torch.einsum("bchw->bhw", y)[:, None],
    "dots": lambda m, x, y: torch.einsum("...chw,...c->...chw", y, y.mean((2, 3))),
    "no arrow": lambda m, x, y: y * torch.einsum("bchw,bchw", y, m.middle(y)),
    "types": lambda m, x, y: m.middle(y) * torch.ones(1, dtype=torch.float16).to(y) * torch.ones(8).type_as(y),
    "baddbmm": lambda m, x, y: torch.baddbmm(
        torch.zeros(1, 1, 1, dtype=y.dtype), y.flatten(2), (y.flatten(2).mT @ m.middle(y).flatten(2)).softmax(-1)
    ).reshape(y.shape),
    "new zeros": lambda m, x, y: torch.cat([y[:, :4], y.new_zeros(2, 4, 8, 8)], 1) + y,
}  # fmt: skip


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_are_followed(name):
    obeys(Between(PRODUCTS[name]), axes="hv")


def test_products_that_weigh_channels_are_refused():
    matrix = torch.randn(8, 8)
    for between in (
        lambda m, x, y: torch.einsum("bchw,cd->bdhw", y, matrix.to(y)),
        lambda m, x, y: torch.einsum("bchw,bdhw->bcd", y, y),
    ):
        with pytest.raises(SymmetryError, match="cannot be followed through 'einsum'"):
            equivariant(Between(between), "h", example=PICTURE)
    model = Between(lambda m, x, y: torch.einsum("bchw,dc->bdhw", y, m.middle.weight[:, :, 0, 0]))
    with pytest.raises(SymmetryError, match=r"weighs channels with a parameter of its own|cannot be followed"):
        equivariant(model, "h", example=PICTURE)


class Blur(nn.Module):
    """An anti-aliased stride, as its authors write it: a filter for every channel, in a buffer, behind a padding."""

    def __init__(self, channels, stride=2):
        super().__init__()
        taps = torch.tensor([1.0, 2.0, 1.0]) / 4
        self.register_buffer("filters", (taps[:, None] * taps).expand(channels, 1, 3, 3).clone())
        self.pad, self.stride = nn.ReflectionPad2d((0, 1, 0, 1)), stride

    def forward(self, x):
        return F.conv2d(self.pad(x), self.filters, stride=self.stride, groups=x.shape[1])


class Halves(nn.Module):
    """Pools that leave something over, in a function."""

    def forward(self, x):
        return F.max_pool2d(x, 3, 2, 1)


class Neighbours(nn.Module):
    """Mixes channels."""

    def forward(self, x):
        return x + x.roll(1, 1)


@pytest.mark.parametrize(
    "between", [Blur(8), Halves(), nn.Sequential(nn.ReLU(), Halves())], ids=lambda one: type(one).__name__
)
@pytest.mark.parametrize("size", [7, 8])
def test_modules_that_treat_channel_by_channel_are_seen_in_the_mirror(between, size):
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), between, nn.Conv2d(8, 2, 1))
    example = torch.randn(2, 3, size, size + 1)
    twin = obeys(model, example, axes="hv")
    assert (
        twin.state_dict().keys() == {*model.state_dict()} - {"1.filters"} | {"1.operator.filters"}
        or not twin[1].state_dict()
    )
    for more in (0, 1, 2):  # at every size, whatever the example was
        x = torch.randn(1, 3, size + more, size, dtype=torch.float64)
        assert equivariance_error(copy.deepcopy(twin).double(), x, "hv")[0].relative < 1e-12


def test_what_mixes_channels_is_not():
    with pytest.raises(SymmetryError, match=r"breaks the law by .* first at '1' \(Neighbours\)"):
        equivariant(nn.Sequential(nn.Conv2d(3, 8, 3), Neighbours(), nn.Conv2d(8, 2, 1)), "h", example=PICTURE)


def test_what_obeys_alone_is_left_as_it_is():
    class Gate(nn.Module):
        def forward(self, x):
            return x * torch.sigmoid(x.mean((2, 3), keepdim=True))

    twin = obeys(nn.Sequential(nn.Conv2d(3, 8, 3), Gate(), Blur(8, 1).requires_grad_(False), nn.Conv2d(8, 2, 1)))
    assert type(twin[1]) is Gate
    assert type(twin[2]) is Blur
    assert type(twin[2].pad) is Mirrored  # one-sided padding
    assert (
        type(equivariant(nn.Sequential(nn.Conv2d(3, 8, 3), Blur(8), nn.Conv2d(8, 2, 1)), "h", example=PICTURE)[1])
        is MirroredModule
    )


def test_a_forward_that_reads_what_layers_store_is_refused_in_a_sentence():
    for between in (
        lambda m, x, y: m.middle(y) - m.middle.bias.view(1, -1, 1, 1),
        lambda m, x, y: m.middle(y).view(2, m.middle.weight.shape[0], 8, 8),
    ):
        with pytest.raises(
            SymmetryError, match=r"the converted network does not run on the example \(.*full_weight\(\)"
        ):
            equivariant(Between(between), "h", example=PICTURE)


def test_a_pool_between_answers_is_told_from_one_between_orbits():
    class Features(nn.Sequential):
        def forward(self, x):
            first = self[0](x)
            return first, self[2](self[1](first))

    with pytest.raises(SymmetryError) as refused:
        equivariant(
            Features(nn.Conv2d(3, 8, 3, padding=1), nn.MaxPool2d(3, 2, 1), nn.Conv2d(8, 8, 3)), "h", example=PICTURE
        )
    assert str(refused.value).endswith(
        "first at '1' (MaxPool2d): along 'h': n=8, k=3, s=2, p=1, d=1 leave a remainder of 1. Expected at most 1e-10. "
        "Use sizes, strides and padding that leave nothing over there, or answers='orbits', or keep it ordinary "
        "with keep."
    )


def test_answers_that_lie_otherwise_are_told_how_to_lie():
    model = Between(lambda m, x, y: m.middle(y))
    model.register_forward_hook(lambda module, args, answer: answer.permute(0, 2, 3, 1))
    with pytest.raises(
        SymmetryError, match=r"first at the answer, where it does not lie as \(N, channels, \*positions\)"
    ):
        equivariant(nn.Sequential(model), "h", example=torch.randn(2, 3, 8, 7))


def test_pictures_of_whole_numbers_and_normalised_ones_are_plain():
    class Whole(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 2, 1))
            self.register_buffer("mean", torch.rand(3, 1, 1))

        def forward(self, x):
            return self.body(x.float() / 255 - self.mean)

    twin = equivariant(Whole(), "h", example=torch.randint(0, 255, (2, 3, 8, 8), dtype=torch.uint8))
    assert type(twin.body[0]) is SymmetricConv2d
    assert twin.mean.shape == (3, 1, 1)


def test_layers_that_mix_the_channels_of_pictures_alone_stay_what_they_are():
    told = []
    colours = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 2, 1))
    twin = obeys(colours, report=told.append)
    assert (type(twin[0]), type(twin[1])) == (InvariantConv2d, SymmetricConv2d)
    assert told == ["'0' makes no whole orbits of 'h': its channels are plain."]
    torch.testing.assert_close(twin[0](PICTURE), colours[0](PICTURE))
    with pytest.raises(SymmetryError, match="'0' has 3 output channels, which are no whole orbits of 'h'"):
        equivariant(nn.Sequential(nn.Conv2d(3, 3, 3), nn.Conv2d(3, 8, 3), nn.Conv2d(8, 2, 1)), "h", example=PICTURE)
