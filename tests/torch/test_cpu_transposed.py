"""Transposed convolutions from orbits to orbits by the fused kernel: the reference's outputs and all gradients."""

import copy

import pytest
import torch
from test_cpu import _poisoned, _shared_out, agrees, instruction_set, last  # noqa: F401
from test_cpu_phases import agrees_twice, alone  # noqa: F401
from test_cpu_shapes import random
from test_folded import exchanged, filled, mirrored, same_bits

import symmetric_layers.torch as layers
from symmetric_layers.errors import SymmetryError
from symmetric_layers.letters import axes
from symmetric_layers.torch.kernels import library

pytestmark = [
    pytest.mark.skipif(library.missing() is not None, reason=f"{library.missing()}"),
    pytest.mark.usefixtures("instruction_set", "alone"),
]


def up(rank, inputs, filters, kernel=2, stride=2, *more, kind=None, **named):
    """A transposed layer whose channels are orbits of all letters, or of a kind, on both sides."""
    kind = kind or "hvz"[:rank]
    build = getattr(layers, f"SymmetricConvTranspose{rank}d")
    how = {"symmetry": {kind: filters}, "in_symmetry": {kind: inputs}, "algorithm": "cpu", **named}
    return filled(build(inputs, filters, kernel, stride, *more, **how))


CASES = [  # kernel, stride, padding, output padding
    (2, 2, 0, 0),
    (3, 2, 1, 1),
    (3, 2, 1, 0),
    (4, 2, 1, 0),
    (3, 1, 1, 0),
    (1, 2, 0, 1),
    (5, 3, 2, 0),
    (4, 4, 0, 3),
    (2, 3, 0, 0),
]


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize(("rank", "kind"), [(1, "h"), (2, "h"), (2, "v"), (2, "hv"), (3, "hvz"), (3, "vz")])
def test_layers_answer_and_learn_as_the_reference(rank, kind, case):
    layer = up(rank, 16, 8, *case, kind=kind)
    x = random(2, 16, *(3, 4, 5)[-rank:])
    for some in (x, last(x), x[0], x[:0]):
        agrees(layer, some)


@pytest.mark.parametrize("dilation", [2, 3])
def test_dilated_taps_without_strides(dilation):
    layer = up(2, 8, 12, 3, 1, 1, dilation=dilation)
    agrees(layer, random(2, 8, 7, 8))


@pytest.mark.parametrize(("inputs", "filters"), [(4, 4), (12, 36), (72, 20), (40, 132)])
def test_any_number_of_channels(inputs, filters):
    layer = up(2, inputs, filters)
    x = random(2, inputs, 5, 6)
    agrees(layer, x)
    agrees(layer, last(x))


@pytest.mark.parametrize("share_bias", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_biases(bias, share_bias):
    layer = up(2, 8, 12, bias=bias, share_bias=share_bias)
    x = random(2, 8, 5, 6)
    agrees(layer, x)
    with torch.no_grad():
        answer = layer(x)
    layer.algorithm = "reference"
    torch.testing.assert_close(answer, layer(x).detach(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", [case for case in CASES if not case[3]], ids=str)
def test_answers_mirror_bit_for_bit(case):
    layer = up(2, 16, 12, *case)
    for x in (random(2, 16, 7, 6), last(random(2, 16, 7, 6))):
        for letter in "hv":
            turned = layer(mirrored(x, layer.plan.inputs, letter))
            assert same_bits(turned, exchanged(layer(x), layer.plan, letter).flip(axes(letter)))


def test_what_is_asked_of_output_sizes():
    layer = up(2, 8, 12, 3, 2, 1)
    x = random(1, 8, 5, 6)
    answer = layer(x, output_size=(10, 11))
    assert answer.shape == (1, 12, 10, 11)
    layer.algorithm = "reference"
    torch.testing.assert_close(answer, layer(x, output_size=(10, 11)), rtol=1e-5, atol=1e-5)


REFUSED = {
    "in groups": ({"groups": 2}, "the layer has 2 groups; it computes one group only"),
    "lifting": ({"in_symmetry": None}, "it knows orbits of one kind only, the same for inputs and filters"),
    "two kinds": ({"symmetry": {"h": 4, "hv": 4}}, "it knows orbits of one kind only, the same for inputs and filters"),
    "a smaller kind": ({"symmetry": {"h": 8}}, "it knows orbits of one kind only, the same for inputs and filters"),
    "free filters": ({"symmetry": None}, "it knows orbits of one kind only, the same for inputs and filters"),
    "with free filters": ({"symmetry": {"hv": 4}}, "it knows orbits of one kind only, the same for inputs and filters"),
    "dilated": ({"dilation": 2}, "its taps are dilated, and stride apart"),
    "padded far": ({"stride": 1, "dilation": 2, "output_padding": 1}, "output padding is as large as the stride"),
    "apart": (
        {"grid": "mirrored", "output_padding": (0, 1)}, "output padding along 'h' has the mirrored grid lie apart",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name):
    more, sentence = REFUSED[name]
    how = {"symmetry": {"hv": 8}, "in_symmetry": {"hv": 8}, "stride": 2, "algorithm": "cpu", **more}
    layer, x = layers.SymmetricConvTranspose2d(8, 8, 3, **how), random(1, 8, 5, 6)
    with pytest.raises(SymmetryError, match="algorithm: 'cpu' cannot answer this: ") as refusal:
        layer(x)
    assert sentence in str(refusal.value)
    layer.algorithm = "auto"
    assert layers.why_not(layer, x).startswith("'reference' is taken.\n'cpu' is not: ")
    assert sentence in layers.why_not(layer, x)


def test_other_numbers_and_transforms_are_refused():
    layer = up(2, 8, 8)
    assert "dtype torch.float64" in layers.why_not(copy.deepcopy(layer).double(), random(1, 8, 4, 4).double())
    layer.algorithm = "auto"
    with torch.autocast("cpu", torch.bfloat16):
        assert "autocast computes in torch.bfloat16" in layers.why_not(layer, random(1, 8, 4, 4))
        assert layer(random(1, 8, 4, 4)).dtype == torch.bfloat16
    found = torch.func.vmap(layer)(random(3, 1, 8, 4, 4))
    torch.testing.assert_close(found[1], layer(random(3, 1, 8, 4, 4)[1]), rtol=1e-5, atol=1e-5)
    layer.algorithm = "cpu"
    with pytest.raises(SymmetryError, match=r"torch\.func transforms it"):
        torch.func.vmap(layer)(random(3, 1, 8, 4, 4))


def test_wrong_sizes_are_left_to_the_host():
    layer = up(2, 8, 8, algorithm="auto")
    for x in (random(1, 7, 4, 4), random(8, 4)):
        with pytest.raises(RuntimeError):
            layer(x)


def test_auto_takes_it_where_it_is_worth_it():
    large, small = up(2, 128, 64, algorithm="auto"), up(2, 4, 4, algorithm="auto")
    assert layers.why_not(large, random(4, 128, 28, 28)) == "'cpu' is taken."
    lines = layers.why_not(small, random(1, 4, 4, 4)).split("\n")
    assert lines[0] == "'reference' is taken."
    assert lines[1].startswith("'cpu' is not: folding and storing would cost as much as they save: about ")


def test_compiled_and_exported():
    layer, x = up(2, 8, 12), random(2, 8, 5, 6)
    expected = layer(x)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), expected)
    torch.testing.assert_close(torch.export.export(layer, (x,)).module()(x), expected)


def test_programs_are_exported_and_compiled_without_it_where_auto_chooses():
    layer, x = up(2, 128, 64, algorithm="auto"), random(4, 128, 28, 28)
    assert layers.why_not(layer, x) == "'cpu' is taken."
    exported, seen = torch.export.export(layer, (x,)).graph, []

    def look(graph, given):
        seen.extend(graph.graph.nodes)
        return graph

    torch.compile(layer, fullgraph=True, backend=look)(x)
    assert seen
    assert not any("symmetric_layers" in str(node.target) for node in [*exported.nodes, *seen])


def test_gradients_of_gradients():
    agrees_twice(up(2, 8, 8), random(1, 8, 4, 3))
