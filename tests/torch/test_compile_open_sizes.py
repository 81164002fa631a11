"""Compiled for sizes that are left open, layers on the mirrored grid are compiled once, whatever strides leave over."""

import copy

import pytest
import torch
from functorch.compile import make_boxed_func
from torch import nn
from torch._dynamo.backends.common import aot_autograd
from torch._dynamo.testing import CompileCounterWithBackend
from torch._functorch.partitioners import min_cut_rematerialization_partition

from symmetric_layers.torch import (
    InvariantConv2d,
    Mirrored,
    OrbitBatchNorm2d,
    SymmetricConv1d,
    SymmetricConv2d,
    SymmetricConv3d,
)
from symmetric_layers.torch.kernels import library

pytestmark = [
    # third parties: compilers look for their own deprecated helpers
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch"),
    pytest.mark.filterwarnings("ignore::FutureWarning:torch"),
    pytest.mark.skipif(
        not hasattr(torch.fx.experimental.symbolic_shapes, "has_static_value"), reason="PyTorch 2.8 says what is open"
    ),
]

# all that strides of 2 and 3 leave over; of other ranks the last, or one more
SIZES = [(6, 9, 12), (7, 10, 13), (8, 11, 14), (9, 14, 11), (5, 13, 16), (6, 12, 17), (7, 15, 19)]
DEEP = {"in_symmetry": {"hv": 8}, "symmetry": {"hv": 8}}
LAYERS = {
    "lifting": lambda: SymmetricConv2d(3, 8, 3, 2, 1, symmetry={"h": 4, "hv": 4}),
    "deep": lambda: SymmetricConv2d(8, 8, 3, 2, 1, **DEEP),
    "a large stem": lambda: SymmetricConv2d(3, 8, 7, 2, 3, bias=False, symmetry={"hv": 8}),
    "patches": lambda: SymmetricConv2d(3, 8, (2, 3), (2, 3), symmetry={"hv": 8}),
    "a shortcut": lambda: SymmetricConv2d(8, 8, 1, 2, bias=False, **DEEP),
    "free filters": lambda: SymmetricConv2d(3, 6, 3, (1, 2), 1, symmetry={"h": 4}),
    "biases of their own": lambda: SymmetricConv2d(8, 8, 3, 2, 1, share_bias=False, **DEEP),
    "reflected": lambda: SymmetricConv2d(3, 8, 3, 2, 1, padding_mode="reflect", symmetry={"hv": 8}),
    "groups": lambda: SymmetricConv2d(8, 16, 3, 2, 1, groups=2, in_symmetry={"hv": 8}, symmetry={"hv": 16}),
    "depthwise": lambda: SymmetricConv2d(8, 8, 3, 2, 1, groups=8, **DEEP),
    "rows": lambda: SymmetricConv1d(3, 6, 4, 3, 1, symmetry={"h": 4}),
    "volumes": lambda: SymmetricConv3d(2, 16, 3, (1, 2, 3), 1, symmetry={"hvz": 8, "hz": 4}),
    "dilated": lambda: SymmetricConv2d(3, 8, 3, 3, 2, 2, symmetry={"h": 4, "v": 4}),
}
POOLS = {
    "largest": lambda: nn.MaxPool2d(3, 2, 1),
    "largest, ceil": lambda: nn.MaxPool2d(2, ceil_mode=True),
    "largest, dilated": lambda: nn.MaxPool2d(2, (2, 3), 1, (2, 1)),
    "mean": lambda: nn.AvgPool2d(3, 2, 1),
    "mean, ceil": lambda: nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False),
    "largest of rows": lambda: nn.MaxPool1d(3, 2, 1),
    "mean of rows": lambda: nn.AvgPool1d(3),
    "largest in volumes": lambda: nn.MaxPool3d(2, ceil_mode=True),
    "mean of volumes": lambda: nn.AvgPool3d((1, 2, 2), count_include_pad=False),
    "mean, divided": lambda: nn.AvgPool2d((2, 3), 3, divisor_override=5),
}
LAST = {1: torch.contiguous_format, 2: torch.channels_last, 3: torch.channels_last_3d}
COMPILED = pytest.mark.skipif(library.missing() is not None, reason="the kernel is not compiled")


@pytest.fixture(autouse=True)
def _forget_what_was_compiled():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def pictures(channels, sizes, last=False, dtype=torch.float32, batch=2):
    """Random pictures, of which many numbers are equal."""
    x = torch.randn(batch, channels, *sizes, generator=torch.Generator().manual_seed(sum(sizes))).relu().to(dtype)
    return x.to(memory_format=LAST[len(sizes)]) if last else x


def rank_of(layer):
    """The number of axes of the pictures that a layer or a pool takes."""
    return int(type(layer).__name__[-2])


def learnt(layer, x):
    """The answer, and the gradients of pictures and of all that is stored."""
    x = x.detach().requires_grad_()
    y = layer(x)
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(2)).to(y.dtype)
    gradient = torch.empty_like(y).copy_(weights)
    found = torch.autograd.grad(y, [x, *layer.parameters()], gradient)
    return (y.detach(), *found)


def agrees_at_all(layer, inputs, dynamic=True):
    """How often a layer is compiled for pictures that it answers as it does without; no graph is broken."""
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(copy.deepcopy(layer), fullgraph=True, dynamic=dynamic, backend=counter)
    for x in inputs:
        found = learnt(compiled, x)
        torch.testing.assert_close(found, learnt(layer, x))
        assert all(one.stride(1) == x.stride(1) for one in found[:2]) or x.stride(1) != 1  # channels-last stays so
    return counter.frame_count


def mirrored_grid(name, algorithm="auto"):
    """A layer, the same numbers every time."""
    torch.manual_seed(0)
    layer = LAYERS[name]()
    layer.grid, layer.algorithm = "mirrored", algorithm
    return layer


@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels last"])
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_is_compiled_once_for_all_that_strides_leave_over(name, last):
    layer = mirrored_grid(name, "reference").double()
    inputs = [pictures(layer.in_channels, sizes[-rank_of(layer) :], last, torch.float64) for sizes in SIZES]
    assert agrees_at_all(layer, inputs) <= 2


@COMPILED
@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels last"])
@pytest.mark.parametrize("name", ["lifting", "deep", "patches", "volumes", "biases of their own", "reflected"])
def test_so_is_one_with_the_fused_kernel(name, last):
    layer = mirrored_grid(name, "cpu")
    assert agrees_at_all(layer, [pictures(layer.in_channels, sizes[-rank_of(layer) :], last) for sizes in SIZES]) <= 2


@pytest.mark.parametrize("name", POOLS)
@pytest.mark.parametrize(
    ("last", "dtype"),
    [(False, torch.float32), (True, torch.float32), (False, torch.float64)],
    ids=["contiguous", "channels last", "doubles"],
)
def test_a_pool_is_compiled_once_for_all_that_strides_leave_over(name, last, dtype):
    pool = POOLS[name]()
    rank = rank_of(pool)
    inputs = [pictures(7, sizes[-rank:], last, dtype) for sizes in SIZES]
    pool = Mirrored(pool, {"h": 2, "hv": 4} if rank > 1 else {"h": 4})
    assert agrees_at_all(pool, inputs) <= 2


@pytest.mark.parametrize("kernel", [(3, 2, 1), (2, 2)])
def test_the_way_out_of_the_orbits_is_compiled_once(kernel):
    torch.manual_seed(0)
    layer = InvariantConv2d(8, 3, *kernel, in_symmetry={"hv": 8}).double()
    assert agrees_at_all(layer, [pictures(8, sizes[1:], dtype=torch.float64) for sizes in SIZES]) <= 2


@COMPILED
def test_where_compilers_do_not_say_what_is_open_all_is_as_it_was(monkeypatch):
    for module in ("grid", "frame"):
        monkeypatch.setattr(f"symmetric_layers.torch.kernels.{module}.told_by_compilers", lambda: None)
    layer = mirrored_grid("deep", "cpu")
    inputs = [pictures(8, sizes[1:]) for sizes in SIZES]
    assert agrees_at_all(layer, inputs) > 2
    layer.stride = (1, 1)
    assert agrees_at_all(layer, inputs[:4]) <= 2  # no size has become a number


@pytest.mark.parametrize("more", [{}, {"affine": False, "track_running_stats": False}], ids=["", "bare"])
def test_a_batch_norm_learns_and_remembers_the_same(more):
    torch.manual_seed(0)
    layer = OrbitBatchNorm2d(8, symmetry={"h": 2, "hv": 4}, **more).double()
    compiled = torch.compile(copy.deepcopy(layer), fullgraph=True, dynamic=True, backend="aot_eager")
    for sizes in ((9, 12), (6, 5)):
        x = pictures(8, sizes, dtype=torch.float64, batch=3)
        for found, expected in zip(learnt(compiled, x), learnt(layer, x), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    found, expected = compiled.state_dict(), layer.state_dict()
    for name, values in expected.items():
        torch.testing.assert_close(found[f"_orig_mod.{name}"], values, rtol=1e-12, atol=1e-12)


def test_of_a_batch_norm_nothing_is_kept_that_compilers_cannot_lay_out():
    """They do not sort the strides of a view whose sizes are left open."""
    kept = []

    def look(graph, inputs):
        kept.extend(graph.graph.find_nodes(op="output")[0].all_input_nodes)
        return make_boxed_func(graph)

    backend = aot_autograd(
        fw_compiler=look,
        bw_compiler=lambda graph, _: make_boxed_func(graph),
        partition_fn=min_cut_rematerialization_partition,
    )
    layer = nn.Sequential(OrbitBatchNorm2d(8, symmetry={"h": 8}), nn.ReLU(inplace=True), nn.Conv2d(8, 2, 3))
    learnt(torch.compile(layer, fullgraph=True, dynamic=True, backend=backend), pictures(8, (9, 12)))
    large = [node for node in kept if isinstance(node.meta.get("val"), torch.Tensor) and node.meta["val"].dim() == 4]
    assert [node.target for node in large if "view" in str(node.target) or "reshape" in str(node.target)] == []
    assert any("relu" in str(node.target) for node in large)
