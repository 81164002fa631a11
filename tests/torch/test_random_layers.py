"""Random layers against the oracle."""

from itertools import product

import numpy as np
import oracle
from contract import answer, letters_of
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from strategies import cases
from test_contract import TorchFace

FACE = TorchFace()


def prepared(case, positions, seed):
    """A layer with random numbers, and a picture for it."""
    random = np.random.RandomState(seed)
    layer = FACE.layer(case)
    weight, bias = (None if p is None else random.standard_normal(p.shape) for p in FACE.stored(layer))
    FACE.store(layer, weight, bias)
    return layer, weight, bias, random.standard_normal((2, case.channels, *positions))


def reaches(case, positions):
    """Whether the host gives an answer at all."""
    if case.transposed:
        return min(FACE.geometry(case, positions)[1]) > 0
    pads = FACE.geometry(case, positions)
    wide = all(
        n + b + a > d * (k - 1) for n, (b, a), k, d in zip(positions, pads, case.kernel, case.dilation, strict=True)
    )
    room = {"zeros": 1e9, "replicate": 1e9, "reflect": -1, "circular": 0}[case.mode]
    return wide and all(max(pair) <= n + room for n, pair in zip(positions, pads, strict=True))


@st.composite
def placed(draw, lawful=False):
    """A layer, and the size of a picture that it reads: one at which it obeys along some axis, where `lawful`."""
    case = draw(st.booleans().flatmap(cases))
    if lawful and case.bias == "each":
        case = case._replace(bias="shared")
    fitting = [
        positions
        for positions in product(range(1, 10), repeat=case.rank)
        if reaches(case, positions) and (not lawful or obeyed(case, positions))
    ]
    assume(fitting)
    return case, draw(st.sampled_from(fitting))


def obeyed(case, positions):
    """The letters along which some filters have mirrors and the condition of the law holds."""
    lawful = FACE.lawful(case, positions)
    letters = letters_of({kind for kind, count in case.symmetry.items() if count})
    return [letter for letter in letters if lawful[oracle.AXIS[letter]]]


@settings(max_examples=100, deadline=None)
@given(placed(), st.integers(0, 9))
def test_any_layer_answers_as_the_oracle(placed, seed):
    case, positions = placed
    layer, weight, bias, x = prepared(case, positions, seed)
    expected = answer(FACE, case, weight, bias, x)
    np.testing.assert_allclose(FACE.call(layer, x), expected, rtol=0, atol=1e-12)


@settings(max_examples=100, deadline=None)
@given(placed(lawful=True), st.integers(0, 9))
def test_any_layer_obeys_the_law_where_its_condition_holds(placed, seed):
    case, positions = placed
    layer, _, _, x = prepared(case, positions, seed)
    straight = FACE.call(layer, x)
    kinds = oracle.kinds(case.symmetry, case.filters, case.groups)
    for letter in obeyed(case, positions):
        mirrored = FACE.call(layer, oracle.act(x, letter, case.in_symmetry, case.groups))
        expected = oracle.act(straight, letter, case.symmetry, case.groups)
        obeying = [i for i, kind in enumerate(kinds) if letter in kind]
        assert np.abs(mirrored - expected)[:, obeying].max() <= 1e-12
