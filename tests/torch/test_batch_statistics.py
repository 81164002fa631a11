"""Batch norms of orbits whose channels lie last give what they give where pixels are moved, and move none."""

import copy
import warnings

import pytest
import torch
from torch import nn

from symmetric_layers import torch as layers
from symmetric_layers.torch import batch_statistics
from symmetric_layers.torch.sync import OrbitSyncBatchNorm

SYMMETRIES = {"h": {"h": 12}, "several": {"h": 4, "hv": 4}, "one picture": {"hvz": 8}}
SHAPES = {"h": (3, 12, 5, 6), "several": (2, 12, 4, 3), "one picture": (1, 8, 3, 4, 5)}
MORE = [{}, {"affine": False}, {"bias": False}, {"momentum": None}, {"track_running_stats": False}, {"eps": 0.5}]


def last(x):
    return x.to(memory_format=torch.channels_last if x.dim() == 4 else torch.channels_last_3d)


@pytest.fixture(params=SYMMETRIES)
def x(request):
    found = torch.Generator().manual_seed(0)
    scale = torch.rand(1, SHAPES[request.param][1], *[1] * (len(SHAPES[request.param]) - 2), generator=found) * 5
    return torch.randn(SHAPES[request.param], generator=found) * scale + 2 * scale.roll(1, 1)


def made(request, x, **more):
    norm = getattr(layers, f"OrbitBatchNorm{x.dim() - 2}d")
    layer = norm(x.shape[1], symmetry=SYMMETRIES[request.node.callspec.params["x"]], dtype=x.dtype, **more)
    for values in layer.parameters():
        nn.init.normal_(values, generator=torch.Generator().manual_seed(3))
    return layer


def trained(layer, x):
    """The answer to one batch, all gradients, and what is remembered of it."""
    x = x.detach().requires_grad_()
    y = layer(x)
    y.backward(torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=x.dtype))
    return [y.detach(), x.grad, *(one.grad for one in layer.parameters()), *layer.buffers()]


@pytest.mark.parametrize("more", MORE, ids=lambda more: "-".join(more) or "plain")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_both_memory_formats_agree(request, x, more, dtype):
    x = x.to(dtype)
    layer = made(request, x, **more)
    other = copy.deepcopy(layer)
    for _ in range(2):
        expected, found = trained(layer, x), trained(other, last(x))
        tolerance = {torch.float32: 2e-5, torch.float64: 1e-12}[dtype]
        for one, two in zip(expected, found, strict=True):
            torch.testing.assert_close(two, one, rtol=tolerance, atol=tolerance)


def test_no_pixel_is_moved(request, x, monkeypatch):
    layer = made(request, x)
    monkeypatch.setattr(batch_statistics, "per_orbit", None)
    y = layer(last(x).requires_grad_())
    assert y.stride() == last(x).stride()
    (gradient,) = torch.autograd.grad(y.square().sum(), layer.weight)
    assert gradient.shape == layer.weight.shape


def test_the_gradient_lies_where_the_picture_lies(request, x):
    layer, seen = made(request, x), last(x).requires_grad_()
    (gradient,) = torch.autograd.grad(layer(seen), seen, torch.randn(x.shape))  # contiguous
    assert gradient.stride() == seen.stride()


def test_gradients_of_any_order(request, x):
    x = last(x.double())
    layer = made(request, x)

    def answer(x, weight, bias):
        return torch.func.functional_call(layer, {"weight": weight, "bias": bias}, (x,))

    def seen(x, weight, bias):
        return answer(last(x), weight, bias)

    given = [one.detach().requires_grad_() for one in (x, layer.weight, layer.bias)]
    assert torch.autograd.gradcheck(seen, given)
    assert torch.autograd.gradgradcheck(seen, given)


def test_only_what_is_asked_for_is_differentiated(request, x):
    layer, seen = made(request, x), last(x)
    layer.weight.requires_grad_(False)
    layer(seen).sum().backward()
    assert layer.weight.grad is None
    assert layer.bias.grad is not None
    seen.requires_grad_()
    layer.bias.requires_grad_(False)
    (first,) = torch.autograd.grad(layer(seen).pow(3).sum(), seen, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), seen)
    assert second.abs().max() > 0


def test_running_statistics_do_not_move_in_evaluation(request, x):
    layer = made(request, x).eval()
    before = [one.clone() for one in layer.buffers()]
    layer(last(x))
    assert all(torch.equal(*pair) for pair in zip(before, layer.buffers(), strict=True))


def test_what_is_no_number_is_passed_on(request, x):
    layer, other = made(request, x), made(request, x)
    x.view(-1)[0] = torch.nan
    found, expected = layer(last(x)), other(x)
    assert torch.equal(found.isnan(), expected.isnan())


def stays(x, layer):
    return batch_statistics.may_stay(x, dict(layer.named_parameters()))


def test_whatever_looks_on_sees_what_it_knows(request, x):
    layer = made(request, x)
    assert stays(last(x), layer)
    assert not stays(x, layer)
    assert not stays(last(x).bfloat16(), layer)
    assert not stays(last(x)[..., 1:], layer)
    assert not stays(last(x).to("meta"), layer)
    with torch.autocast("cpu", torch.bfloat16):
        assert not stays(last(x), layer)
    forgetful = made(request, x, track_running_stats=False)
    jacobian = torch.func.jacrev(lambda shift: forgetful(last(x) + shift).mean())(torch.zeros(()))
    assert jacobian.shape == ()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(layer, last(x), check_trace=False)
    assert "PythonOp" not in str(traced.graph)


@pytest.mark.parametrize("training", [True, False])
def test_affine_terms_of_another_size_are_refused_by_the_host(request, x, training):
    layer = made(request, x).train(training)
    layer.weight = nn.Parameter(torch.ones(x.shape[1] + 1))
    for some in (x, last(x)):
        with pytest.raises(RuntimeError, match="weight should contain"):
            layer(some)


def test_what_the_gradient_does_not_need_may_change(request, x):
    layer = made(request, x)
    y = layer(last(x).requires_grad_())
    with torch.no_grad():
        layer.bias.add_(1)
    y.sum().backward()
    gradients = torch.autograd.grad(layer(last(x)).sum(), [layer.weight, layer.bias])
    for one in gradients:
        one.detach_().add_(1)


def test_one_value_per_channel_is_refused_by_the_host():
    layer = layers.OrbitBatchNorm2d(3, symmetry={"h": 2})
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        layer(torch.randn(1, 1, 1, 3).permute(0, 3, 1, 2))


def test_statistics_of_several_processes_are_not_joined_here(x, request, monkeypatch):
    symmetry = SYMMETRIES[request.node.callspec.params["x"]]
    monkeypatch.setattr("symmetric_layers.torch.norm.way_for", None)
    assert OrbitSyncBatchNorm(x.shape[1], symmetry=symmetry)(last(x)).shape == x.shape


def test_gradients_of_many_answers_are_asked_for_at_once(request, x):
    layer, seen = made(request, x), last(x).requires_grad_()
    y, own = layer(seen), [seen, *layer.parameters()]
    several = torch.randn(3, *y.shape, generator=torch.Generator().manual_seed(1))
    batched = torch.autograd.grad(y, own, several, is_grads_batched=True, retain_graph=True)
    one_by_one = [torch.autograd.grad(y, own, gradient, retain_graph=True) for gradient in several]
    for found, expected in zip(batched, zip(*one_by_one, strict=True), strict=True):
        torch.testing.assert_close(found, torch.stack(expected), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("again", [False, True])
def test_hooks_see_a_gradient_once(request, x, again):
    layer, seen, calls = made(request, x), last(x).requires_grad_(), []
    between = seen * 1
    between.register_hook(lambda gradient: calls.append("x"))
    layer.weight.register_hook(lambda gradient: calls.append("weight"))
    torch.autograd.grad(layer(between).pow(3).sum(), [seen, layer.weight], create_graph=again)
    assert sorted(calls) == ["weight", "x"]
