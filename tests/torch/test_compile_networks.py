"""Converted networks compiled for sizes that are left open: as few guards, and as simple programs, as ordinary ones."""

import importlib

import pytest
import torch
from cases_torch import backward
from test_compile_open_sizes import mirrored_grid, pictures
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

from symmetric_layers.torch import Mirrored, SymmetricConv2d, equivariant
from symmetric_layers.torch.kernels import opaque_host, opaque_pools, operators
from symmetric_layers.torch.kernels.bank import counts, grouped, spoken

pytestmark = [
    # third parties: compilers and exporters look for their own deprecated helpers
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch"),
    pytest.mark.filterwarnings("ignore::FutureWarning:torch"),
    pytest.mark.skipif(
        not hasattr(torch.fx.experimental.symbolic_shapes, "has_static_value"), reason="PyTorch 2.8 says what is open"
    ),
]

SIZES = [(32, 40), (33, 41), (34, 39), (35, 38), (31, 47)]
OWN = ("grids_", "mirrored_pool")  # operators for sizes that are left open


@pytest.fixture(autouse=True)
def _forget_what_was_compiled():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


class Block(nn.Module):
    """Two layers, and a shortcut around them."""

    def __init__(self, channels, filters):
        super().__init__()
        self.first = nn.Conv2d(channels, filters, 3, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(filters)
        self.second = nn.Conv2d(filters, filters, 3, 1, 1)
        self.down = nn.Conv2d(channels, filters, 1, 2)

    def forward(self, x):
        return torch.relu(self.second(torch.relu(self.norm(self.first(x)))) + self.down(x))


class Net(nn.Sequential):
    """A small ResNet: strides again and again."""

    def __init__(self):
        stem = (nn.Conv2d(3, 8, 7, 2, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        super().__init__(*stem, Block(8, 8), Block(8, 16), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5))


def converted():
    """The network that obeys the law, the same numbers every time."""
    torch.manual_seed(0)
    return equivariant(Net(), "hv", example=torch.randn(1, 3, 32, 32), measure=False)


class Seen:
    """A compiler that remembers what it was given: the programs, and how much is guarded of sizes."""

    def __init__(self, compiler=None):
        self.programs, self.guards, self.compiler = [], [], compiler

    def __call__(self, program, inputs):
        self.programs.append(program)
        self.guards.append(len(torch._guards.TracingContext.get().fake_mode.shape_env.guards))
        return self.compiler(program, inputs) if self.compiler else program

    def mirrored_pictures(self):
        """Steps that mirror or pick from tensors whose sizes are open."""
        steps = [node for program in self.programs for node in program.graph.nodes if node.op == "call_method"]
        moved = [node for node in steps if node.target in ("flip", "index_select")]
        return [node for node in moved if any(isinstance(n, torch.SymInt) for n in node.meta["example_value"].shape)]


@pytest.mark.parametrize(("dynamic", "training"), [(None, True), (True, False)])
def test_a_network_is_compiled_twice_at_most_for_pictures_of_any_size(dynamic, training):
    network, counter = converted().train(training), CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(converted().train(training), fullgraph=True, dynamic=dynamic, backend=counter)
    for turn, sizes in enumerate(SIZES):
        x = pictures(3, sizes, last=turn % 2 == 0 and dynamic is None)
        found = {key.replace("_orig_mod.", ""): value for key, value in backward(compiled, x).items()}
        torch.testing.assert_close(found, backward(network, x), rtol=1e-4, atol=1e-4)
    assert counter.frame_count <= 2 + 2 * (dynamic is None)


def test_no_more_is_guarded_of_sizes_than_by_an_ordinary_network():
    guards = []
    for network in (Net(), converted()):
        torch._dynamo.reset()
        seen = Seen()
        with torch.no_grad():
            torch.compile(network.eval(), fullgraph=True, dynamic=True, backend=seen)(pictures(3, (32, 40)))
        guards.append(seen.guards)
        assert seen.mirrored_pictures() == []
    assert len(guards[1]) == 1
    assert guards[1][0] <= guards[0][0]


def test_the_default_compiler_takes_it_whole_and_it_learns_alike():
    compile_fx = importlib.import_module("torch._inductor.compile_fx").compile_fx  # not earlier: it warns
    network, seen = converted(), Seen(compile_fx)
    compiled = torch.compile(converted(), fullgraph=True, dynamic=True, backend=seen)
    for sizes in SIZES[:3]:
        x = pictures(3, sizes)
        found = {key.replace("_orig_mod.", ""): value for key, value in backward(compiled, x).items()}
        torch.testing.assert_close(found, backward(network, x), rtol=1e-4, atol=1e-4)
    assert len(seen.programs) <= 2  # once more where compilers begin again
    assert seen.mirrored_pictures() == []


def test_where_sizes_are_known_nothing_is_hidden_from_compilers():
    seen = Seen()
    compiled = torch.compile(converted().eval(), fullgraph=True, dynamic=False, backend=seen)
    with torch.no_grad():
        compiled(pictures(3, (32, 40)))
        compiled(pictures(3, (33, 41)))
    assert len(seen.programs) == 2
    assert not any(name in str(program.graph) for program in seen.programs for name in OWN)


@pytest.mark.parametrize("strict", [False, True])
def test_exported_programs_hold_none_of_it_and_take_any_size(strict):
    network = converted().eval()
    sizes = dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC)
    program = torch.export.export(network, (pictures(3, (32, 40)),), dynamic_shapes=(sizes,), strict=strict)
    assert "symmetric_layers" not in str(program.graph)
    for seen in SIZES:
        x = pictures(3, seen)
        torch.testing.assert_close(program.module()(x), network(x), rtol=1e-4, atol=1e-4)


def test_pictures_without_a_batch_and_autocast_are_answered_alike():
    layer = mirrored_grid("deep")
    compiled = torch.compile(layer, fullgraph=True, dynamic=True, backend="aot_eager")
    pool = Mirrored(nn.AvgPool2d(2), {"hv": 8})
    pooled = torch.compile(pool, fullgraph=True, dynamic=True, backend="aot_eager")
    for sizes in SIZES[:3]:
        x = pictures(8, sizes)
        torch.testing.assert_close(compiled(x[0]), layer(x[0]))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found, expected = compiled(x), layer(x)
            assert pooled(x).dtype == pool(x).dtype
        assert found.dtype == expected.dtype == torch.bfloat16
        torch.testing.assert_close(found, expected, rtol=2e-2, atol=2e-2)


def test_a_filter_that_does_not_fit_is_refused_as_by_the_host():
    for algorithm in ("reference", "auto"):
        layer = SymmetricConv2d(3, 8, 5, 2, symmetry={"hv": 8}, grid="mirrored", algorithm=algorithm)
        torch._dynamo.reset()
        compiled = torch.compile(layer, fullgraph=True, dynamic=True, backend="aot_eager")
        compiled(pictures(3, (12, 9)))
        with pytest.raises(RuntimeError, match="Kernel size can't be greater than actual input size"):
            compiled(pictures(3, (12, 4)))


# --- Operators --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lifting", "groups", "depthwise", "a shortcut"])
def test_operators_of_the_host_keep_what_pytorch_asks_of_them(name):
    layer = mirrored_grid(name)
    how = [counts(layer.plan), grouped(layer.plan), list(layer.stride), list(layer.padding), list(layer.dilation)]
    check(opaque_host.TRIO, layer, layer.full_weight(), how)


def test_operators_of_the_fused_kernel_keep_what_pytorch_asks_of_them():
    layer = mirrored_grid("deep")
    how = [spoken(layer.plan), spoken(layer.plan.inputs)]
    check(operators.FOR_ANY_SIZE, layer, layer.weight, [*how, [2, 2], [1, 1], [1, 1]])


def check(trio, layer, weight, how):
    x, weight = pictures(layer.in_channels, (8, 9)).requires_grad_(), weight.detach().requires_grad_()
    gradient = torch.randn_like(trio.answer(x, weight, None, *how)).requires_grad_()
    torch.library.opcheck(trio.answer.op, (x, weight, None, *how))
    torch.library.opcheck(trio.input_gradient.op, (gradient, weight, [8, 9], *how))
    torch.library.opcheck(trio.weight_gradient.op, (gradient, x, list(weight.shape[2:]), *how))


@pytest.mark.parametrize("is_mean", [False, True])
def test_operators_of_pools_keep_what_pytorch_asks_of_them(is_mean):
    x = pictures(4, (8, 9)).requires_grad_()
    how = [[2, 2], [2, 2], [0, 0], [1, 1], is_mean, False, [1, 0] if is_mean else [], [3, 4]]
    torch.library.opcheck(opaque_pools._pool, (x, *how))
    torch.library.opcheck(opaque_pools._pool_gradient, (torch.randn(2, 4, 4, 4), x.detach(), *how))


@pytest.mark.parametrize("name", ["lifting", "groups", "depthwise"])
def test_operators_of_the_host_are_differentiated_to_any_order(name):
    layer = mirrored_grid(name)
    bank, inputs = counts(layer.plan), grouped(layer.plan)
    x = pictures(layer.in_channels, (5, 6)).double().requires_grad_()
    weight = layer.full_weight().detach().double().requires_grad_()

    def answer(x, weight):
        return opaque_host.TRIO.answer(x, weight, None, bank, inputs, layer.stride, layer.padding, layer.dilation)

    torch.autograd.gradcheck(answer, (x, weight), fast_mode=True)
    torch.autograd.gradgradcheck(answer, (x, weight), fast_mode=True)
