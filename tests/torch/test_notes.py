"""A layer's note of how its last input was answered: used for the next one like it, and for nothing else."""

import copy
import io
import pickle

import pytest
import torch
from test_folded import filled
from torch import nn
from torch.nn.utils import parametrize

from symmetric_layers.torch import SymmetricConv2d
from symmetric_layers.torch.conv import _SymmetricConv
from symmetric_layers.torch.kernels import direct, library

X = torch.randn(2, 4, 9, 9, generator=torch.Generator().manual_seed(1))


@pytest.fixture(params=["auto", "reference", "cpu"])
def layer(request):
    if request.param == "cpu" and library.missing():
        pytest.skip(library.missing())
    return filled(made(request.param))


def made(algorithm="auto", **more):
    symmetry = {"symmetry": {"h": 4, "hv": 4}, "algorithm": algorithm}
    return SymmetricConv2d(4, 8, 3, **{"padding": 1, **symmetry, **more})


@pytest.fixture
def described(monkeypatch):
    """All inputs that were described, because no note was about them."""
    seen, describe = [], _SymmetricConv._job

    def count(self, input):
        seen.append(input)
        return describe(self, input)

    monkeypatch.setattr(_SymmetricConv, "_job", count)
    return seen


def expected(layer, x):
    """What a layer without a note answers."""
    return copy.deepcopy(layer)(x)


def noted(layer, x=X):
    with torch.no_grad():
        layer(x)
    assert layer._note is not None
    return layer


def test_the_next_input_like_the_last_one_is_not_described(layer, described):
    with torch.no_grad():
        first = layer(X)
        assert len(described) == 1
        torch.testing.assert_close(layer(2 * X), expected(layer, 2 * X), rtol=0, atol=0)
        assert torch.equal(layer(X), first)
    assert len(described) == 2  # by the layer without a note


def test_what_is_learnt_is_seen(layer):
    with torch.no_grad():
        before = layer(X)
        layer.weight.mul_(2)
        layer.bias.mul_(2)
        torch.testing.assert_close(layer(X), 2 * before)


OTHERS = {
    "batch": torch.randn(3, 4, 9, 9),
    "one picture": torch.randn(4, 9, 9),
    "size": torch.randn(2, 4, 9, 8),
    "memory": X.to(memory_format=torch.channels_last),
    "every other column": torch.randn(2, 4, 9, 18)[..., ::2],
    "no picture": torch.randn(0, 4, 9, 9),
    "negative": torch._neg_view(X),
    "an expanded picture": X[:1].expand(2, -1, -1, -1),
}


@pytest.mark.parametrize("other", OTHERS)
def test_other_inputs_are_described(layer, described, other):
    noted(layer)
    with torch.no_grad():
        assert torch.equal(layer(OTHERS[other]), expected(layer, OTHERS[other]))
        assert len(described) == 3
        torch.testing.assert_close(layer(X), expected(layer, X), rtol=0, atol=0)


def own_biases(layer):
    layer.share_bias = False
    layer.bias = nn.Parameter(torch.ones(8))


CHANGES = {
    "stride": lambda layer: setattr(layer, "stride", (2, 1)),
    "padding": lambda layer: setattr(layer, "padding", (0, 2)),
    "dilation": lambda layer: setattr(layer, "dilation", (1, 2)),
    "padding mode": lambda layer: setattr(layer, "padding_mode", "reflect"),
    "grid": lambda layer: [setattr(layer, "stride", (2, 2)), setattr(layer, "grid", "mirrored")],
    "plan": lambda layer: setattr(layer, "plan", made(symmetry={"h": 2, "v": 2, "hv": 4}).plan),
    "one number for all axes": lambda layer: setattr(layer, "stride", 2),
    "a list": lambda layer: setattr(layer, "dilation", [1, 2]),
    "state": lambda layer: layer.__setstate__({**vars(layer), "stride": (2, 1)}),
    "state of another": lambda layer: layer.__setstate__(noted(filled(made(padding=0)), X[:1]).__dict__),
    "weight": lambda layer: setattr(layer, "weight", nn.Parameter(2 * layer.weight)),
    "data": lambda layer: setattr(layer.weight, "data", 2 * layer.weight.data),
    "memory": lambda layer: layer.to(memory_format=torch.channels_last),
    "no bias": lambda layer: layer.register_parameter("bias", None),
    "own biases": own_biases,
    "every other bias": lambda layer: setattr(layer.bias, "data", torch.arange(6.0)[::2]),
    "parametrized weight": lambda layer: parametrize.register_parametrization(layer, "weight", nn.Tanh()),
    "parametrized bias": lambda layer: parametrize.register_parametrization(layer, "bias", nn.Tanh()),
    "normed weight": lambda layer: torch.nn.utils.spectral_norm(layer.eval()),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_changed_is_obeyed(layer, change):
    noted(layer)
    with torch.no_grad():
        before = layer(X)
    CHANGES[change](layer)
    with torch.no_grad():
        after, another = layer(X), layer(X)
        fresh = copy.deepcopy(layer)
        fresh.__dict__.pop("_note", None)
        assert torch.equal(after, fresh(X))
        assert torch.equal(another, after)
    if change != "memory":
        assert after.shape != before.shape or not torch.allclose(after, before)


@pytest.mark.parametrize("name", ["stride", "padding", "dilation"])
def test_a_list_that_is_changed_in_its_place_is_obeyed(layer, name):
    setattr(layer, name, list(getattr(layer, name)))
    with torch.no_grad():
        layer(X), layer(X)
        getattr(layer, name)[1] = 2
        answer = layer(X)
        assert torch.equal(answer, copy.deepcopy(layer)(X))
    assert answer.shape != (2, 8, 9, 9)


def test_an_algorithm_that_is_chosen_afterwards_is_obeyed(described):
    layer = noted(made("auto"))
    layer.algorithm = "folded"
    with torch.no_grad():
        layer(X)
        assert len(described) == 2
        layer(X)
        assert len(described) == 3  # which is never answered without a question


def test_another_number_of_threads_is_seen(described):
    layer, threads = noted(made("reference")), torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        with torch.no_grad():
            layer(X)
        assert len(described) == 2
    finally:
        torch.set_num_threads(threads)


def test_another_processor_is_seen(described, monkeypatch):
    layer = noted(made("reference"))
    monkeypatch.setattr(direct, "instruction_sets", lambda: ("another",))
    with torch.no_grad():
        layer(X)
    assert len(described) == 2


def test_too_few_filters_are_refused_as_before():
    layer = noted(made("reference"))
    layer.weight.data = layer.weight.data[:2]
    with torch.no_grad(), pytest.raises(RuntimeError):
        layer(X)


def test_gradients_are_not_forgotten(layer):
    noted(layer)
    answer = layer(X)
    answer.sum().backward()
    assert layer.weight.grad.abs().sum() > 0
    noted(layer.requires_grad_(False))
    assert not layer(X).requires_grad
    x = X.clone().requires_grad_()
    layer(x).sum().backward()
    assert x.grad.abs().sum() > 0


def test_other_numbers_are_obeyed(layer):
    layer.algorithm = "auto"
    noted(layer)
    with torch.no_grad():
        assert copy.deepcopy(layer).double()(X.double()).dtype == torch.float64
        assert layer.double()(X.double()).dtype == torch.float64
        assert noted(layer.float())(X).dtype == torch.float32
        with torch.autocast("cpu", torch.bfloat16):
            assert layer(X).dtype == torch.bfloat16


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning", "ignore::UserWarning")
def test_who_looks_on_sees_the_same(layer):
    layer.algorithm = "auto"
    noted(layer)
    with torch.no_grad():
        answer = layer(X)
        assert torch.allclose(torch.jit.trace(layer, X, check_trace=False)(X + 1), expected(layer, X + 1), atol=1e-5)
        assert torch.allclose(torch.vmap(layer)(X[None])[0], answer, atol=1e-5)
        tangent = torch.func.jvp(layer, (X,), (torch.ones_like(X),))[1]
        assert torch.allclose(tangent, torch.func.jvp(copy.deepcopy(layer), (X,), (torch.ones_like(X),))[1])
        others = {name: 2 * value for name, value in layer.named_parameters()}
        assert torch.allclose(torch.func.functional_call(layer, others, X), 2 * answer, atol=1e-5)
        assert torch.equal(layer(X), answer)
        shadows = {name: value.to("meta") for name, value in others.items()}
        assert torch.func.functional_call(layer, shadows, X.to("meta")).device.type == "meta"


def test_a_compiler_does_not_see_it():
    layer, graphs = made("reference"), []

    def keep(graph, _):
        graphs.append(graph)
        return graph

    compiled = torch.compile(layer, fullgraph=True, backend=keep)
    with torch.no_grad():
        for x in (X, X + 1):
            answer = compiled(x)
            assert torch.allclose(layer(x), answer, atol=1e-6)
            assert layer._note is not None
        assert len(graphs) == 1
        layer.padding = (0, 0)
        assert torch.allclose(compiled(X), layer(X), atol=1e-6)


def test_it_is_stored_nowhere(layer):
    noted(layer)
    with torch.no_grad():
        for other in (copy.deepcopy(layer), copy.copy(layer), pickle.loads(pickle.dumps(layer))):
            assert other._note is None
            assert torch.equal(other(X), layer(X))
            assert list(other.state_dict()) == ["weight", "bias"]
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False)(X), layer(X))
