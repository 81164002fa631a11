"""Plans: what they mean, what they promise, how fast they are made. Runs on Python 3.7."""

import copy
import doctest
import json
import pathlib
import pickle
import warnings

import oracle
import pytest

import symmetric_layers.orbits
from symmetric_layers import Plan, SymmetryError, plan
from symmetric_layers.letters import KINDS, axes, letters_where, mirrors

GOLDEN = json.loads((pathlib.Path(__file__).parent / "golden" / "plans.json").read_text())
ORIGINAL = {"h": 2, "v": 4, "hv": 8}


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: str(golden["symmetry"]))
def test_the_order_of_the_filters_never_changes(golden):
    made = plan(golden["symmetry"], golden["filters"], golden["ndim"], golden["groups"])
    assert list(made.representative) == golden["representative"]
    assert list(made.mirror) == golden["mirror"]


def test_the_originals_example_stores_seven_of_sixteen():
    made = plan(ORIGINAL, 16, ndim=2)
    assert made.stored == 7
    assert made.counts == ORIGINAL
    assert made.kinds == ("h", "v", "hv")
    assert made.free == (14, 15)
    assert [len(orbit.members) for orbit in made.orbits] == [2, 2, 2, 4, 4]
    assert made.axes[9] == (-1, -2)
    assert made.inputs is None


def test_an_orbit_is_closed_under_its_flips():
    made = plan({kind: 2 ** len(kind) for kind in KINDS}, 30, ndim=3)
    for kind in KINDS:
        exchange = made.exchange(kind)
        assert [exchange[i] for i in exchange] == list(range(30)), "a mirror undoes itself"
        for orbit in made.orbits:
            assert sorted(exchange[i] for i in orbit.members) == list(orbit.members)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("letters", KINDS)
def test_the_exchange_is_the_oracles(letters, groups):
    symmetry = {"h": 4, "z": 4, "hv": 8, "hvz": 16}
    made = plan(symmetry, 40, ndim=3, groups=groups)
    assert list(made.exchange(letters)) == oracle.partner(symmetry, 40, letters, groups)


@pytest.mark.parametrize("groups", [1, 2])
def test_the_first_of_each_orbit_reads_its_filter_as_it_is(groups):
    bank = plan({"h": 4, "hv": 8}, 16, 2, groups)
    assert len(bank.firsts) == bank.stored
    assert [bank.representative[index] for index in bank.firsts] == list(range(bank.stored))
    assert {bank.mirror[index] for index in bank.firsts} == {""}


def test_letters_are_of_the_last_axes():
    assert letters_where([True]) == "h"
    assert letters_where([True, False]) == "v"
    assert letters_where(axis != 1 for axis in range(3)) == "hz"


def test_mirrors_stand_in_binary_order():
    assert mirrors("hvz") == ("", "h", "v", "hv", "z", "hz", "vz", "hvz")
    assert mirrors("hz") == ("", "h", "z", "hz")
    assert mirrors("") == ("",)
    assert axes("hvz") == (-1, -2, -3)


def test_two_banks_of_one_kind_side_by_side_are_one_bank():
    one, two, both = plan({"hv": 8}, 8, 2), plan({"hv": 4}, 4, 2), plan({"hv": 12}, 12, 2)
    for letters in ("h", "v", "hv"):
        joined = one.exchange(letters) + tuple(8 + i for i in two.exchange(letters))
        assert both.exchange(letters) == joined


@pytest.mark.parametrize(
    ("symmetry", "filters", "expected"),
    [
        ({"h": "50%"}, 16, {"h": 8}),
        ({"h": "12.5 %"}, 16, {"h": 2}),
        ({"h": " 50% "}, 16, {"h": 8}),
        ({"h": ".5%"}, 400, {"h": 2}),
        ({"h": "50%"}, 5, {"h": 2}),  # 2.5 is nearest to 3, and 3 holds one orbit
        ({"h": "38%"}, 10, {"h": 4}),  # 3.8 goes to 4
        ({"h": "0%"}, 16, {}),
        ({"h": 0, "v": "100%"}, 16, {"v": 16}),
        ({"h": 8, "hv": "50%"}, 16, {"h": 8, "hv": 8}),
        ({"vh": 4}, 16, {"hv": 4}),
        ({"h": "50%", "v": "50%"}, 7, {"h": 4, "v": 2}),  # 3.5 and 3.5: only one of them may round up
        ({"h": "27.5%", "v": "30%", "hv": "42.5%"}, 13, {"h": 4, "v": 4, "hv": 4}),
        (None, 16, {}),
        ({}, 16, {}),
    ],
)
def test_counts_and_percentages_round_to_whole_orbits(symmetry, filters, expected):
    assert plan(symmetry, filters, ndim=2).counts == expected


def test_whatever_sums_to_a_hundred_percent_fits():
    for filters in range(16, 60):
        for h in range(0, 101, 7):
            for v in range(0, 101 - h, 9):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    asked = {"h": f"{h}%", "v": f"{v}%", "hv": f"{100 - h - v}%"}
                    made = plan(asked, filters, ndim=2)
                for kind, share in asked.items():
                    exact = filters * int(share[:-1]) / 100
                    size = 2 ** len(kind)
                    assert exact - size < made.counts.get(kind, 0) <= exact + 0.5


def test_percentages_are_of_each_group():
    made = plan({"h": "50%"}, 20, ndim=2, groups=4)  # 5 filters a group: one orbit and three free
    assert made.counts == {"h": 8}
    assert [block.orbits for block in made.blocks] == [1, 3]


def test_a_percentage_that_leaves_no_orbit_warns_every_time():
    sentence = (
        "symmetry: 'hvz': '10%' of 16 filters leaves no whole orbit of 8. Expected a larger share. "
        "Use a larger percentage, or leave the kind out."
    )
    for _ in range(2):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            plan({"hvz": "10%"}, 16, ndim=3)
        assert [str(warning.message) for warning in caught] == [sentence]
        assert caught[0].filename == __file__


def test_numbers_are_whatever_counts_as_a_whole_number():
    class Five:
        def __index__(self):
            return 5

    numpy = pytest.importorskip("numpy")
    assert plan({"h": numpy.int64(4)}, Five(), ndim=2) is plan({"h": 4}, 5, ndim=2)


def test_plans_are_cached_hashable_and_compared_by_meaning():
    made = plan({"h": "50%"}, 16, 2)
    assert made is plan({"h": 8, "v": 0}, 16, ndim=2)
    assert made != plan({"h": 8}, 16, ndim=3)
    assert made != plan({"h": 8}, 16, ndim=2, in_symmetry={"h": 2}, in_channels=4)
    assert made == Plan((("h", 8),), 16, 2)
    assert hash(made) == hash(Plan((("h", 8),), 16, 2))
    assert made != "h"


def test_a_plan_cannot_be_changed():
    made = plan(ORIGINAL, 16, ndim=2)
    with pytest.raises(AttributeError, match="a plan is immutable: 'filters' cannot be set"):
        made.filters = 3
    with pytest.raises(AttributeError, match="a plan is immutable: 'filters' cannot be deleted"):
        del made.filters
    made.counts["h"] = 100
    assert made.counts == ORIGINAL


@pytest.mark.parametrize("again", [copy.deepcopy, copy.copy, lambda made: pickle.loads(pickle.dumps(made))])
def test_a_plan_survives_copies_and_pickles(again):
    made = plan(ORIGINAL, 16, 2, groups=1, in_symmetry={"hv": 4}, in_channels=6)
    assert again(made) is made
    assert made.inputs is plan({"hv": 4}, 6, 2)


def test_repr_makes_the_plan_again():
    made = plan({"h": "50%"}, 16, 2, groups=2, in_symmetry={"h": "100%"}, in_channels=8)
    assert repr(made) == "plan({'h': 8}, 16, ndim=2, groups=2, in_symmetry={'h': 8}, in_channels=8)"
    assert eval(repr(made)) is made


def test_print_draws_the_plan():
    assert str(plan({"h": "50%"}, 16, 2, groups=2, in_symmetry={"h": "100%"}, in_channels=8)) == (
        "16 filters from 12 stored (2-D), in 2 groups, each:\n"
        "  h     0-3    2 orbits   12/34 21/43\n"
        "  free  4-7\n"
        "  reads 8 channels that are orbits: {'h': 8}"
    )
    assert str(plan({"h": 2}, 3, ndim=1)).splitlines()[1:] == [
        "  h     0-1    1 orbit    12 21",
        "  free  2",
    ]
    assert "12/34|56/78 56/78|12/34" in str(plan({"z": 2}, 2, ndim=3))
    assert doctest.testmod(symmetric_layers.orbits).failed == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (({}, 16, 4), "ndim: 4 has no mirrors here. Expected 1, 2 or 3. Use one of these."),
        (({}, 16, 0), "ndim: 0 is no usable count. Expected a whole number, at least 1. Use such a number."),
        (({}, -1, 2), "filters: -1 is no usable count. Expected a whole number, at least 0. Use such a number."),
        (({}, 16.0, 2), "filters: 16.0 is no usable count. Expected a whole number, at least 0. Use such a number."),
        (({}, 16, 2, True), "groups: True is no usable count. Expected a whole number, at least 1. Use such a number."),
        (({}, 16, 2, 3), "groups: 3 do not divide 16 filters. Expected a divisor of 16. Use such a number."),
        (
            ({}, 16, 2, 2, None, 5),
            "groups: 2 do not divide 5 input channels. Expected a divisor of 5. Use such a number.",
        ),
        (
            ({"h": 2}, 16, 2, 1, {"h": 2}),
            "in_channels: None does not say how many channels in_symmetry arranges. Expected a whole number. "
            "Pass the input channels of the layer.",
        ),
        (
            ({"h": 2}, 16, 2, 1, 0),
            "in_symmetry: 0 is no mapping. Expected kinds and numbers, like {'h': 8, 'hv': '50%'}, or None. "
            "Use a dict.",
        ),
    ],
)
def test_a_plan_refuses_in_one_whole_sentence(arguments, sentence):
    with pytest.raises(SymmetryError) as refusal:
        plan(*arguments)
    assert str(refusal.value) == sentence


def test_the_exchange_refuses_unknown_letters():
    with pytest.raises(SymmetryError) as refusal:
        plan({"h": 2}, 2, ndim=1).exchange("v")
    assert str(refusal.value) == (
        "letters: 'v' is no kind of mirror in 1-D. Expected different letters out of 'h'. Use 'h'."
    )
