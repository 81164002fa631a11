"""Converted networks are networks: compiled, exported, mapped, copied and trained like any other."""

import copy
import pickle
import warnings

import onnx
import onnxruntime
import pytest
import torch
from cases_torch import backward
from networks_torch import CONVERTED, RESIDUAL, Converted
from torch import nn
from torch.autograd import gradgradcheck
from torch.export import Dim
from torch.func import functional_call, grad, jvp, stack_module_state, vmap

from symmetric_layers.torch import desymmetrize, equivariant

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from monai.networks.nets import UNet

pytestmark = [
    # third parties: compilers and exporters warn of helpers that PyTorch itself and MONAI still use
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`:UserWarning"),
    # which dynamo looks for, and hides from everybody but pytest
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"),
]
NETWORKS = [*CONVERTED, Converted("MONAI", lambda: UNet(2, 1, 2, (8, 16), (2,), num_res_units=1), (3, 1, 8, 12))]
of_each = pytest.mark.parametrize("case", NETWORKS, ids=lambda case: case.name)


@of_each
def test_it_is_compiled_whole_and_learns_alike(case, tolerance):
    torch._dynamo.reset()
    compiled = torch.compile(case.network().train(), fullgraph=True, backend="aot_eager")
    expected = backward(case.network().train(), case.input())
    found = {key.replace("_orig_mod.", ""): value for key, value in backward(compiled, case.input()).items()}
    # compilers choose algorithms without knowing sizes, so sums have another order
    torch.testing.assert_close(found, expected, rtol=tolerance["float32"], atol=tolerance["float32"])
    torch._dynamo.reset()


@of_each
def test_it_is_exported_to_files_for_any_batch(case, tmp_path):
    network = case.network()
    batch = ({0: Dim("batch", min=2)},)
    program = torch.export.export(network, (case.input(),), dynamic_shapes=batch, strict=False)
    assert program.state_dict.keys() == network.state_dict().keys()
    torch.export.save(program, tmp_path / "network.pt2")
    loaded = torch.export.load(tmp_path / "network.pt2").module()
    torch.onnx.export(program, (case.input(),), dynamo=True, verbose=False).save(tmp_path / "network.onnx")
    onnx.checker.check_model(tmp_path / "network.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "network.onnx", providers=["CPUExecutionProvider"])
    (argument,) = session.get_inputs()
    for size in (2, 5):
        x = case.input(size)
        expected = network(x).detach()
        torch.testing.assert_close(loaded(x).detach(), expected)
        (answer,) = session.run(None, {argument.name: x.numpy()})
        torch.testing.assert_close(torch.from_numpy(answer), expected, rtol=1e-4, atol=1e-5)


def strided():
    """A converted network with strides everywhere, on grids that fit at some sizes only."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 7, 2, 3), nn.MaxPool2d(3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1), nn.Upsample(scale_factor=1.5),
        nn.ConvTranspose2d(8, 8, 3, 2, 1, 1), nn.Conv2d(8, 2, 3, 2, 1),
    )  # fmt: skip
    return equivariant(net, "hv", example=torch.randn(1, 3, 32, 40)).eval()


def test_it_is_exported_for_pictures_of_any_size():
    network = strided()
    sizes = {2: Dim("height", min=16, max=128), 3: Dim("width", min=16, max=128)}
    program = torch.export.export(network, (torch.randn(2, 3, 33, 40),), dynamic_shapes=(sizes,)).module()
    for height, width in ((33, 40), (32, 41), (50, 51), (64, 47)):
        x = torch.randn(2, 3, height, width)
        torch.testing.assert_close(program(x), network(x), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:torch.tensor results are registered as constants")  # which these are
@pytest.mark.parametrize("kernel", [(4, 4), (4, 2, 1), (3, 2, 1)])
def test_a_trace_answers_pictures_of_other_sizes(kernel):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 16, *kernel), nn.ReLU(), nn.Conv2d(16, 4, 1))
    for size in (16, 17):
        network = equivariant(net, "hv", example=torch.randn(1, 3, 16, 16)).eval()
        traced = torch.jit.trace(network, torch.randn(1, 3, size, size), check_trace=False)
        for other in (16, 17, 18, 21):
            x = torch.randn(1, 3, other, other)
            torch.testing.assert_close(traced(x), network(x), rtol=1e-4, atol=1e-5)
        assert "symmetric_layers::" not in str(traced.inlined_graph)


@pytest.mark.filterwarnings("ignore:torch.tensor results are registered as constants")  # which these are
@pytest.mark.filterwarnings("ignore:Constant folding")
def test_the_older_exporter_of_onnx_writes_it_without_this_package(tmp_path):
    network, x = strided(), torch.randn(2, 3, 33, 40)
    torch.onnx.export(network, (x,), tmp_path / "network.onnx", dynamo=False)
    session = onnxruntime.InferenceSession(tmp_path / "network.onnx", providers=["CPUExecutionProvider"])
    (answer,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(answer), network(x).detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:While compiling, we found certain side effects:UserWarning")  # undone at the end
def test_it_is_exported_strictly():
    network = RESIDUAL.network()
    program = torch.export.export(network, (RESIDUAL.input(),), strict=True)
    torch.testing.assert_close(program.module()(RESIDUAL.input()), network(RESIDUAL.input()))


@of_each
def test_it_trains_under_autocast(case):
    exact = backward(case.network(), case.input())
    with torch.autocast("cpu", torch.bfloat16):
        rounded = backward(case.network(), case.input())
    assert rounded["output"].dtype is torch.bfloat16
    assert {value.dtype for key, value in rounded.items() if key.startswith("gradient")} == {torch.float32}
    assert (rounded["output"].float() - exact["output"]).norm() <= 0.03 * exact["output"].norm()
    whole = [torch.cat([v.flatten() for k, v in found.items() if k[:8] == "gradient"]) for found in (exact, rounded)]
    assert (whole[0] - whole[1]).norm() <= 0.1 * whole[0].norm()


@of_each
@pytest.mark.parametrize("again", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["copy", "pickle"])
def test_a_copy_answers_alike_and_shares_no_memory(case, again):
    network = case.network()
    twin = again(network)
    torch.testing.assert_close(twin(case.input()), network(case.input()), rtol=0, atol=0)
    places = {value.data_ptr() for value in network.state_dict().values()}
    assert not places & {value.data_ptr() for value in twin.state_dict().values()}


@of_each
def test_a_checkpoint_is_read_by_whatever_became_of_the_network(case, tmp_path):
    network, x = case.network(), case.input()
    torch._dynamo.reset()
    compiled = torch.compile(case.network(seed=4), fullgraph=True, backend="eager")
    exported = torch.export.export(case.network(seed=5), (x,), strict=False).module()
    torch.save(network.state_dict(), tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert not torch.allclose(compiled(x), network(x))
    for other in (compiled._orig_mod, exported, case.network(seed=6)):
        other.load_state_dict(state)
        torch.testing.assert_close(other(x), network(x))
    torch.testing.assert_close(compiled(x), network(x))
    again = case.network(seed=7)
    again.load_state_dict({key: value for key, value in exported.state_dict().items() if key in state})
    torch.testing.assert_close(again(x), network(x))
    torch._dynamo.reset()


@of_each
def test_functions_of_it_are_mapped_and_differentiated(case):
    network, x = case.network(dtype=torch.float64), case.input(dtype=torch.float64)
    stored = {key: value.detach() for key, value in network.named_parameters()}

    def loss(stored, x):
        return functional_call(network, stored, (x,)).pow(2).mean(-1).sum()

    stack = torch.stack([x, x.flip(0)])
    torch.testing.assert_close(vmap(network)(stack), torch.stack([network(one) for one in stack]))
    gradient = grad(loss)(stored, x)
    loss(dict(network.named_parameters()), x).backward()
    torch.testing.assert_close(gradient, {key: value.grad for key, value in network.named_parameters()})
    single = vmap(grad(loss), in_dims=(None, 0))(stored, x.unsqueeze(1))
    torch.testing.assert_close({key: value.sum(0) for key, value in single.items()}, gradient)
    _, slope = jvp(lambda stored: loss(stored, x), (stored,), (gradient,))
    torch.testing.assert_close(slope, sum(value.square().sum() for value in gradient.values()))


@of_each
def test_an_ensemble_answers_as_its_members_do(case):
    members = [case.network(seed) for seed in range(2)]
    parameters, buffers = stack_module_state(members)
    empty = copy.deepcopy(members[0]).to("meta")
    x = case.input()
    answers = vmap(lambda p, b: functional_call(empty, (p, b), (x,)))(parameters, buffers)
    torch.testing.assert_close(answers, torch.stack([member(x) for member in members]))


@of_each
def test_it_is_differentiated_twice(case):
    network = case.network(dtype=torch.float64)
    names = [key for key, _ in network.named_parameters()]

    def answer(x, *stored):
        return functional_call(network, dict(zip(names, stored)), (x,)).tanh()

    given = (
        case.input(1, torch.float64)[..., :8].requires_grad_(),
        *(p.detach().requires_grad_() for p in network.parameters()),
    )
    assert gradgradcheck(answer, given, fast_mode=True)


@pytest.mark.parametrize("inplace", [False, True])
def test_an_optimizer_trains_what_was_handed_back(inplace):
    x = torch.randn(1, 3, 8, 8)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 2, 1))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    twin = equivariant(model, "h", example=x, inplace=inplace, optimizer=optimizer)
    assert _held(optimizer) == {*map(id, twin.parameters())}
    plain = desymmetrize(twin, inplace=inplace, optimizer=optimizer)
    assert _held(optimizer) == {*map(id, plain.parameters())}


def _held(optimizer):
    return {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
