"""Max pooling on the mirrored grid, in one pass: the same numbers as mirroring, pooling and mirroring back."""

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.autograd import forward_ad
from torch.overrides import TorchFunctionMode

from symmetric_layers.torch import Mirrored
from symmetric_layers.torch.kernels import library, pools

POOLS = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
LAST = {1: torch.contiguous_format, 2: torch.channels_last, 3: torch.channels_last_3d}
KINDS = {1: ["h"], 2: ["h", "v", "hv"], 3: ["h", "z", "hv", "hvz"]}

pytestmark = pytest.mark.skipif(library.missing() is not None, reason="the kernel is not compiled")


@pytest.fixture
def asked(monkeypatch):
    """How often the kernel pooled."""
    calls = []

    def noted(*given):
        answer = pools.pooled(*given)
        calls.append(answer is not None)
        return answer

    monkeypatch.setattr("symmetric_layers.torch.mirrored.pooled", noted)
    return calls


class Own1(nn.MaxPool1d):
    """A pool of another class, which may do anything."""


class Own2(nn.MaxPool2d):
    """The same for pictures."""


class Own3(nn.MaxPool3d):
    """The same for volumes."""


OWN = {nn.MaxPool1d: Own1, nn.MaxPool2d: Own2, nn.MaxPool3d: Own3}


def slowly(mirrored, x):
    """The same by mirroring, pooling and mirroring back, as what is no pool of PyTorch's own is pooled."""
    pool = mirrored.operator
    own = OWN[type(pool)](pool.kernel_size, pool.stride, pool.padding, pool.dilation)
    return Mirrored(own, mirrored.symmetry)(x)


def learnt(ask, mirrored, x, gradient):
    """The answer, and the gradient of the pictures."""
    x = x.detach().requires_grad_()
    answer = ask(mirrored, x)
    (found,) = torch.autograd.grad(answer, x, gradient)
    return answer.detach(), found


def adds_up(mirrored, x, gradient, found):
    """Whether a gradient is that of float64, to the rounding of as many numbers as meet in a pixel."""
    exact, met = (learnt(slowly, mirrored, x.double(), one.double())[1] for one in (gradient, gradient.abs()))
    return bool(((found - exact).abs() <= 1e-6 * met).all())


def strides(x):
    """Those that mean something."""
    return [stride for stride, size in zip(x.stride(), x.shape, strict=True) if size > 1]


def at_once(mirrored, x):
    return mirrored(x)


@st.composite
def pictures_and_pools(draw):
    rank = draw(st.integers(1, 3))
    kernel = draw(st.lists(st.integers(1, 4), min_size=rank, max_size=rank))
    stride = draw(st.lists(st.integers(1, 3), min_size=rank, max_size=rank))
    dilation = draw(st.lists(st.integers(1, 2), min_size=rank, max_size=rank))
    padding = [draw(st.integers(0, k // 2)) for k in kernel]
    sizes = [
        max(d * (k - 1) + 1 - 2 * p, 1) + draw(st.integers(0, 9))
        for k, d, p in zip(kernel, dilation, padding, strict=True)
    ]
    kind = draw(st.sampled_from(KINDS[rank]))
    channels = 2 ** len(kind) * draw(st.integers(1, 5))
    pool = POOLS[rank](kernel, stride, padding, dilation)
    x = torch.randn(draw(st.integers(1, 3)), channels + draw(st.integers(0, 3)), *sizes)
    last = draw(st.booleans())
    return Mirrored(pool, {kind: channels}), x.to(memory_format=LAST[rank]) if last else x


@settings(max_examples=200, deadline=None)
@given(pictures_and_pools())
def test_every_pool_gives_the_same_numbers_in_the_same_format(drawn):
    mirrored, x = drawn
    expected, answer = slowly(mirrored, x), mirrored(x)
    assert torch.equal(answer, expected)
    assert answer.stride() == expected.stride() or 1 in answer.shape or 1 in x.shape


@settings(max_examples=300, deadline=None)
@given(pictures_and_pools(), st.booleans(), st.booleans())
def test_every_pool_gives_the_same_gradients(drawn, coarse, broadcast):
    """Of numbers that are equally large, too: many are where a layer before has cut off what is negative."""
    mirrored, x = drawn
    # where whole windows lie outside, PyTorch writes gradients to memory that is not its own
    assume(all(size >= d for size, d in zip(x.shape[2:], mirrored.operator.dilation, strict=True)))
    x = x.relu() if coarse else x
    answer = slowly(mirrored, x)
    gradient = torch.randn(1, 1, *answer.shape[2:]).expand(answer.shape) if broadcast else torch.randn_like(answer)
    pooled, found = learnt(at_once, mirrored, x, gradient)
    assert torch.equal(pooled, answer)
    assert adds_up(mirrored, x, gradient, found)
    assert strides(found) == strides(x)


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("last", [False, True])
def test_it_is_the_kernel_that_pools(asked, last, gradients):
    x = torch.randn(2, 40, 12, 12, requires_grad=gradients)
    Mirrored(nn.MaxPool2d(3, 2, 1), {"hv": 40})(x.to(memory_format=torch.channels_last) if last else x)
    assert asked == [True]


@pytest.mark.parametrize("set", library.instruction_sets())
@pytest.mark.parametrize("last", [False, True])
def test_every_instruction_set_pools_alike(set, last, monkeypatch):
    monkeypatch.setattr(library, "instruction_sets", lambda: (set,))
    x = torch.randn(3, 37, 10, 12)
    mirrored = Mirrored(nn.MaxPool2d(3, 2, 1), {"hv": 24, "h": 6})
    x = x.to(memory_format=torch.channels_last) if last else x
    gradient = torch.randn(3, 37, 5, 6)
    for found, expected in zip(*(learnt(ask, mirrored, x, gradient) for ask in (at_once, slowly)), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("last", [False, True])
def test_mirrored_pictures_have_bit_for_bit_the_mirrored_answers(last):
    """Signed zeros included: of equal numbers the one counts that its mirror meets first, too."""
    x = torch.zeros(2, 16, 8, 8)
    x[torch.rand_like(x) < 0.5] = -0.0
    mirrored, order = Mirrored(nn.MaxPool2d(3, 2, 1), {"h": 16}), [i ^ 1 for i in range(16)]
    x = x.to(memory_format=torch.channels_last) if last else x
    other = x[:, order].flip(-1)
    answer, seen = mirrored(x), mirrored(other.to(memory_format=torch.channels_last) if last else other)
    assert torch.equal(torch.signbit(seen), torch.signbit(answer[:, order].flip(-1)))
    assert torch.signbit(answer).any()
    assert not torch.signbit(answer).all()


@pytest.mark.parametrize("last", [False, True])
def test_what_is_no_number_passes_through(last):
    x = torch.randn(1, 20, 8, 8)
    x[torch.rand_like(x) < 0.1] = torch.nan
    x[0, 0] = -torch.inf
    x = x.to(memory_format=torch.channels_last) if last else x
    mirrored = Mirrored(nn.MaxPool2d(3, 2, 1), {"h": 20})
    gradient = torch.randn(1, 20, 4, 4)
    found, expected = (learnt(ask, mirrored, x, gradient) for ask in (at_once, slowly))
    assert torch.equal(torch.nan_to_num(found[0], 77.0), torch.nan_to_num(expected[0], 77.0))
    assert found[0].isnan().any()
    torch.testing.assert_close(found[1], expected[1], rtol=1e-6, atol=1e-6)


def test_every_number_of_threads_pools_alike():
    x, mirrored = torch.randn(3, 8, 9, 10), Mirrored(nn.MaxPool2d(2), {"h": 8})
    before = torch.get_num_threads()
    try:
        answers = []
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            answers.append(learnt(at_once, mirrored, x, torch.ones(3, 8, 4, 5)))
    finally:
        torch.set_num_threads(before)
    for other in answers[1:]:
        assert all(torch.equal(*both) for both in zip(answers[0], other, strict=True))


@pytest.mark.parametrize("last", [False, True])
def test_windows_outside_the_picture_have_no_gradient(last):
    """PyTorch's own pool crashes there."""
    x = torch.randn(2, 32, 1, 40).to(memory_format=LAST[2] if last else LAST[1]).requires_grad_()
    answer = Mirrored(nn.MaxPool2d(2, (1, 2), 1, 2), {"h": 32})(x)
    assert answer.isneginf().any()
    answer.sum().backward()
    assert torch.equal(x.grad, torch.zeros_like(x))


def test_derivatives_of_gradients():
    mirrored, x = Mirrored(nn.MaxPool2d(3, 2, 1), {"hv": 8}), torch.randn(2, 8, 12, 12, requires_grad=True)
    gradient, weights = torch.randn(2, 8, 6, 6, requires_grad=True), torch.randn(2, 8, 12, 12)
    found = []
    for ask in (at_once, slowly):
        (first,) = torch.autograd.grad(ask(mirrored, x * 1.0), x, gradient, create_graph=True)
        found.append(torch.autograd.grad(first, gradient, weights)[0])
    assert torch.equal(*found)


def test_gradients_of_many_answers_at_once():
    mirrored, x = Mirrored(nn.MaxPool2d(3, 2, 1), {"hv": 8}), torch.randn(2, 8, 12, 12, requires_grad=True)
    several = torch.randn(3, 2, 8, 6, 6)
    found = [torch.autograd.grad(ask(mirrored, x), x, several, is_grads_batched=True)[0] for ask in (at_once, slowly)]
    torch.testing.assert_close(*found, rtol=1e-6, atol=1e-6)


def test_checkpoints_and_pictures_that_are_overwritten():
    mirrored, x = Mirrored(nn.MaxPool2d(3, 2, 1), {"h": 8}), torch.randn(2, 8, 12, 12, requires_grad=True)
    gradient = torch.randn(2, 8, 6, 6)
    _, expected = learnt(at_once, mirrored, x, gradient)
    again = torch.utils.checkpoint.checkpoint(mirrored, x, use_reentrant=False)
    assert torch.equal(torch.autograd.grad(again, x, gradient)[0], expected)
    seen = x * 1.0
    answer = mirrored(seen).relu_()  # what was answered may be overwritten, as with PyTorch's pool
    answer.sum().backward()
    answer = mirrored(seen)
    seen.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        answer.sum().backward()


@pytest.mark.parametrize(
    ("what", "pool", "change"),
    [
        ("a class of its own", Own2(3, 2, 1), None),
        ("rounding up", nn.MaxPool2d(3, 2, 1, ceil_mode=True), None),
        ("means", nn.AvgPool2d(3, 2, 1), None),
        ("doubles", nn.MaxPool2d(3, 2, 1), lambda x: x.double()),
        ("half precision", nn.MaxPool2d(3, 2, 1), lambda x: x.bfloat16()),
        ("every other column", nn.MaxPool2d(3, 2, 1), lambda x: x[..., ::2]),
        ("no pictures", nn.MaxPool2d(3, 2, 1), lambda x: x[:0]),
    ],
)
def test_what_it_cannot_do_is_left_to_pytorch(asked, what, pool, change):
    x = torch.randn(2, 8, 12, 24)
    mirrored = Mirrored(pool, {"h": 8})
    answer = mirrored(change(x) if change else x)
    assert True not in asked
    assert answer.shape[1:3] == (8, answer.shape[2])


def test_hooks_of_the_pool_are_called(asked):
    pool, seen = nn.MaxPool2d(3, 2, 1), []
    pool.register_forward_hook(lambda *given: seen.append(given))
    Mirrored(pool, {"h": 8})(torch.randn(2, 8, 12, 12))
    assert len(seen) == 2
    assert asked == [False]


def test_a_forward_of_its_own_is_called(asked):
    pool = nn.MaxPool2d(3, 2, 1)
    pool.forward = lambda x: torch.zeros(2, x.shape[1], 6, 6)
    assert not Mirrored(pool, {"h": 8})(torch.randn(2, 8, 12, 12)).any()
    assert asked == [False]


def test_one_number_may_stand_for_all_axes_in_a_tuple_too():
    mirrored, x = Mirrored(nn.MaxPool2d((3,), (2,)), {"h": 8}), torch.randn(2, 8, 12, 12)
    assert torch.equal(mirrored(x), slowly(mirrored, x))


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # PyTorch's own, for the first tangent
def test_tangents_of_forward_mode_pass_through():
    mirrored, x = Mirrored(nn.MaxPool2d(3, 2, 1), {"h": 8}), torch.randn(2, 8, 12, 12)
    with forward_ad.dual_level():
        answer = forward_ad.unpack_dual(mirrored(forward_ad.make_dual(x, torch.ones_like(x))))
        assert torch.equal(answer.tangent, torch.ones(2, 8, 6, 6))
        assert torch.equal(answer.primal, slowly(mirrored, x))


class Pools(TorchFunctionMode):
    """Notes the pools that are called."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if "max_pool" in getattr(function, "__name__", ""):
            self.seen.append(function)
        return function(*args, **(kwargs or {}))


def test_modes_see_the_pools():
    with Pools() as mode:
        Mirrored(nn.MaxPool2d(3, 2, 1), {"h": 8})(torch.randn(2, 8, 12, 12))
    assert mode.seen


def test_a_pool_that_the_host_refuses_is_refused_in_its_words():
    mirrored = Mirrored(nn.MaxPool2d(3, 2), {"h": 8})
    with pytest.raises(RuntimeError, match="Output size is too small"):
        mirrored(torch.randn(1, 8, 4, 2))


def test_compilers_see_through_it():
    mirrored, x = Mirrored(nn.MaxPool2d(3, 2, 1), {"h": 8}), torch.randn(2, 8, 12, 12)
    compiled = torch.compile(mirrored, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(x), mirrored(x))
    exported = torch.export.export(mirrored, (x,)).module()
    assert torch.equal(exported(x), mirrored(x))


@pytest.mark.parametrize("again", [False, True])
def test_hooks_of_the_pictures_are_called_once(again):
    mirrored, x = Mirrored(nn.MaxPool2d(3, 2, 1), {"hv": 8}), torch.randn(2, 8, 12, 12, requires_grad=True)
    found = []
    for ask in (at_once, slowly):
        seen = x * 1.0
        seen.register_hook(lambda gradient: gradient * 2)
        found.append(torch.autograd.grad(ask(mirrored, seen).sum(), x, create_graph=again)[0])
    torch.testing.assert_close(*found, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("last", [False, True])
def test_pictures_may_be_kept_in_another_memory_format(last):
    mirrored, x = Mirrored(nn.MaxPool2d(3, 2, 1), {"hv": 8}), torch.randn(2, 8, 12, 12)
    seen = x.to(memory_format=LAST[2 if last else 1]).requires_grad_()
    other = LAST[1 if last else 2]
    with torch.autograd.graph.saved_tensors_hooks(
        lambda kept: kept.detach().to(memory_format=other), lambda kept: kept
    ):
        answer = mirrored(seen)
    gradient = torch.randn_like(answer)
    (found,) = torch.autograd.grad(answer, seen, gradient)
    torch.testing.assert_close(found, learnt(slowly, mirrored, x, gradient)[1], rtol=1e-6, atol=1e-6)
