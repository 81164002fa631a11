"""The law of networks that compute parts in single precision, whatever they are given."""

import re

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from symmetric_layers import SymmetryError
from symmetric_layers.torch import assert_equivariant, equivariance_error, equivariant, where_it_breaks
from symmetric_layers.torch.doubles import Doubles

PICTURE = torch.randn(2, 3, 12, 12)
SINGLE = torch.float32


class Rounds(torch.autograd.Function):
    """A function with a backward pass of its own."""

    @staticmethod
    def forward(ctx, y):
        return y.half().float().sigmoid()

    @staticmethod
    def backward(ctx, gradient):
        return gradient


def norm(y, down=lambda y: y.float(), up=lambda f, y: f.to(y.dtype)):
    f = down(y)
    return up(f * (f.pow(2).mean(1, keepdim=True) + 1e-6).rsqrt(), y)


def attention(y):
    q = y.flatten(2).transpose(1, 2)
    return (
        (F.softmax(q @ q.transpose(1, 2), -1, dtype=SINGLE).to(q.dtype) @ q).transpose(1, 2).unflatten(2, y.shape[2:])
    )


def in_autocast(y):
    with torch.autocast("cpu", torch.bfloat16):
        return attention(y).to(y.dtype)


def into_zeros(y):
    whole = torch.zeros_like(y, dtype=SINGLE)
    whole[:, :, 1:] = y[:, :, 1:]
    return whole


def by_radius(y):
    rows = ((torch.arange(12).float() + 0.5) / 6 - 1).pow(2)
    columns = (torch.arange(12) + 0.5) / 12 - 0.5
    return y * (rows[:, None] + columns.abs().sqrt())


def where_large(y):
    return y * F.avg_pool2d((y > 0.1).float() / 3, 3, 1, 1)


INSIDE = {
    "softmax": attention,
    "norm": norm,
    "to": lambda y: norm(y, lambda y: y.to(SINGLE), lambda f, y: f.type_as(y)),
    "to device": lambda y: norm(y, lambda y: y.to("cpu", SINGLE, copy=True), lambda f, y: f.to(y)),
    "keyword": lambda y: norm(y, lambda y: y.to(dtype=torch.bfloat16)),
    "type": lambda y: norm(y, lambda y: y.type(torch.float16), lambda f, y: f.type(y.dtype)),
    "name": lambda y: norm(y, lambda y: y.type("torch.FloatTensor")),
    "class": lambda y: norm(y, lambda y: y.type(torch.FloatTensor)),
    "half": lambda y: norm(y, lambda y: y.half()),
    "complex": lambda y: torch.fft.ifft(torch.fft.fft(y).to(torch.complex64)).real,
    "sum": lambda y: y / y.abs().sum(1, keepdim=True, dtype=SINGLE),
    "function": Rounds.apply,
    "autocast": in_autocast,
    "never doubles": lambda y: norm(y, up=lambda f, y: f),
    "like": lambda y: torch.zeros_like(y, dtype=SINGLE).add_(y),
    "zeros": into_zeros,
    "arange": by_radius,
    "mask": where_large,
}


class Inside(nn.Module):
    """A network whose middle is a function."""

    def __init__(self, middle, after=lambda y: y):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 2, 1)
        self.middle, self.after = middle, after

    def forward(self, x):
        return self.after(self.last(self.middle(self.first(x))))


@pytest.mark.parametrize("name", INSIDE)
def test_single_precision_inside_is_no_breach(name):
    twin = equivariant(Inside(INSIDE[name]), "h", example=PICTURE)
    assert torch.get_default_dtype() is SINGLE
    assert twin(PICTURE).dtype is SINGLE


@pytest.mark.parametrize("name", INSIDE)
def test_a_small_breach_is_seen_in_single_precision(name):
    def tilted(y):
        return y * (1 + 3e-5 * torch.linspace(0, 1, y.shape[-1], dtype=y.dtype))

    with pytest.raises(
        SymmetryError, match=r"breaks the law by [1-9].*e-0[56] in .* first at 'its forward' \(Inside\)"
    ):
        equivariant(Inside(INSIDE[name], tilted), "h", example=PICTURE)


class Named(nn.Module):
    """A function with a name, and something to learn."""

    def __init__(self, function):
        super().__init__()
        self.function, self.scale = function, nn.Parameter(torch.ones(()))

    def forward(self, y):
        return self.function(y) * self.scale


def test_the_breach_is_named_and_not_the_rounding_before_it():
    def cut(y):
        return F.avg_pool2d(y, 3, 2)

    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), Named(attention), Named(norm), Named(cut), nn.Conv2d(8, 2, 1))
    with pytest.raises(SymmetryError, match=r"first at '3' \(Named\): mirroring along 'h' does not mirror its answer"):
        equivariant(model, "h", example=PICTURE)
    assert where_it_breaks(nn.Sequential(*model[1:3]).double(), PICTURE.double(), "h").offender is None


def test_a_network_of_doubles_is_measured_in_doubles_by_hand_too():
    twin = equivariant(Inside(attention), "h", example=PICTURE).double()
    assert equivariance_error(twin, PICTURE.double(), "h")[0].relative < 1e-12
    assert_equivariant(twin, PICTURE.double(), "h")
    assert equivariance_error(twin.float(), PICTURE, "h")[0].relative > 1e-10  # what is in single precision stays there


def test_the_average_over_mirrored_inputs_may_be_in_single_precision_inside():
    model = Inside(lambda y: y.float().sigmoid().to(y.dtype))
    twin = equivariant(model, "h", example=PICTURE, width=2, init="average")
    expected = (model(PICTURE) + model(PICTURE.flip(-1)).flip(-1)) / 2
    torch.testing.assert_close(twin(PICTURE), expected, rtol=0, atol=1e-5)


def test_tables_outside_of_the_state_meet_doubles():
    class Embedded(Inside):
        def __init__(self):
            super().__init__(lambda y: y)
            self.table, self.project = torch.randn(4), nn.Linear(4, 8)

        def forward(self, x):
            return self.last(self.first(x) + self.project(self.table)[:, None, None])

    equivariant(Embedded(), "h", example=PICTURE)


def test_what_is_cast_may_be_written_into():
    y = torch.ones(3, dtype=torch.float64)
    table = torch.ones(3)
    with Doubles():
        for cast in (y.float(), y.to(SINGLE), y.type("torch.HalfTensor")):
            assert cast.element_size() == 8
            cast.zero_()
        table += y
        table[0] = y[0]
        assert table.dtype is SINGLE
        assert table.tolist() == [1, 2, 2]
        assert y.view(torch.int64).view(torch.float64).equal(y)
        assert torch.arange(3).float().dtype is SINGLE
        assert y.to(torch.int32).dtype is torch.int32
    assert y.sum() == 3


def test_constants_are_doubles_only_where_that_is_asked_for():
    with Doubles(constants=True), Doubles():
        for made in (torch.zeros(2), torch.arange(3) / 3, torch.ones(2, dtype=SINGLE), torch.arange(2).half()):
            assert made.element_size() == 8
    assert torch.zeros(2).dtype is SINGLE


def by_numpy(y):
    single = np.exp(y.detach().numpy().astype("float32"))
    return torch.from_numpy(single / single.mean((1, 2, 3), keepdims=True)).to(y.dtype)


def test_rounding_that_is_out_of_sight_is_told_from_a_mirror_that_is_missing():
    model = nn.Sequential(Named(by_numpy), nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 2, 1))
    with pytest.raises(SymmetryError) as refused:
        equivariant(model, "h", example=PICTURE)
    assert re.sub(r"\d\.\de-0[789]", "1e-07", str(refused.value)) == (
        "model: the converted network breaks the law by 1e-07 in evaluation mode, first at '0' (Named): mirroring "
        "along 'h' does not mirror its answer. Expected at most 1e-10. Let that part compute in the precision of its "
        "input, if it rounds where PyTorch's functions are not seen (TorchScript, NumPy), or keep it ordinary with "
        "keep."
    )


def bits(y):
    return y * (y.float().view(torch.int32) > 0).to(y.dtype)


def quantized(y):
    return torch.quantize_per_tensor(y.float(), 0.1, 0, torch.qint8).dequantize().to(y.dtype)


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
@pytest.mark.parametrize("function", [bits, quantized])
def test_what_takes_no_doubles_is_measured_in_what_it_takes(function):
    model = Inside(function)
    twin = equivariant(model, "h", example=PICTURE[:, :, :4, :4]).double()
    picture = PICTURE.double()
    assert_equivariant(twin, picture, "h", tolerance=1e-6)
    assert where_it_breaks(twin, picture, "h").offender is None
    assert torch.get_default_dtype() is SINGLE
    broken = nn.Sequential(model, nn.AvgPool2d(3, 2)).double()
    assert equivariance_error(broken, picture, "h")[0].relative > 1e-3


def test_what_raises_either_way_says_so():
    def fails(y):
        raise RuntimeError("no" if y.float().dtype is SINGLE else "nor so")

    with pytest.raises(RuntimeError, match=r"^no$"):
        equivariance_error(Inside(fails).double(), PICTURE.double(), "h")
    asked = []

    def fails_by_itself(y):
        asked.append(y)
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match=r"^no$"):
        equivariance_error(Inside(fails_by_itself).double(), PICTURE.double(), "h")
    assert len(asked) == 1  # is not asked again


def branches(y, wanted=SINGLE):
    f = y.float()
    for single in (f, f * 2, f[:1], torch.cat([f, f]), f.softmax(1), y.to(SINGLE).T, f.unbind()[0], f.type_as(f)):
        if single.dtype != wanted:
            raise TypeError(single.dtype)
    for double in (f + y, f.double(), f.to(y.dtype), f.type_as(y), f.to(y), y, f.type("torch.DoubleTensor")):
        if double.dtype != torch.float64:
            raise TypeError(double.dtype)
    return f.to(y.dtype)


def test_what_was_asked_for_is_what_a_network_reads():
    y = torch.full((3, 3), 1 / 3, dtype=torch.float64)
    for constants in (False, True):
        with Doubles(constants), Doubles(constants):
            assert branches(y).equal(y)
            assert y.float().dtype == torch.zeros(3, dtype=SINGLE).dtype
            assert y.half().dtype == torch.float16
            assert y.float().half().dtype == torch.float16
            assert y.float().int().dtype == torch.int32
            assert torch.ones(3, dtype=torch.float64).dtype == torch.float64
            assert (torch.zeros_like(y, dtype=SINGLE) + 1).dtype == SINGLE


def test_a_branch_for_single_precision_is_taken():
    def tilted_in_single(y):
        f = y.float()
        if f.dtype == SINGLE:
            f = f * torch.linspace(1, 2, y.shape[-1])
        return f.to(y.dtype)

    with pytest.raises(SymmetryError, match="breaks the law"):
        equivariant(Inside(tilted_in_single), "h", example=PICTURE)
