"""The kernel is called at once where nothing looks on; whatever looks on sees its operators."""

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode

from symmetric_layers.torch import SymmetricConv2d
from symmetric_layers.torch.kernels import cpu, frame, library, operators

pytestmark = pytest.mark.skipif(library.missing() is not None, reason=f"{library.missing()}")
ANSWER = torch.ops.symmetric_layers.answer.default


@pytest.fixture
def layer():
    torch.manual_seed(0)
    return SymmetricConv2d(8, 32, 3, padding=1, symmetry={"h": 32}, algorithm="cpu")


@pytest.fixture
def x():
    return torch.randn(1, 8, 9, 9, generator=torch.Generator().manual_seed(0))


class Watching(TorchDispatchMode):
    """Writes down which operators are called."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen.append(func)
        return func(*args, **(kwargs or {}))


def test_a_mode_sees_the_operators(layer, x):
    with Watching() as mode:
        layer(x.requires_grad_()).sum().backward()
    names = {func.name() for func in mode.seen}
    assert {f"symmetric_layers::{name}" for name in ("answer", "input_gradient", "weight_gradient")} <= names


def test_a_graph_traced_with_real_tensors_answers_other_pictures(layer, x):
    traced = make_fx(layer)(x)
    assert ANSWER in {node.target for node in traced.graph.nodes}
    assert torch.equal(traced(-x), layer(-x))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning", "ignore::UserWarning")
def test_a_jit_trace_answers_other_pictures(layer, x):
    traced = torch.jit.trace(layer, x, check_trace=False)
    assert torch.equal(traced(-x), layer(-x))


def test_a_profiler_sees_the_operators(layer, x):
    with torch.profiler.profile() as profile, torch.no_grad():
        layer(x)
    assert "symmetric_layers::answer" in {event.key for event in profile.key_averages()}


def gradients_at_once(layer, x):
    """For three gradients of the answer, asked for in both ways that PyTorch has."""
    y, own = layer(x), [x, *layer.parameters()]
    several = torch.randn(3, *y.shape, generator=torch.Generator().manual_seed(1))
    batched = torch.autograd.grad(y, own, several, is_grads_batched=True, retain_graph=True)
    mapped = torch.vmap(lambda gradient: torch.autograd.grad(y, own, gradient, retain_graph=True))(several)
    return batched, mapped


@pytest.mark.parametrize("bias", [True, False])
def test_gradients_of_many_answers_are_asked_for_at_once(x, bias):
    layer = SymmetricConv2d(8, 16, 3, padding=1, bias=bias, symmetry={"h": 8, "hv": 8}, in_symmetry={"hv": 8})
    found = {}
    for layer.algorithm in ("reference", "cpu"):
        found[layer.algorithm] = gradients_at_once(layer, x.requires_grad_())
    torch.testing.assert_close(found["cpu"], found["reference"], rtol=2e-5, atol=2e-4)


class Counted(torch.Tensor):
    """A tensor of its own kind."""


def test_a_tensor_of_its_own_kind_goes_through_the_operator(layer, x, monkeypatch):
    asked = []
    monkeypatch.setattr(operators, "run", lambda *given: asked.append(given))
    seen = layer(x.as_subclass(Counted))
    assert isinstance(seen, Counted)
    assert len(asked) == 1


def test_where_nothing_looks_on_no_operator_is_called(layer, x, monkeypatch):
    def refuse(*given):
        raise AssertionError("an operator was called")

    monkeypatch.setattr(torch._ops.OpOverload, "__call__", refuse)
    with torch.no_grad():
        assert layer(x).shape == (1, 32, 9, 9)
    y = layer(x.requires_grad_())
    first = torch.autograd.grad(y, [x, layer.weight, layer.bias], torch.ones_like(y), create_graph=True)
    torch.autograd.grad([one.sum() for one in first[:2]], [x, layer.weight])


def test_the_same_layer_serves_inputs_that_lie_otherwise_in_memory(layer, x):
    expected = layer(x)
    wide = torch.randn(1, 16, 9, 20)
    wide[:, ::2, :, 3:12] = x
    for seen in (x.to(memory_format=torch.channels_last), wide[:, ::2, :, 3:12], x.mT.contiguous().mT):
        assert torch.equal(layer(seen), expected)
    turned = layer(x.expand(2, -1, -1, -1))
    assert torch.equal(turned[0], expected[0])
    assert torch.equal(turned[1], expected[0])


@pytest.fixture
def threads(monkeypatch):
    """How many threads every call of the kernel has."""
    found, before, own = [], torch.get_num_threads(), operators.run
    monkeypatch.setattr(
        operators, "run", lambda verb, task, *rest: found.append(task.threads) or own(verb, task, *rest)
    )
    yield found
    torch.set_num_threads(before)


def test_threads_are_asked_for_in_every_call(layer, threads):
    for many in (1, 2, 1):
        torch.set_num_threads(many)
        layer(torch.randn(2, 8, 40, 40))
    assert threads == [1, 2, 1]


def test_what_is_small_is_done_by_one_thread(layer, x, threads):
    torch.set_num_threads(2)
    layer(x.requires_grad_()).sum().backward()
    assert threads == [1] * 3


def test_views_of_negatives_are_negative(layer, x):
    expected = layer(-x)
    gradient = torch.randn(expected.shape, generator=torch.Generator().manual_seed(2))
    assert torch.equal(layer(torch._neg_view(x)), expected)
    y = layer(x.requires_grad_())
    found = [torch.autograd.grad(y, x, one, retain_graph=True)[0] for one in (-gradient, torch._neg_view(gradient))]
    assert torch.equal(*found)
    plain = layer.weight.detach(), layer.bias.detach()
    geometry = ([1, 16], [], [1, 1], [1, 1], [1, 1])
    turned = operators.answer(x.detach(), *map(torch._neg_view, plain), *geometry)
    assert torch.equal(turned, operators.answer(x.detach(), *[-one for one in plain], *geometry))


def test_a_bias_of_its_own_kind_goes_through_the_operator(layer, x):
    geometry = ([1, 16], [], [1, 1], [1, 1], [1, 1])
    seen = operators.answer(x, layer.weight.detach(), layer.bias.detach().as_subclass(Counted), *geometry)
    assert isinstance(seen, Counted)


@pytest.mark.parametrize("algorithm", ["auto", "cpu"])
def test_nothing_is_asked_again(x, monkeypatch, algorithm):
    layer = SymmetricConv2d(8, 64, 3, padding=1, symmetry={"hv": 64}, algorithm=algorithm)
    x = x.repeat(8, 1, 4, 4)
    with torch.no_grad():
        expected = layer(x)
        for module, name in ((cpu, "why_not"), (cpu, "slower"), (frame, "conv"), (frame, "lay_out")):
            monkeypatch.delattr(module, name)
        assert torch.equal(layer(x), expected)


CHANGES = [
    {"padding": (0, 2)},
    {"stride": (2, 1)},
    {"stride": (3, 3), "grid": "mirrored"},
    {"dilation": (1, 2)},
    {"padding_mode": "circular"},
    {"padding": "same", "dilation": (2, 2)},
    {"share_bias": False, "bias": torch.nn.Parameter(torch.arange(32.0))},
    {"bias": None},
    {"bias": torch.nn.Parameter(torch.arange(32.0)[::2])},
    {"weight": torch.nn.Parameter(torch.arange(16 * 72.0).view(16, 8, 3, 3).cos().mT)},
]


def answers_as_the_reference(layer, x):
    found = layer(x)
    layer.algorithm = "reference"
    torch.testing.assert_close(found, layer(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("changes", CHANGES, ids=lambda changes: "-".join(changes))
def test_what_changes_between_two_calls_is_seen(layer, x, changes):
    with torch.no_grad():
        layer(x)
        for name, value in changes.items():
            setattr(layer, name, value)
        answers_as_the_reference(layer, x)


def test_new_numbers_in_the_same_filters_are_seen(layer, x):
    with torch.no_grad():
        layer(x)
        layer.weight.data.mul_(2)
        answers_as_the_reference(layer, x)


def test_autocast_and_other_numbers_are_refused_as_before(layer, x):
    with torch.no_grad():
        layer(x)
        with torch.autocast("cpu", torch.bfloat16), pytest.raises(ValueError, match="autocast computes in"):
            layer(x)
        with pytest.raises(ValueError, match=r"the input has dtype torch.float64"):
            layer(x.double())


@pytest.mark.parametrize("kernel", [(3, 1), (1, 3)])
@pytest.mark.parametrize("last", [False, True])
def test_filters_of_one_column_may_have_any_stride_there(kernel, last):
    layer = SymmetricConv2d(16, 64, kernel, symmetry={"hv": 64}, algorithm="cpu")
    turned = torch.randn(16, 16, *reversed(kernel), generator=torch.Generator().manual_seed(2))
    turned = turned.to(memory_format=torch.channels_last) if last else turned
    layer.weight = torch.nn.Parameter(turned.transpose(2, 3))
    x = torch.randn(1, 16, 12, 12, requires_grad=True)
    found = {}
    for layer.algorithm in ("cpu", "reference"):
        with torch.no_grad():
            plain = layer(x)
        answer = layer(x)
        found[layer.algorithm] = [plain, answer, *torch.autograd.grad(answer.sum(), [x, layer.weight])]
    torch.testing.assert_close(found["cpu"], found["reference"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("algorithm", ["auto", "cpu"])
@pytest.mark.parametrize(
    "change",
    [
        {"bias": torch.randn(1)},
        {"bias": torch.randn(64)},
        {"bias": torch.randn(4, 4)},
        {"weight": torch.randn(32, 16, 3, 3), "bias": None},
        {"weight": torch.randn(16, 16, 9), "bias": None},
    ],
    ids=["one bias", "every bias", "square", "filters", "axes"],
)
def test_filters_and_biases_that_do_not_fit_are_left_to_the_host(change, algorithm, gradients):
    """Which refuses them in its own words, or takes them."""
    layer, x = SymmetricConv2d(16, 64, 3, symmetry={"hv": 64}, algorithm=algorithm), torch.randn(4, 16, 28, 28)
    for name, value in change.items():
        setattr(layer, name, None if value is None else torch.nn.Parameter(value))
    found = []
    for layer.algorithm in ("reference", algorithm):
        with torch.set_grad_enabled(gradients):
            try:
                found.append(layer(x).shape)
            except (RuntimeError, ValueError, IndexError) as error:
                found.append(str(error))
    assert found[0] == found[1]


@pytest.mark.parametrize("algorithm", ["auto", "cpu"])
def test_graphs_with_symbols_for_sizes(algorithm):
    layer, x = (
        SymmetricConv2d(16, 64, 3, padding=1, symmetry={"hv": 64}, algorithm=algorithm),
        torch.randn(2, 16, 20, 20),
    )
    with torch.no_grad():
        traced = make_fx(layer, tracing_mode="symbolic", _allow_non_fake_inputs=True)(x)
        torch.testing.assert_close(traced(x), layer(x), rtol=1e-4, atol=1e-4)


def test_other_layouts_are_left_to_the_reference(x):
    layer = SymmetricConv2d(8, 64, 3, padding=1, symmetry={"hv": 64})
    packed = x.repeat(8, 1, 4, 4).to_mkldnn()
    with torch.no_grad():
        assert layer(packed).layout == torch._mkldnn
        layer.algorithm = "cpu"
        with pytest.raises(ValueError, match=r"the input has layout torch\._mkldnn; it reads torch\.strided only"):
            layer(packed)
