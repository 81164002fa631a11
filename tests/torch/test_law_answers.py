"""What the law is measured on: answers of every sort, answers that see nothing, noise that no mirror turns."""

import dataclasses
import types

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from symmetric_layers import SymmetryError
from symmetric_layers.torch import assert_equivariant, equivariance_error, equivariant, where_it_breaks

PICTURE = torch.randn(2, 3, 16, 16)


@dataclasses.dataclass
class Found:
    """What detectors answer."""

    logits: torch.Tensor
    note: str = "of a test"


class Answers(nn.Module):
    """A network that puts its answer into something."""

    def __init__(self, put):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 3, padding=1))
        self.put = put

    def forward(self, x):
        return self.put(self.body(x))


def test_answers_in_dataclasses_are_measured():
    plain = Answers(Found)
    assert [(row.axis, row.output) for row in equivariance_error(plain, PICTURE, "h")] == [("h", "logits")]
    assert equivariance_error(plain, PICTURE, "h")[0].relative > 1e-2
    twin = equivariant(plain, "h", example=PICTURE).double()
    x = PICTURE.double()
    torch.testing.assert_close(twin(x.flip(-1)).logits.flip(-1), twin(x).logits, rtol=0, atol=1e-12)


@pytest.mark.parametrize("put", [lambda y: types.SimpleNamespace(logits=y), lambda y: y.detach().numpy(), lambda y: 3])
@pytest.mark.parametrize(
    "ask",
    [
        lambda model: equivariance_error(model, PICTURE, "h"),
        lambda model: assert_equivariant(model, PICTURE, "h"),
        lambda model: where_it_breaks(model, PICTURE, "h"),
        lambda model: equivariant(model, "h", example=PICTURE, measure=False),
    ],
    ids=["error", "assert", "where", "convert"],
)
def test_an_answer_without_tensors_is_refused_not_passed(put, ask):
    sort = type(put(torch.ones(1))).__name__
    with pytest.raises(SymmetryError) as refused:
        ask(Answers(put))
    assert str(refused.value) == (
        f"model: its answer, of type {sort!r}, holds no tensors that can be mirrored. Expected tensors, in sequences, "
        "mappings or dataclasses. Answer with these, or wrap the model in a module that does."
    )


def test_both_parts_of_complex_answers_are_measured():
    def put(y):
        columns = torch.linspace(0, 1, y.shape[-1], dtype=y.dtype)
        return torch.complex(y[:, :2], y[:, 2:] * columns)

    assert equivariance_error(nn.Sequential(nn.Identity(), Answers(put)).double(), PICTURE.double(), "h")
    with pytest.raises(SymmetryError, match="breaks the law"):
        equivariant(Answers(put), "h", example=PICTURE)
    twin = equivariant(Answers(lambda y: torch.complex(y[:, :2], y[:, 2:])), "h", example=PICTURE)
    assert twin(PICTURE).is_complex()


class Counter(nn.Module):
    """Answers with a number that is never negative; its pools leave something over."""

    def __init__(self, channels):
        super().__init__()
        self.first = nn.Conv2d(3, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.head = nn.Linear(channels, 16)
        self.number = nn.Linear(16, 1)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.first(x)), 3, 2, 1)
        x = F.max_pool2d(F.relu(self.second(x)), 3, 2, 1)
        return F.relu(self.number(F.relu(self.head(x.mean((2, 3))))))


@pytest.mark.parametrize("channels", range(4, 34, 2))
def test_a_breach_is_seen_behind_an_answer_that_is_often_nothing(channels):
    with pytest.raises(SymmetryError, match="breaks the law"):
        equivariant(Counter(channels), "h", example=torch.randn(2, 3, 32, 32))


def test_an_answer_that_never_sees_its_picture_is_measured_on_the_way():
    class Blind(Counter):
        def forward(self, x):
            return torch.zeros_like(super().forward(x))

    with pytest.raises(SymmetryError, match="breaks the law"):
        equivariant(Blind(8), "h", example=torch.randn(2, 3, 32, 32))


class Noisy(nn.Module):
    """Noise that `forward` draws itself."""

    def __init__(self, noise):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 2, 1)
        self.noise = noise

    def forward(self, x):
        y = self.first(x)
        return self.last(self.noise(y))


NOISE = {
    "randn_like": lambda y: y + torch.randn_like(y),
    "randn": lambda y: y + torch.randn(y.shape, dtype=y.dtype),
    "rand": lambda y: y * (torch.rand(y.shape[2:], dtype=y.dtype) > 0.1),
    "normal_": lambda y: y + y.new_empty(y.shape).normal_(),
    "uniform_": lambda y: y + torch.empty_like(y).uniform_(-1, 1),
    "bernoulli": lambda y: y * torch.bernoulli(torch.full_like(y, 0.9)),
    "rrelu": lambda y: F.rrelu(y, training=True),
    "exponential_": lambda y: y + torch.empty_like(y).exponential_(),
}


@pytest.mark.parametrize("name", NOISE)
def test_noise_is_held_still_as_dropout_is(name):
    """Its distribution mirrors; the draw does not."""
    twin = equivariant(Noisy(NOISE[name]), "h", example=PICTURE)
    assert equivariance_error(twin.double(), PICTURE.double(), "h")[0].relative < 1e-12
    assert not torch.equal(twin(PICTURE.double()), twin(PICTURE.double()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bool])
def test_masks_without_channels_are_mirrored_with_their_picture(dtype):
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Conv2d(4, 8, 3, padding=1), nn.Conv2d(8, 2, 1)

        def forward(self, x, mask):
            weights = mask[:, None].to(x)
            return self.last(F.relu(self.first(torch.cat([x, weights], 1))) * weights)

    example = (PICTURE, torch.rand(2, 16, 16).round().to(dtype))
    twin = equivariant(Masked(), "h", example=example)
    given = (PICTURE.double(), example[1].double() if dtype.is_floating_point else example[1])
    assert equivariance_error(twin.double(), given, "h")[0].relative < 1e-12
    assert_equivariant(twin, given, "h")
    straight = twin(*given).flip(-1)
    torch.testing.assert_close(twin(*[one.flip(-1) for one in given]), straight, rtol=0, atol=1e-12)
