"""Which algorithm answers: a choice is obeyed or refused, and 'auto' can be asked why."""

import copy
import pickle
from types import SimpleNamespace

import pytest
import torch
from cases_torch import CONVOLUTIONS, name
from torch import nn

import symmetric_layers.torch as layers
from symmetric_layers import SymmetryError
from symmetric_layers.torch.kernels import dispatch, folded, reference

CHOICES = ["auto", "folded", "reference"]


@pytest.fixture
def asked(monkeypatch):
    """The algorithms that are asked for an answer, in order."""
    calls = []
    for algorithm in (reference, folded):
        original = algorithm.conv
        label = algorithm.__name__.rpartition(".")[2]
        monkeypatch.setattr(
            algorithm, "conv", lambda job, label=label, original=original: calls.append(label) or original(job)
        )
    return calls


@pytest.fixture
def fast(monkeypatch):
    """An algorithm that refuses what is larger than 8 pixels, and is slow for more than one picture."""
    algorithm = SimpleNamespace(
        conv=lambda job: torch.zeros(1),
        why_not=lambda job: "the picture is too wide" if job.x.shape[-1] > 8 else None,
        slower=lambda job: "it is made for single pictures" if job.x.shape[0] > 1 else None,
    )
    monkeypatch.setattr(dispatch, "_FAST", {"folded": algorithm})
    monkeypatch.setitem(dispatch._ALGORITHMS, "folded", algorithm)
    return algorithm


def conv(**more):
    return layers.SymmetricConv2d(1, 4, 3, padding=1, symmetry={"hv": 4}, dtype=torch.float64, **more)


X = torch.randn(1, 1, 8, 8, dtype=torch.float64)


@pytest.mark.parametrize(("algorithm", "expected"), [("auto", "reference"), *[(one, one) for one in CHOICES[1:]]])
def test_a_choice_is_obeyed(asked, algorithm, expected):
    conv(algorithm=algorithm)(X)
    assert asked == [expected]


def test_a_choice_may_be_changed_afterwards(asked):
    layer = conv()
    for layer.algorithm in ("folded", "reference"):
        layer(X)
    assert asked == ["folded", "reference"]


def test_auto_takes_what_can_answer_and_is_not_slower(fast):
    assert conv()(X).shape == (1,)
    assert conv()(X.repeat(2, 1, 1, 1)).shape == (2, 4, 8, 8)
    assert conv()(X.repeat(1, 1, 1, 2)).shape == (1, 4, 8, 16)


def test_a_choice_that_is_slower_is_obeyed_and_one_that_cannot_answer_is_refused(fast):
    layer = conv(algorithm="folded")
    assert layer(X.repeat(2, 1, 1, 1)).shape == (1,)
    with pytest.raises(SymmetryError) as refusal:
        layer(X.repeat(1, 1, 1, 2))
    assert str(refusal.value) == (
        "algorithm: 'folded' cannot answer this: the picture is too wide. Expected an algorithm that can. "
        "Use 'auto', which chooses among those that can."
    )


def test_auto_can_be_asked_why(fast):
    assert layers.why_not(conv(), X) == "'folded' is taken."
    assert layers.why_not(conv(), X.repeat(2, 1, 1, 1)) == (
        "'reference' is taken.\n'folded' is not: it is made for single pictures."
    )
    assert layers.why_not(conv(), X.repeat(2, 1, 1, 2)) == (
        "'reference' is taken.\n'folded' is not: the picture is too wide."
    )


def test_a_choice_can_be_asked_too(fast):
    layer = conv(algorithm="folded")
    assert layers.why_not(layer, X) == "'folded' is taken, as the layer says."
    assert layers.why_not(layer, X.repeat(1, 1, 1, 2)) == "'folded' is refused: the picture is too wide."


def test_what_folding_says():
    lines = layers.why_not(conv(), X).split("\n")
    assert lines[0] == "'reference' is taken."
    assert lines[-1] == "'folded' is not: folding in PyTorch operations is bound by memory."


def test_nothing_is_computed_when_asked(asked):
    layers.why_not(conv(algorithm="folded"), X)
    layers.why_not(conv(), X)
    assert asked == []


def test_transposed_layers_have_other_choices():
    layer = layers.SymmetricConvTranspose2d(1, 4, 3, symmetry={"hv": 4}, algorithm="reference")
    assert layers.why_not(layer, X) == "'reference' is taken, as the layer says."
    with pytest.raises(SymmetryError) as refusal:
        layers.SymmetricConvTranspose3d(1, 4, 3, symmetry={"hv": 4}, algorithm="folded")
    assert str(refusal.value) == (
        "algorithm: 'folded' is no choice here. Expected 'auto' or 'reference' or 'cpu'. Use one of these."
    )
    with pytest.raises(SymmetryError):
        layer.algorithm = "folded"
    assert layer.algorithm == "reference"


@pytest.mark.parametrize("value", ["fast", "", None, 3])
def test_an_unknown_algorithm_is_refused(value):
    choices = " or ".join(repr(choice) for choice in dispatch.ALGORITHMS)
    sentence = f"algorithm: {value!r} is no choice here. Expected {choices}. Use one of these."
    with pytest.raises(SymmetryError) as refusal:
        conv(algorithm=value)
    assert str(refusal.value) == sentence
    layer = conv(algorithm="folded")
    with pytest.raises(SymmetryError) as refusal:
        layer.algorithm = value
    assert str(refusal.value) == sentence
    assert layer.algorithm == "folded"


def test_a_checkpoint_knows_of_no_algorithm():
    layer = conv(algorithm="folded")
    assert list(layer.state_dict()) == ["weight", "bias"]
    other = conv()
    other.load_state_dict(layer.state_dict(), strict=True)
    assert other.algorithm == "auto"


@pytest.mark.parametrize("again", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_a_copy_keeps_the_choice(again):
    assert again(conv(algorithm="folded")).algorithm == "folded"
    assert again(conv()).algorithm == "auto"


def test_a_layer_from_before_there_was_a_choice_still_answers():
    layer = conv()
    state = dict(vars(layer))
    del state["_algorithm"]
    old = layer.__class__.__new__(layer.__class__)
    old.__setstate__(state)
    assert old.algorithm == "auto"
    assert torch.equal(old(X), layer(X))
    assert repr(old) == repr(layer)


def test_only_a_choice_is_shown():
    assert repr(conv()).endswith("symmetry={'hv': 4})")
    assert repr(conv(algorithm="auto")) == repr(conv())
    assert repr(conv(algorithm="folded")).endswith("symmetry={'hv': 4}, algorithm='folded')")


@pytest.mark.parametrize("algorithm", CHOICES)
@pytest.mark.parametrize("case", CONVOLUTIONS, ids=name)
def test_every_algorithm_gives_the_same_answers(case, algorithm):
    layer = case.layer()
    expected = layer(case.input())
    if not layer.transposed:
        layer.algorithm = algorithm
    torch.testing.assert_close(layer(case.input()), expected)


@pytest.mark.parametrize("algorithm", CHOICES)
@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 2, 8, 8), (1, 1, 2, 2)])
def test_what_the_host_refuses_is_refused_in_its_words(algorithm, shape):
    layer = layers.SymmetricConv2d(1, 4, 5, symmetry={"hv": 4}, algorithm=algorithm)
    host = nn.Conv2d(1, 4, 5)
    x = torch.zeros(shape)
    if len(shape) == 3:
        assert layer(x).shape == host(x).shape
        return
    with pytest.raises(RuntimeError) as expected:
        host(x)
    with pytest.raises(RuntimeError) as refusal:
        layer(x)
    assert str(refusal.value) == str(expected.value)
