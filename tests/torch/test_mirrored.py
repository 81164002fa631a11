"""Operators made to obey the law at every size."""

import itertools

import numpy as np
import oracle
import pytest
import torch
from torch import nn

from symmetric_layers import SymmetryError
from symmetric_layers.torch import Mirrored

OPERATORS = {
    "max pool": (nn.MaxPool2d(2), 2),
    "max pool 3": (nn.MaxPool2d(3, 2, 1), 2),
    "max pool, ceil": (nn.MaxPool2d(2, ceil_mode=True), 2),
    "mean pool": (nn.AvgPool2d(3, 2, 1, count_include_pad=False), 2),
    "mean pool, 3-D": (nn.AvgPool3d((1, 2, 2)), 3),
    "max pool, 1-D": (nn.MaxPool1d(2), 1),
    "adaptive": (nn.AdaptiveAvgPool2d((3, 2)), 2),
    "nearest": (nn.Upsample(scale_factor=2), 2),
    "nearest to a size": (nn.Upsample(size=(5, 7)), 2),
    "bilinear": (nn.Upsample(scale_factor=1.5, mode="bilinear"), 2),
    "bilinear to a size": (nn.Upsample(size=(11, 5), mode="bilinear"), 2),
    "a function": (lambda x: x[..., ::2, 1:], 2),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_any_operator_obeys_at_every_size(name, tolerance):
    operator, rank = OPERATORS[name]
    symmetry = {1: {"h": 4}, 2: {"h": 2, "v": 4, "hv": 4}, 3: {"hvz": 8, "hv": 4}}[rank]
    mirrored = Mirrored(operator, symmetry)
    channels = sum(symmetry.values()) + 1
    for larger in itertools.product((0, 1), repeat=rank):
        positions = [n + more for n, more in zip((6, 7, 8)[:rank], larger, strict=True)]
        x = np.random.RandomState(0).standard_normal((2, channels, *positions))
        straight = mirrored(torch.from_numpy(x)).numpy()
        kinds = oracle.kinds(symmetry, channels)
        for letter in "hvz"[:rank]:
            answer = mirrored(torch.from_numpy(np.ascontiguousarray(oracle.act(x, letter, symmetry)))).numpy()
            expected = oracle.act(straight, letter, symmetry)
            obeying = [i for i, kind in enumerate(kinds) if letter in kind]
            assert np.abs(answer - expected)[:, obeying].max(initial=0) <= tolerance["float64"]
        first = [i for i, (_, letters) in enumerate(oracle.arrangement(symmetry, channels)) if not letters]
        assert np.array_equal(straight[:, first], operator(torch.from_numpy(x)).numpy()[:, first])


class Counting(nn.MaxPool2d):
    calls = 0

    def forward(self, input):
        self.calls += 1
        return super().forward(input)


def test_it_costs_nothing_where_the_operator_obeys_anyway():
    pool = Counting(2)
    mirrored = Mirrored(pool, {"hv": 8})
    assert torch.equal(mirrored(torch.ones(1, 8, 8, 8)), torch.ones(1, 8, 4, 4))
    assert pool.calls == 1
    mirrored(torch.ones(1, 8, 8, 7))
    assert pool.calls == 3  # with the width crooked, two sorts of channels
    mirrored(torch.ones(1, 8, 7, 7))
    assert pool.calls == 7


def test_a_bare_pool_breaks_the_law_on_odd_sizes():
    x = torch.randn(1, 2, 7, 7)
    pool = nn.MaxPool2d(2)
    assert not torch.equal(pool(x.flip(-1)), pool(x).flip(-1))


def test_an_unreadable_symmetry_is_refused():
    with pytest.raises(SymmetryError, match=r"^symmetry: 'x' is no kind of mirror in 3-D"):
        Mirrored(nn.MaxPool2d(2), {"x": 2})
    with pytest.raises(SymmetryError, match="'h': 6 does not fit 4 filters"):
        Mirrored(nn.MaxPool2d(2), {"h": 6})(torch.randn(1, 4, 7, 7))
    assert "symmetry={'h': 2}" in repr(Mirrored(nn.MaxPool2d(2), {"h": 2}))


@pytest.mark.parametrize("symmetry", [{"h": 4}, {"hv": 4, "v": 2}])
def test_memory_formats_answer_alike_and_stay_as_they_are(symmetry):
    layer = Mirrored(nn.MaxPool2d(3, 2, 1), symmetry)
    x = torch.randn(2, 8, 6, 10, generator=torch.Generator().manual_seed(0)).requires_grad_()
    last = x.detach().to(memory_format=torch.channels_last).requires_grad_()
    straight, turned = layer(x), layer(last)
    assert torch.equal(straight, turned)
    assert turned.is_contiguous(memory_format=torch.channels_last)
    straight.pow(2).sum().backward()
    turned.pow(2).sum().backward()
    assert torch.equal(x.grad, last.grad)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_where_positions_are_gone_nothing_is_mirrored_back(memory_format):
    x = torch.randn(3, 6, 4, 5).to(memory_format=memory_format)
    assert torch.equal(Mirrored(lambda x: x.amax((2, 3)), {"h": 2, "hv": 4})(x), x.amax((2, 3)))
