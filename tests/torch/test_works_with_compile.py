"""`torch.compile` takes every layer whole, and answers as the layer does."""

import copy

import pytest
import torch
from cases_torch import CONVOLUTIONS, EVERYTHING, NETWORK, SINGLE_PICTURES, Case, backward, name
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

from symmetric_layers.torch import OrbitPool

pytestmark = [
    # third parties: inductor looks for its own deprecated helpers, dynamo for those of other packages
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch"),
    pytest.mark.filterwarnings("ignore::FutureWarning:torch"),
]


@pytest.fixture(autouse=True)
def _forget_what_was_compiled():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize("case", EVERYTHING, ids=name)
def test_a_compiled_layer_has_no_graph_break(case: Case) -> None:
    explained = torch._dynamo.explain(case.layer())(case.input())
    assert [reason.reason for reason in explained.break_reasons] == []
    assert (explained.graph_count, explained.graph_break_count) == (1, 0)


@pytest.mark.parametrize("case", EVERYTHING, ids=name)
def test_a_compiled_layer_gives_the_outputs_and_gradients_of_the_layer(case: Case) -> None:
    compiled = torch.compile(copy.deepcopy(case.layer()), fullgraph=True, backend="aot_eager")
    expected = backward(case.layer(), case.input())
    found = {key.replace("_orig_mod.", ""): value for key, value in backward(compiled, case.input()).items()}
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("case", SINGLE_PICTURES, ids=name)
def test_a_compiled_layer_is_compiled_at_most_twice_for_batches_of_any_size(case: Case) -> None:
    layer, counter = case.layer(), CompileCounterWithBackend("eager")
    compiled = torch.compile(layer, fullgraph=True, backend=counter)
    with torch.no_grad():
        for batch in (3, 5, 2, 8):
            torch.testing.assert_close(compiled(case.input(batch)), layer(case.input(batch)))
    assert counter.frame_count <= 2


@pytest.mark.parametrize("case", CONVOLUTIONS, ids=name)
def test_a_layer_compiled_for_pictures_of_any_size_takes_them(case: Case) -> None:
    layer, counter = case.layer(), CompileCounterWithBackend("eager")
    compiled = torch.compile(layer, fullgraph=True, dynamic=True, backend=counter)
    with torch.no_grad():
        for more in (0, 2, 4):
            x = torch.randn(*case.shape[:2], *(size + more for size in case.shape[2:]))
            torch.testing.assert_close(compiled(x), layer(x))
    assert counter.frame_count <= 2  # once more where two sizes happened to be equal the first time


@pytest.mark.parametrize("dynamic", [None, True])
def test_a_compiled_orbit_pool_understands_other_numbers_of_channels(dynamic: bool | None) -> None:
    pool = OrbitPool({"h": "50%"}, reduce="max")
    compiled = torch.compile(pool, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    for channels, length in ((4, 5), (8, 5), (10, 7)):
        x = torch.randn(2, channels, length)
        torch.testing.assert_close(compiled(x), pool(x))


def test_a_compiled_orbit_pool_notices_that_its_symmetry_has_changed() -> None:
    pool = OrbitPool({"h": 4})
    compiled = torch.compile(pool, fullgraph=True, backend="aot_eager")
    x = torch.randn(2, 8, 5)
    assert compiled(x).shape == (2, 6, 5)
    pool.symmetry = {"hv": 8}
    assert compiled(x).shape == (2, 2, 5)


def test_a_network_trained_by_the_default_compiler_learns_what_it_learns_without() -> None:
    def trained(compiler) -> list[float]:
        network = NETWORK.layer()
        run = compiler(network)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
        losses = []
        for _ in range(4):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(run(NETWORK.input()), torch.tensor([0, 1, 2, 0]))
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses

    expected = trained(lambda network: network)
    assert expected[-1] < expected[0]
    assert trained(lambda network: torch.compile(network, fullgraph=True)) == pytest.approx(expected, rel=1e-4)
