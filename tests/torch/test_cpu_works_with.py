"""The fused kernel beside the rest of PyTorch: compilers, exporters, threads, forks, other numbers, no kernel."""

import copy
import multiprocessing
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from test_cpu import LAST, agrees, last
from test_folded import filled, same_bits
from torch import nn
from torch.utils.data import DataLoader, Dataset

import symmetric_layers.torch as layers
from symmetric_layers import SymmetryError
from symmetric_layers.torch.kernels import ALGORITHMS, library, operators
from symmetric_layers.torch.kernels.bank import spoken

COMPILED = pytest.mark.skipif(library.missing() is not None, reason=f"{library.missing()}")
FOLDED = "'folded' is not: folding in PyTorch operations is bound by memory."
pytestmark = [
    # third parties: compilers look for their own deprecated helpers
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch"),
    pytest.mark.filterwarnings("ignore::FutureWarning:torch"),
]

NAMES = {
    "lifting": (2, (3, 18, 3), {"symmetry": {"h": 4, "hv": 12}, "padding": 1}),
    "deep": (2, (8, 16, 3), {"symmetry": {"hv": 16}, "in_symmetry": {"hv": 8}, "padding": 1}),
    "strided": (2, (8, 16, 3), {"symmetry": {"hv": 16}, "in_symmetry": {"hv": 8}, "stride": 2, "grid": "mirrored"}),
    "line": (1, (4, 10, 5), {"symmetry": {"h": 8}, "dilation": 2}),
    "volume": (3, (8, 16, 3), {"symmetry": {"hvz": 16}, "in_symmetry": {"hvz": 8}, "padding": 1}),
}
EACH = pytest.mark.parametrize("name", NAMES)


def layer_of(name, algorithm="cpu", **more):
    rank, arguments, options = NAMES[name]
    return filled(getattr(layers, f"SymmetricConv{rank}d")(*arguments, **options, **more, algorithm=algorithm))


def picture_of(name, pictures=3):
    rank, (channels, *_), _ = NAMES[name]
    return torch.randn(pictures, channels, *(6, 10, 11)[-rank:], generator=torch.Generator().manual_seed(1))


def wide():
    """A layer and a picture large enough for several tiles per thread."""
    layer = filled(layers.SymmetricConv2d(16, 64, 3, padding=1, symmetry={"hv": 64}, algorithm="cpu"))
    return layer, torch.randn(4, 16, 40, 37, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def threads():
    """Sets the number of threads; afterwards it is as before."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture
def _forget_what_was_compiled():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def gradients(layer, x):
    """The answer, and the gradients of the picture and of all that is stored."""
    x = x.detach().requires_grad_()
    y = layer(x)
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(2))
    gradient = torch.empty_like(y).copy_(weights)  # in the memory format of the answer
    return (y, *torch.autograd.grad(y, [x, *layer.parameters()], gradient))


# --- Operators, compilers, exporters ----------------------------------------------------------------------------------


@COMPILED
@EACH
def test_operators_keep_what_pytorch_asks_of_them(name):
    layer, x = layer_of(name), picture_of(name)
    x = (last(x) if name in ("deep", "volume") else x).requires_grad_()
    plan, rank = layer.plan, NAMES[name][0]
    bank, inputs = spoken(plan), spoken(plan.inputs) if plan.inputs else []
    geometry = [bank, inputs, list(layer.stride), list(layer.padding), list(layer.dilation)]
    weight = layer.weight.detach().requires_grad_()
    bias = None if name == "strided" else layer.bias.detach().requires_grad_()
    gradient = torch.randn_like(operators.answer(x, weight, bias, *geometry)).requires_grad_()
    torch.library.opcheck(operators.answer.op, (x, weight, bias, *geometry))
    torch.library.opcheck(operators.input_gradient.op, (gradient, weight, list(x.shape[-rank:]), *geometry))
    torch.library.opcheck(operators.weight_gradient.op, (gradient, x, list(weight.shape[2:]), *geometry))


@COMPILED
@pytest.mark.usefixtures("_forget_what_was_compiled")
@pytest.mark.parametrize("dynamic", [None, True])
@EACH
def test_a_compiled_layer_answers_and_learns_alike(name, dynamic):
    layer, x = layer_of(name), picture_of(name)
    compiled = torch.compile(copy.deepcopy(layer), fullgraph=True, dynamic=dynamic, backend="aot_eager")
    for seen in (x, last(x)):
        torch.testing.assert_close(gradients(compiled, seen), gradients(layer, seen))


@COMPILED
@pytest.mark.usefixtures("_forget_what_was_compiled")
def test_the_default_compiler_takes_the_kernel_whole():
    net = nn.Sequential(layer_of("deep"), nn.ReLU(), layers.OrbitPool({"hv": 16}))
    x = picture_of("deep")
    compiled = torch.compile(copy.deepcopy(net), fullgraph=True)
    for seen in (x, last(x)):
        torch.testing.assert_close(gradients(compiled, seen), gradients(net, seen))


@COMPILED
@EACH
def test_an_exported_layer_answers_alike_and_holds_the_operator(name):
    layer, x = layer_of(name), picture_of(name)
    program = torch.export.export(layer, (x,))
    assert "symmetric_layers.answer" in str(program.graph)
    assert torch.equal(program.module()(x), layer(x))


@COMPILED
def test_an_exported_layer_holds_no_operator_that_was_not_asked_for():
    layer, x = wide()
    layer.algorithm = "auto"
    assert layers.why_not(layer, x) == "'cpu' is taken."
    program = torch.export.export(layer, (x,))
    assert "symmetric_layers" not in str(program.graph)
    torch.testing.assert_close(program.module()(x), layer(x), rtol=1e-4, atol=1e-4)


@COMPILED
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


# --- Threads and processes --------------------------------------------------------------------------------------------


@COMPILED
def test_answers_are_the_same_bits_for_any_number_of_threads(threads):
    layer, x = wide()
    for seen in (x, last(x)):
        answers = []
        for number in (1, 2, 3):
            threads(number)
            answers.append(gradients(layer, seen)[:2])
        for y, of_picture in answers[1:]:
            assert same_bits(y, answers[0][0])
            assert same_bits(of_picture, answers[0][1])


@COMPILED
@pytest.mark.parametrize("number", [1, 2, 3])
def test_gradients_are_the_same_bits_from_run_to_run(threads, number):
    threads(number)
    layer, x = wide()
    for seen in (x, last(x)):
        once = gradients(layer, seen)
        for _ in range(5):
            assert all(same_bits(*pair) for pair in zip(once, gradients(layer, seen), strict=True))


@COMPILED
def test_several_python_threads_may_call_one_layer_at_once(threads):
    threads(2)
    layer, x = wide()
    pictures = [x[:n, :, : 40 - 3 * n].clone() for n in (1, 2, 3, 4)] * 3
    expected = [gradients(layer, one) for one in pictures]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda one: gradients(layer, one), pictures))
    for ours, theirs in zip(found, expected, strict=True):
        assert all(same_bits(*pair) for pair in zip(ours, theirs, strict=True))


def send_answer(layer, x, pipe):
    with torch.no_grad():
        pipe.send(layer(x).numpy().tobytes())


@COMPILED
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_process_answers_alike(threads):
    threads(2)
    layer, x = wide()
    expected = layer(x).detach().numpy().tobytes()
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=send_answer, args=(layer, x, theirs))
    process.start()
    try:
        assert ours.poll(30), "the forked process hangs"
        assert ours.recv() == expected
    finally:
        process.kill()
        process.join()
    assert layer(x).detach().numpy().tobytes() == expected


class Answers(Dataset):
    """A data set that calls a layer."""

    def __init__(self, layer, x):
        self.layer, self.x = layer, x

    def __len__(self):
        return len(self.x)

    @torch.no_grad()
    def __getitem__(self, index):
        return self.layer(self.x[index])


@COMPILED
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:This DataLoader will create 2 worker processes:UserWarning")
def test_a_data_sets_workers_answer_alike(threads):
    threads(2)
    layer, x = wide()
    expected = layer(x).detach()
    loader = DataLoader(Answers(layer, x), batch_size=2, num_workers=2, timeout=30, multiprocessing_context="fork")
    assert same_bits(torch.cat(list(loader)), expected)


# --- Formats and numbers ----------------------------------------------------------------------------------------------


@COMPILED
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("name", ["lifting", "deep", "strided", "volume"])
def test_answers_and_gradients_have_the_memory_format_of_the_host(name, turned):
    layer, x = layer_of(name), picture_of(name)
    x = last(x) if turned else x
    host = getattr(nn, f"Conv{NAMES[name][0]}d")(
        layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding
    )
    ours, theirs = gradients(layer, x), gradients(host, x)
    for mine, its in zip(ours[:2], theirs[:2], strict=True):
        for wanted in (torch.contiguous_format, LAST[x.dim()]):
            assert mine.is_contiguous(memory_format=wanted) is its.is_contiguous(memory_format=wanted)


def refusal(clause):
    return (
        f"algorithm: 'cpu' cannot answer this: {clause}. Expected an algorithm that can. "
        "Use 'auto', which chooses among those that can."
    )


def refused_and_left_to_the_reference(clause, layer, x):
    """Asked for, the kernel refuses; 'auto' takes the reference, and both can be asked why."""
    layer.algorithm = "cpu"
    with pytest.raises(SymmetryError) as error:
        layer(x)
    assert str(error.value) == refusal(clause)
    assert layers.why_not(layer, x) == f"'cpu' is refused: {clause}."
    layer.algorithm = "auto"
    assert layers.why_not(layer, x) == f"'reference' is taken.\n'cpu' is not: {clause}.\n{FOLDED}"
    y = layer(x)
    layer.algorithm = "reference"
    assert torch.equal(y, layer(x))


@COMPILED
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@EACH
def test_other_numbers_are_left_to_the_reference(name, dtype):
    layer, x = layer_of(name).to(dtype), picture_of(name).to(dtype)
    clause = f"the input has dtype {dtype}; it computes in torch.float32 only"
    refused_and_left_to_the_reference(clause, layer, x)


@COMPILED
@EACH
def test_autocast_is_left_to_the_reference(name):
    with torch.autocast("cpu", torch.bfloat16):
        clause = "autocast computes in torch.bfloat16; it computes in torch.float32 only"
        refused_and_left_to_the_reference(clause, layer_of(name), picture_of(name))


@COMPILED
def test_function_transforms_are_left_to_the_reference():
    layer, x = layer_of("deep"), picture_of("deep")
    expected = layer(x)
    sentence = refusal("torch.func transforms it; it knows backward() and torch.autograd only")
    transforms = {
        "vmap": lambda: torch.vmap(layer)(x),
        "grad": lambda: torch.func.grad(lambda x: layer(x).sum())(x),
        "jvp": lambda: torch.func.jvp(layer, (x,), (x,))[0],
        "functional_call": lambda: torch.func.vjp(lambda w: torch.func.functional_call(layer, w, (x,)), {**stored})[0],
    }
    stored = {key: value.detach() for key, value in layer.named_parameters()}
    for name, transform in transforms.items():
        layer.algorithm = "cpu"
        with pytest.raises(SymmetryError) as error:
            transform()
        assert str(error.value) == sentence, name
        layer.algorithm = "auto"
        answer = transform()
        if name != "grad":
            torch.testing.assert_close(answer, expected, rtol=1e-4, atol=1e-4)


@COMPILED
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_forward_derivatives_are_left_to_the_reference():
    layer, x = layer_of("deep"), picture_of("deep")
    with torch.no_grad(), torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, x)
        with pytest.raises(SymmetryError) as error:
            layer(dual)
        assert str(error.value) == refusal("forward-mode differentiation; it differentiates backwards only")
        layer.algorithm = "auto"
        moved = torch.autograd.forward_ad.unpack_dual(layer(dual)).tangent
    layer.algorithm = "reference"
    torch.testing.assert_close(moved, layer(x) - layer.full_bias()[:, None, None], rtol=1e-4, atol=1e-4)


# --- Without a compiler; what is stored -------------------------------------------------------------------------------


@EACH
def test_without_a_compiled_kernel_the_reference_answers(name, monkeypatch):
    monkeypatch.setattr(library, "instruction_sets", lambda: ())
    clause = "the package was installed without its compiled kernel (a C++ compiler was missing)"
    refused_and_left_to_the_reference(clause, layer_of(name), picture_of(name))
    gradients(layer_of(name, "auto"), picture_of(name))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_same_is_stored_for_every_algorithm(algorithm):
    state = layer_of("deep", algorithm).state_dict()
    assert {key: value.shape for key, value in state.items()} == {"weight": (4, 8, 3, 3), "bias": (4,)}


@COMPILED
@pytest.mark.parametrize("again", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_a_copy_keeps_the_choice_and_answers_alike(again):
    layer, x = layer_of("deep"), picture_of("deep")
    twin = again(layer)
    assert twin.algorithm == "cpu"
    assert same_bits(twin(x), layer(x))
    agrees(twin, x)
