"""Plans of random symmetries."""

import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import KINDS, banks

from symmetric_layers import plan


@st.composite
def arrangements(draw):
    rank, groups = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    return (*draw(banks(rank, groups)), rank, groups)


@given(arrangements())
def test_every_plan_is_the_oracles(arrangement):
    symmetry, filters, rank, groups = arrangement
    made = plan(symmetry, filters, rank, groups)
    assert list(zip(made.representative, made.mirror, strict=True)) == oracle.arrangement(symmetry, filters, groups)
    assert made.stored == len(set(made.representative))
    assert eval(repr(made)) is made
    members = [member for orbit in made.orbits for member in orbit.members]
    assert sorted(members + list(made.free)) == list(range(filters))
    for orbit in made.orbits:
        assert {made.representative[member] for member in orbit.members} == {orbit.representative}
        assert len({made.mirror[member] for member in orbit.members}) == len(orbit.members) == 2 ** len(orbit.kind)


@given(arrangements(), st.data())
def test_exchanges_are_a_group(arrangement, data):
    symmetry, filters, rank, groups = arrangement
    made = plan(symmetry, filters, rank, groups)
    one, two = data.draw(st.tuples(*[st.sampled_from(KINDS[rank])] * 2))
    both = "".join(letter for letter in "hvz" if (letter in one) != (letter in two))
    chained = [made.exchange(two)[i] for i in made.exchange(one)]
    assert chained == (list(made.exchange(both)) if both else list(range(filters)))


@pytest.mark.filterwarnings("ignore:.*leaves no whole orbit:UserWarning")
@given(st.integers(0, 300), st.lists(st.integers(1, 1000), min_size=1, max_size=7), st.data())
def test_shares_of_at_most_the_whole_always_fit(filters, weights, data):
    rank = data.draw(st.integers(1, 3))
    kinds = KINDS[rank][: len(weights)]
    total = sum(weights)
    shares = {kind: weight / total * 100 for kind, weight in zip(kinds, weights, strict=False)}
    symmetry = {kind: f"{int(share * 100) / 100:.2f}%" for kind, share in shares.items()}
    made = plan(symmetry, filters, rank)
    for kind, text in symmetry.items():
        exact = float(text[:-1]) * filters / 100
        assert exact - 2 ** len(kind) < made.counts.get(kind, 0) <= exact + 0.5 + 1e-9
