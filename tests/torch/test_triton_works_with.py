"""The kernels for GPUs beside the rest of PyTorch: compilers, exporters, autocast, other numbers, no Triton."""

import copy
import importlib
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from test_cpu import LAST
from test_folded import filled
from test_triton import DEVICE, HERE, last, random, same_bits
from torch import nn

import symmetric_layers.torch as layers
from symmetric_layers import SymmetryError
from symmetric_layers.torch.kernels import ALGORITHMS

pytestmark = [
    # third parties: compilers look for their own deprecated helpers
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch"),
    pytest.mark.filterwarnings("ignore::FutureWarning:torch"),
]

NAMES = {
    "lifting": (2, (3, 11, 3), {"symmetry": {"h": 2, "hv": 8}, "padding": 1}),
    "deep": (2, (8, 8, (1, 3)), {"symmetry": {"hv": 8}, "in_symmetry": {"hv": 8}, "padding": (0, 1)}),
    "strided": (2, (4, 6, 3), {"symmetry": {"h": 6}, "in_symmetry": {"h": 4}, "stride": 2, "grid": "mirrored"}),
    "line": (1, (4, 10, 5), {"symmetry": {"h": 8}, "dilation": 2}),
}
EACH = pytest.mark.parametrize("name", NAMES)


def layer_of(name, algorithm="triton", **more):
    rank, arguments, options = NAMES[name]
    build = getattr(layers, f"SymmetricConv{rank}d")
    return filled(build(*arguments, **options, **more, algorithm=algorithm)).to(DEVICE)


def picture_of(name, pictures=2):
    rank, (channels, *_), _ = NAMES[name]
    return random(pictures, channels, *(6, 10, 11)[-rank:])


def kernels():
    """What needs Triton to be imported."""
    return importlib.import_module("symmetric_layers.torch.kernels.triton.operators").TRIO


@pytest.fixture(autouse=True)
def _in_float32():
    before, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
    yield
    torch.backends.cudnn.allow_tf32 = before


@pytest.fixture
def _forget_what_was_compiled():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def gradients(layer, x):
    """The answer, and the gradients of the picture and of all that is stored."""
    x = x.detach().requires_grad_()
    y = layer(x)
    gradient = torch.empty_like(y).copy_(random(*y.shape, seed=2))  # in the memory format of the answer
    return (y, *torch.autograd.grad(y, [x, *layer.parameters()], gradient))


# --- Operators, compilers, exporters ----------------------------------------------------------------------------------


@HERE
@pytest.mark.parametrize("name", ["deep", "strided"])
def test_operators_keep_what_pytorch_asks_of_them(name):
    from symmetric_layers.torch.kernels.bank import spoken

    layer, x, trio = layer_of(name), picture_of(name), kernels()
    x = (last(x) if name == "deep" else x).requires_grad_()
    bank, inputs = spoken(layer.plan), spoken(layer.plan.inputs) if layer.plan.inputs else []
    geometry = [bank, inputs, list(layer.stride), list(layer.padding), list(layer.dilation)]
    weight = layer.weight.detach().requires_grad_()
    bias = None if name == "strided" else layer.bias.detach().requires_grad_()
    gradient = torch.randn_like(trio.answer.op(x, weight, bias, *geometry)).requires_grad_()
    torch.library.opcheck(trio.answer.op, (x, weight, bias, *geometry))
    torch.library.opcheck(trio.input_gradient.op, (gradient, weight, list(x.shape[2:]), *geometry))
    torch.library.opcheck(trio.weight_gradient.op, (gradient, x, list(weight.shape[2:]), *geometry))


@HERE
@pytest.mark.usefixtures("_forget_what_was_compiled")
@pytest.mark.parametrize(
    ("name", "dynamic"), [("lifting", True), ("deep", None), ("deep", True), ("strided", True), ("line", None)]
)
def test_a_compiled_layer_answers_and_learns_alike(name, dynamic):
    layer, x = layer_of(name), picture_of(name)
    compiled = torch.compile(copy.deepcopy(layer), fullgraph=True, dynamic=dynamic, backend="aot_eager")
    torch.testing.assert_close(gradients(compiled, x), gradients(layer, x))
    torch.testing.assert_close(compiled(last(x)), layer(last(x)))


@HERE
@EACH
def test_an_exported_layer_answers_alike_and_holds_the_operator(name):
    layer, x = layer_of(name), picture_of(name)
    program = torch.export.export(layer, (x,))
    assert "symmetric_layers.triton_answer" in str(program.graph)
    assert torch.equal(program.module()(x), layer(x))


@HERE
@EACH
def test_second_derivatives_are_the_references(name):
    def derivatives(layer, x):
        y = layer(x)
        first = torch.autograd.grad(y.pow(2).sum(), [x, layer.weight], create_graph=True)
        return torch.autograd.grad(sum(one.pow(2).sum() for one in first), [x, *layer.parameters()])

    x, layer = picture_of(name), layer_of(name)
    ours = derivatives(layer, x.requires_grad_())
    theirs = derivatives(layer_of(name, "reference").double(), x.detach().double().requires_grad_())
    for mine, exact in zip(ours, theirs, strict=True):
        assert (mine - exact).abs().max() <= 1e-5 * exact.abs().max()


@HERE
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@EACH
def test_autocast_computes_in_its_own_numbers(name, dtype):
    layer, x = layer_of(name), picture_of(name)
    lower = copy.deepcopy(layer).to(dtype)
    with torch.autocast(DEVICE, dtype):
        y = layer(x)
        assert layers.why_not(layer, x) == "'triton' is taken, as the layer says."
    assert y.dtype == dtype
    assert same_bits(y, lower(x.to(dtype)))
    y.float().sum().backward()
    assert {parameter.grad.dtype for parameter in layer.parameters()} == {torch.float32}


@HERE
@pytest.mark.usefixtures("_forget_what_was_compiled")
def test_a_compiled_network_answers_alike_under_autocast():
    net = nn.Sequential(layer_of("lifting"), nn.ReLU(), layers.OrbitPool({"h": 2, "hv": 8}))
    compiled, x = torch.compile(copy.deepcopy(net), fullgraph=True, backend="aot_eager"), picture_of("lifting")
    with torch.autocast(DEVICE, torch.bfloat16):
        assert same_bits(compiled(x), net(x))


@HERE
@pytest.mark.parametrize(("allowed", "expected"), [(True, "tf32"), (False, "tf32x3")])
def test_float32_is_multiplied_as_the_host_is_allowed_to(allowed, expected):
    launch = importlib.import_module("symmetric_layers.torch.kernels.triton.launch")
    torch.backends.cudnn.allow_tf32 = allowed
    assert launch.precision(torch.float32) == expected
    assert launch.precision(torch.bfloat16) == "ieee"


@HERE
def test_several_python_threads_may_call_one_layer_at_once():
    layer = layer_of("deep")
    pictures = [picture_of("deep", n) for n in (1, 2, 3)] * 2
    expected = [gradients(layer, x) for x in pictures]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda x: gradients(layer, x), pictures))
    for ours, theirs in zip(found, expected, strict=True):
        assert all(same_bits(*pair) for pair in zip(ours, theirs, strict=True))


@HERE
@pytest.mark.skipif(DEVICE == "cpu", reason="No GPU here: there are no streams and no graphs to capture")
def test_other_streams_and_graphs_answer_alike():
    layer, x = layer_of("deep"), picture_of("deep")
    expected, stream = layer(x).detach(), torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        beside = layer(x).detach()
    torch.cuda.current_stream().wait_stream(stream)
    assert same_bits(beside, expected)
    graph = torch.cuda.CUDAGraph()
    with torch.no_grad(), torch.cuda.graph(graph):
        captured = layer(x)
    graph.replay()
    assert same_bits(captured, expected)


# --- Memory -----------------------------------------------------------------------------------------------------------


@HERE
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("name", ["lifting", "deep", "strided"])
def test_answers_and_gradients_have_the_memory_format_of_the_host(name, turned):
    layer, x = layer_of(name), picture_of(name)
    x = last(x) if turned else x
    host = nn.Conv2d(layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding).to(DEVICE)
    for mine, its in zip(gradients(layer, x)[:2], gradients(host, x)[:2], strict=True):
        for wanted in (torch.contiguous_format, LAST[4]):
            assert mine.is_contiguous(memory_format=wanted) is its.is_contiguous(memory_format=wanted)


# --- Refusals; what is stored -----------------------------------------------------------------------------------------


def refusal(clause):
    return (
        f"algorithm: 'triton' cannot answer this: {clause}. Expected an algorithm that can. "
        "Use 'auto', which chooses among those that can."
    )


def refused(clause, layer, x):
    with pytest.raises(SymmetryError) as error:
        layer(x)
    assert str(error.value) == refusal(clause)
    assert layers.why_not(layer, x) == f"'triton' is refused: {clause}."


@HERE
def test_what_it_refuses():
    one = "it computes in float32, bfloat16 and float16 only"
    layer, x = layer_of("lifting"), picture_of("lifting")
    refused(f"the input has dtype torch.float64; {one}", layer, x.double())
    refused(
        "the weight has dtype torch.float32 and the input torch.bfloat16; it computes in one dtype only",
        layer, x.bfloat16(),
    )  # fmt: skip
    meta = copy.deepcopy(layer).to("meta")
    refused("the input is on 'meta'; it computes on 'cuda' only", meta, x.to("meta"))
    symmetry = {"h": 4}
    groups = layers.SymmetricConv2d(4, 4, 3, groups=2, symmetry=symmetry, algorithm="triton").to(DEVICE)
    refused("the layer has 2 groups; it computes one group only", groups, random(1, 4, 5, 5))
    free = layers.SymmetricConv2d(5, 4, 3, symmetry=symmetry, in_symmetry=symmetry, algorithm="triton").to(DEVICE)
    refused("some input channels are in no orbit; it exchanges orbits only", free, random(1, 5, 5, 5))
    beside = layers.SymmetricConv2d(
        1, 4, 3, symmetry=symmetry, stride=2, dilation=2, grid="mirrored", algorithm="triton"
    ).to(DEVICE)  # fmt: skip
    apart = "the mirrored grid lies 1 pixels off; with dilation 2 no single filter covers both"
    refused(apart, beside, random(1, 1, 8, 8))


@HERE
def test_function_transforms_are_refused():
    layer, x = layer_of("line"), picture_of("line")
    sentence = refusal("torch.func transforms it; it knows backward() and torch.autograd only")
    for transform in (lambda: torch.vmap(layer)(x), lambda: torch.func.grad(lambda x: layer(x).sum())(x)):
        with pytest.raises(SymmetryError) as error:
            transform()
        assert str(error.value) == sentence


@HERE
@pytest.mark.skipif(DEVICE == "cuda", reason="On a GPU they are not interpreted")
def test_on_processors_it_is_refused_unless_it_is_interpreted(monkeypatch):
    from symmetric_layers.torch.kernels import triton

    monkeypatch.setattr(triton, "interpreted", lambda: False)
    refused("the input is on 'cpu'; it computes on 'cuda' only", layer_of("lifting"), picture_of("lifting"))


def test_without_triton_it_says_so(monkeypatch):
    from symmetric_layers.torch.kernels import triton

    layer, x = layer_of("lifting"), picture_of("lifting")
    monkeypatch.setattr(triton, "find_spec", lambda name: None)
    triton._lacking.cache_clear()
    refused("Triton is not installed (`pip install triton`)", layer, x)
    monkeypatch.setattr(triton, "find_spec", lambda name: "found")
    monkeypatch.setattr(triton, "version", lambda name: "3.4.0")
    triton._lacking.cache_clear()
    refused("Triton 3.4.0 is installed; it needs 3.6 or newer", layer, x)
    triton._lacking.cache_clear()


def test_gpus_without_the_tensor_cores_are_refused(monkeypatch):
    from symmetric_layers.torch.kernels import triton

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    clause = "the GPU has compute capability 7.5; it needs 8.0 or newer"
    assert triton.too_old(torch.device("cuda")) == clause
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    assert triton.too_old(torch.device("cuda")) is None


def test_nothing_loads_the_kernels_before_they_are_asked_for():
    code = (
        "import sys, torch, symmetric_layers.torch as layers; "
        "layer = layers.SymmetricConv2d(1, 4, 3, symmetry={'hv': 4}); layer(torch.zeros(1, 1, 5, 5)); "
        "print([name for name in sys.modules if 'kernels.triton' in name])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_the_same_is_stored():
    assert ALGORITHMS[-1] == "triton"
    state = layer_of("deep").state_dict()
    assert {key: value.shape for key, value in state.items()} == {"weight": (2, 8, 1, 3), "bias": (2,)}


@HERE
@pytest.mark.parametrize("again", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_a_copy_keeps_the_choice_and_answers_alike(again):
    layer, x = layer_of("deep"), picture_of("deep")
    twin = again(layer)
    assert twin.algorithm == "triton"
    assert same_bits(twin(x), layer(x))
