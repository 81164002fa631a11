"""Answers without questions are the answers that are given after all questions."""

import pytest
import torch

from symmetric_layers import torch as layers
from symmetric_layers.torch.kernels import direct, reference, written

CASES = {
    "stem": (2, (3, 8, 3), {"symmetry": {"h": 4, "hv": 4}, "stride": 2, "padding": 1}),
    "free filters": (2, (3, 8, 3), {"symmetry": {"v": 4}}),
    "own biases": (2, (3, 8, 3), {"symmetry": {"h": 8}, "share_bias": False}),
    "no biases": (2, (3, 8, (5, 2)), {"symmetry": {"hv": 8}, "bias": False, "dilation": (1, 2)}),
    "orbits": (2, (4, 8, 3), {"symmetry": {"hv": 8}, "in_symmetry": {"hv": 4}, "padding": "same"}),
    "groups": (2, (4, 8, 3), {"symmetry": {"h": 8}, "groups": 2, "padding": "valid"}),
    "depthwise": (2, (4, 4, 3), {"symmetry": {"h": 4}, "in_symmetry": {"h": 4}, "groups": 4}),
    "mirrored grid": (2, (3, 8, 3), {"symmetry": {"h": 8}, "stride": 2, "padding": 1, "grid": "mirrored"}),
    "a row": (1, (3, 8, 5), {"symmetry": {"h": 8}, "padding": 2}),
    "a volume": (3, (2, 8, 3), {"symmetry": {"hvz": 8}}),
}


@pytest.fixture(params=CASES)
def layer(request):
    rank, sizes, more = CASES[request.param]
    made = getattr(layers, f"SymmetricConv{rank}d")(*sizes, algorithm="reference", **more)
    return made


def pictures(layer, size=9):
    x = torch.randn(2, layer.in_channels, *[size] * layer._rank)
    yield x
    yield x[0]
    if layer._rank > 1:
        yield x.to(memory_format=torch.channels_last if layer._rank == 2 else torch.channels_last_3d)
    yield torch.cat([x, x], -1)[..., ::2]
    yield x[0].movedim(1, -1).contiguous().movedim(-1, 1)


def test_the_bank_is_fetched_at_once(layer):
    for x in pictures(layer):
        with torch.no_grad():
            job = layer._job(x)
            found = direct.take_note(job, "reference")
            assert found is not None
            answer = found.how(job.x, job.weight, job.bias)
            torch.testing.assert_close(answer, reference.conv(job))
            assert answer.stride() == reference.conv(job).stride()


def test_stored_filters_may_lie_otherwise_in_memory(layer):
    with torch.no_grad():
        weight = layer.weight.transpose(0, 1).contiguous().transpose(0, 1)
        wide = torch.zeros(*weight.shape[:-1], 2 * weight.shape[-1])[..., ::2].copy_(weight)
        x = next(pictures(layer))
        expected = layer(x)
        for lain in (weight, wide):
            layer.weight = torch.nn.Parameter(lain)
            assert layer.weight.stride() == lain.stride()
            assert direct.take_note(layer._job(x), "reference") is not None
            torch.testing.assert_close(layer(x), expected)


def test_what_is_learnt_is_seen(layer):
    x = next(pictures(layer))
    with torch.no_grad():
        before = layer(x)
        layer.weight.mul_(2)
        if layer.bias is not None:
            layer.bias.mul_(2)
        torch.testing.assert_close(layer(x), 2 * before)


def test_large_banks_and_two_grids_are_left_to_the_reference(monkeypatch):
    layer = layers.SymmetricConv2d(3, 8, 3, stride=2, symmetry={"h": 8}, grid="mirrored", algorithm="reference")
    with torch.no_grad():
        assert direct.take_note(layer._job(torch.randn(1, 3, 9, 10)), "reference") is None
        job = layer._job(torch.randn(1, 3, 9, 9))
        assert direct.take_note(job, "reference") is not None
        monkeypatch.setattr(written, "_SMALL", 8 * 27 - 1)
        direct._known.cache_clear()
        assert direct.take_note(job, "reference") is None
    direct._known.cache_clear()


def test_gradients_and_other_kinds_of_numbers_are_asked_for_slowly(layer):
    x = next(pictures(layer))
    assert direct.take_note(layer._job(x), "reference") is None
    with torch.no_grad():
        assert direct.take_note(layer.double()._job(x.double()), "reference") is None
        assert direct.take_note(layer.float()._job(x), "folded") is None


def test_what_does_not_fit_is_refused_in_the_words_of_the_host():
    layer = layers.SymmetricConv2d(3, 8, 3, symmetry={"h": 8}, algorithm="reference")
    with torch.no_grad():
        for x in (torch.randn(1, 4, 9, 9), torch.randn(9, 9), torch.randn(1, 3, 2, 2)):
            assert direct.take_note(layer._job(x), "reference") is None
            with pytest.raises(RuntimeError):
                layer(x)
