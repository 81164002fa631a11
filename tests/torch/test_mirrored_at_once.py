"""Max pooling on the mirrored grid, in one pass: the same numbers as mirroring, pooling and mirroring back."""

import pytest
import torch
from hypothesis import given, settings
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


def slowly(mirrored, x):
    """The same, as gradients need it: by mirroring, pooling and mirroring back."""
    return mirrored(x.detach().requires_grad_()).detach()


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


@pytest.mark.parametrize("last", [False, True])
def test_it_is_the_kernel_that_pools(asked, last):
    x = torch.randn(2, 40, 12, 12)
    Mirrored(nn.MaxPool2d(3, 2, 1), {"hv": 40})(x.to(memory_format=torch.channels_last) if last else x)
    assert asked == [True]


@pytest.mark.parametrize("set", library.instruction_sets())
@pytest.mark.parametrize("last", [False, True])
def test_every_instruction_set_pools_alike(set, last, monkeypatch):
    monkeypatch.setattr(library, "instruction_sets", lambda: (set,))
    x = torch.randn(3, 37, 10, 12)
    mirrored = Mirrored(nn.MaxPool2d(3, 2, 1), {"hv": 24, "h": 6})
    x = x.to(memory_format=torch.channels_last) if last else x
    assert torch.equal(mirrored(x), slowly(mirrored, x))


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
    assert torch.equal(torch.nan_to_num(mirrored(x), 77.0), torch.nan_to_num(slowly(mirrored, x), 77.0))
    assert mirrored(x).isnan().any()


def test_every_number_of_threads_pools_alike():
    x, mirrored = torch.randn(3, 8, 9, 10), Mirrored(nn.MaxPool2d(2), {"h": 8})
    before = torch.get_num_threads()
    try:
        answers = []
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            answers.append(mirrored(x))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(answers[0], answers[1])
    assert torch.equal(answers[0], answers[2])


class Own(nn.MaxPool2d):
    """A pool of another class, which may do anything."""


@pytest.mark.parametrize(
    ("what", "pool", "change"),
    [
        ("a class of its own", Own(3, 2, 1), None),
        ("rounding up", nn.MaxPool2d(3, 2, 1, ceil_mode=True), None),
        ("means", nn.AvgPool2d(3, 2, 1), None),
        ("doubles", nn.MaxPool2d(3, 2, 1), lambda x: x.double()),
        ("half precision", nn.MaxPool2d(3, 2, 1), lambda x: x.bfloat16()),
        ("gradients", nn.MaxPool2d(3, 2, 1), lambda x: x.requires_grad_()),
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
