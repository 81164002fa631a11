"""The fused kernel: the reference's outputs and gradients to rounding, and answers that mirror bit for bit."""

import copy
import pickle
from functools import lru_cache

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from strategies import KINDS, cases
from test_folded import BITWISE, CHOSEN, FACE, GRIDS, POSITIONS, built, chosen, filled, mirrors_bitwise, picture
from test_random_layers import reaches

import symmetric_layers.torch as layers
from symmetric_layers.letters import axes
from symmetric_layers.torch import why_not
from symmetric_layers.torch.kernels import library

pytestmark = pytest.mark.skipif(library.missing() is not None, reason=f"{library.missing()}")
LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


@pytest.fixture(params=library.instruction_sets() or [""])
def instruction_set(request, monkeypatch):
    monkeypatch.setattr(library, "instruction_sets", lambda: (request.param,))


@pytest.fixture(autouse=True)
def _shared_out(monkeypatch):
    """Threads share what is small, too."""
    monkeypatch.setattr(library, "_ALONE", 0)


@pytest.fixture(autouse=True)
def _poisoned(_shared_out):
    """Memory that nobody has written to holds NaN."""
    torch.use_deterministic_algorithms(True)
    poison_scratch()
    yield
    torch.use_deterministic_algorithms(False)


def poison_scratch():
    """The scratch that is kept from call to call holds NaN."""
    layer = layers.SymmetricConv2d(32, 64, 3, padding=1, symmetry={"h": 64}, algorithm="cpu")
    with torch.no_grad():
        layer.weight.fill_(torch.nan)
    layer(torch.full((1, 32, 24, 24), torch.nan)).sum().backward()


def last(x):
    """The same picture, its channels side by side in memory."""
    return x.to(memory_format=LAST[x.dim()]) if x.dim() in LAST else x.mT.contiguous().mT


def possible(layer, x, algorithm="cpu"):
    """Whether the kernel does this; where not, it says so and the layer refuses."""
    layer.algorithm = algorithm
    said = why_not(layer, x)
    if "is refused" not in said:
        return True
    with pytest.raises(ValueError, match=f"'{algorithm}' cannot"):
        layer(x)
    return False


def differentiated(layer, x, algorithm, gradient=None):
    """The answer, and the gradients of the input and of all that is stored."""
    layer.algorithm = algorithm
    layer.zero_grad()
    x = x.detach().requires_grad_()
    y = layer(x)
    gradient = torch.randn(y.shape, generator=torch.Generator().manual_seed(2)) if gradient is None else gradient
    y.backward(gradient.to(y))
    return [y.detach(), x.grad, *(parameter.grad for parameter in layer.parameters())]


@lru_cache(maxsize=4)
def exactly(written):
    """What the reference says of a layer, a picture and a gradient, as `pickle` writes them.

    Asked once for all the ways in which the same numbers may lie in memory: most of a test's time would go there.
    """
    layer, x, gradient = pickle.loads(written)
    return differentiated(layer, x, "reference", gradient)


def side_by_side(x):
    """The same numbers in float64, one after the other in memory."""
    return None if x is None else x.detach().double().clone(memory_format=torch.contiguous_format)


def agrees(layer, x, gradient=None):
    """Beside the reference in float64, of the same float32 numbers."""
    ours = differentiated(layer, x, "cpu", gradient)
    theirs = exactly(pickle.dumps((copy.deepcopy(layer).double(), side_by_side(x), side_by_side(gradient))))
    for mine, exact in zip(ours, theirs, strict=True):
        assert mine.shape == exact.shape
        assert mine.numel() == 0 or (mine - exact).abs().max() <= 2e-5 * max(1, exact.abs().max())


@settings(max_examples=200, deadline=None)
@given(cases(), POSITIONS, GRIDS, st.integers(0, 3), st.booleans())
def test_any_layer_answers_and_learns_as_the_reference(case, positions, grid, pictures, turned):
    positions = positions[: case.rank]
    assume(reaches(case, positions))
    layer, x = built(case, grid, torch.float32), picture(case, positions, pictures, dtype=torch.float32)
    x = last(x) if turned else x
    if possible(layer, x):
        agrees(layer, x)


@settings(max_examples=200, deadline=None)
@given(cases(), st.tuples(*[st.integers(1, 30)] * 3), GRIDS, st.integers(1, 3), st.booleans())
def test_any_layer_mirrors_bit_for_bit(case, positions, grid, pictures, turned):
    positions = tuple(min(size, 400 // case.rank**3) for size in positions[: case.rank])
    assume(reaches(case, positions) and case.bias != "each")
    layer, x = built(case, grid, torch.float32), picture(case, positions, pictures, dtype=torch.float32)
    x = last(x) if turned else x
    if not possible(layer, x):
        return
    lawful = [True] * case.rank if grid == "mirrored" else FACE.lawful(case, positions)
    for letter in {letter for kind, count in case.symmetry.items() if count for letter in kind}:
        assert not lawful[axes(letter)[0]] or mirrors_bitwise(layer, x, letter, "cpu")


SIZES = {1: [(7,), (8,)], 2: [(7, 8), (8, 5)], 3: [(7, 8, 6), (4, 5, 7)]}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("name", CHOSEN)
def test_chosen_layers_answer_and_learn_as_the_reference(name):
    layer = chosen(name, torch.float32)
    for positions in SIZES[CHOSEN[name][0]]:
        x = torch.randn(2, layer.in_channels, *positions, generator=torch.Generator().manual_seed(1))
        if possible(layer, x):
            for some in (x, last(x), x[0], x[:0]):
                agrees(layer, some)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", sorted(BITWISE))
def test_chosen_layers_mirror_bit_for_bit_at_many_sizes(name, threads):
    layer, rank = chosen(name, torch.float32), CHOSEN[name][0]
    generator, before = torch.Generator().manual_seed(1), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for width in (3, 5, 8, 15, 18, 31, 57) if rank < 3 else (3, 6, 9):
            x = torch.randn(1, layer.in_channels, *(4, 7, width)[-rank:], generator=generator)
            for letter in set("".join(layer.plan.kinds)) if possible(layer, x) else ():
                assert mirrors_bitwise(layer, x, letter, "cpu")
                assert mirrors_bitwise(layer, last(x), letter, "cpu")
    finally:
        torch.set_num_threads(before)


def test_which_of_the_chosen_layers_are_refused():
    """Those in groups, with free channels among the inputs, and whose mirrored grid lies between the taps."""
    pictures = {name: torch.zeros(1, arguments[0], *SIZES[rank][0]) for name, (rank, arguments, _) in CHOSEN.items()}
    refused = {name for name in CHOSEN if not possible(chosen(name, torch.float32), pictures[name])}
    assert refused == {"deep", "depthwise", "depthwise, strided", "in groups", "spread out and strided"}


BANKS = [
    (rank, {kind: 17 * 2 ** len(kind) for kind in kinds})
    for rank in (1, 2, 3)
    for kinds in [*[[kind] for kind in KINDS[rank]], KINDS[rank]]
]


@pytest.mark.parametrize("deep", [False, True], ids=["lifting", "deep"])
@pytest.mark.parametrize(
    ("rank", "symmetry"), BANKS, ids=lambda value: "+".join(value) if isinstance(value, dict) else None
)
def test_every_instruction_set_knows_every_kind(instruction_set, rank, symmetry, deep):
    everything = KINDS[rank][-1]
    inputs = {everything: 3 * 2**rank} if deep else None
    layer = filled(
        getattr(layers, f"SymmetricConv{rank}d")(
            inputs[everything] if deep else 3, sum(symmetry.values()) + 2, 3, padding=1, symmetry=symmetry,
            in_symmetry=inputs,
        )
    )  # fmt: skip
    x = torch.randn(2, layer.in_channels, *(4, 5, 7)[-rank:], generator=torch.Generator().manual_seed(1))
    for some in (x, last(x)):
        agrees(layer, some)
        for letter in everything:
            assert mirrors_bitwise(layer, some, letter, "cpu")
