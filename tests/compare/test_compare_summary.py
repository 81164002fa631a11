"""The sentences follow from the numbers, whatever they are."""

import pytest

from symmetric_layers.compare.data import load
from symmetric_layers.compare.rows import ROWS
from symmetric_layers.compare.summary import Line, changes, difference, percent, sentences
from symmetric_layers.compare.table import caption, cells, header

BY_NAME = {row.name: row for row in ROWS}


def line(name, trained, other, changed=0.0, samples=6):
    """One row with one run per value."""
    facts = {"weights": 13400 if name == "twin" else 26900, "passes": 2 if name == "tta" else 1, "seconds": 5.0}
    runs = [
        {"seed": seed, "trained": one, "other": two, "changed": changed, **facts}
        for seed, (one, two) in enumerate(zip(trained, other, strict=True))
    ]
    return Line(BY_NAME[name], samples, tuple(runs), 1.25)


TIE = (0.78, 0.76, 0.77)


def test_a_tie_is_called_no_difference_shown():
    said = sentences(load("brain"), [line("tta", TIE, (0.77, 0.78, 0.76)), line("twin", TIE, TIE)])
    assert said == [
        "Dice on the side 'right, unlabelled': 0.770 for 'twin, equal channels', 0.770 for "
        "'plain + augmentation + TTA': no difference shown (paired difference +0.000, 95% interval -0.043 to "
        "+0.043 over 3 seeds); the twin has 50% of the weights and takes 1 pass instead of 2."
    ]


@pytest.mark.parametrize(("shift", "words"), [(0.1, "the twin is better"), (-0.1, "the twin is worse")])
def test_a_difference_beyond_its_spread_is_named(shift, words):
    twin = tuple(value + shift + wobble for value, wobble in zip(TIE, (0.001, 0, -0.001), strict=True))
    assert words in sentences(load("brain"), [line("tta", TIE, TIE), line("twin", TIE, twin)])[0]


@pytest.mark.parametrize(
    ("shift", "words"),
    [
        (0.05, "Symmetry helps on"),
        (-0.05, "Symmetry costs on"),
        (0, "Symmetry is shown neither to cost nor to help on"),
    ],
)
def test_what_symmetry_costs_is_said(shift, words):
    twin = tuple(value + shift + wobble for value, wobble in zip(TIE, (0.001, 0, -0.001), strict=True))
    said = sentences(load("digits"), [line("plain", TIE, TIE, samples=100), line("twin", twin, twin, samples=100)])
    assert said[1].startswith(f"With 100 training pictures: {words} the side it was trained on, 'as written': ")


def test_one_seed_shows_nothing():
    said = sentences(load("brain"), [line("plain", (0.5,), (0.2,)), line("twin", (0.9,), (0.9,))])
    assert "no difference shown (difference +0.700, and one seed shows no spread)" in said[0]
    assert "neither to cost nor to help" in said[1]


def test_only_seeds_that_both_rows_have_are_compared():
    gap = difference(line("twin", TIE, TIE), line("plain", TIE[:2], TIE[:2]), "other")
    assert gap.seeds == 2


def test_without_a_twin_there_is_nothing_to_compare():
    assert sentences(load("brain"), [line("plain", TIE, TIE)]) == [
        "No twin and plain network together: nothing to compare."
    ]


def test_what_mirroring_changes_is_said_for_every_row():
    assert changes(load("brain"), [line("plain", TIE, TIE, 0.38), line("twin", TIE, TIE)]) == [
        "Mirroring the picture changes the class of so many brain pixels: 38% with 'plain', "
        "0 with 'twin, equal channels'."
    ]


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "0"), (1e-7, "under 0.01%"), (0.005, "0.5%"), (0.0702, "7.0%"), (0.0789, "7.9%"), (0.38, "38%"), (1, "100%")],
)
def test_nothing_but_zero_is_written_as_zero(share, text):
    assert percent(share) == text


def test_a_row_of_the_table_has_a_cell_per_column():
    for name in ("brain", "digits"):
        one = line("tta", TIE, TIE, 0.079)
        assert len(cells(load(name), one)) == len(header(load(name)))
    assert cells(load("brain"), one)[1:] == ["0.770 ± 0.010", "0.770 ± 0.010", "7.9%", "26.9k", "2", "5.0", "1.2"]
    assert caption([one]) == "Mean ± standard deviation over 3 seeds."


def test_many_seeds_are_judged_by_the_bootstrap_few_by_student():
    many, few = [0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.3], [0.01, 0.02, 0.03]
    zeros = lambda values: tuple(0.0 for _ in values)  # noqa: E731
    gap = difference(line("twin", many, many), line("plain", zeros(many), zeros(many)), "other")
    assert gap.verdict == "more"
    assert gap.high - gap.mean > 1.2 * (gap.mean - gap.low)  # it knows that the values are lopsided
    gap = difference(line("twin", few, few), line("plain", zeros(few), zeros(few)), "other")
    assert gap.verdict == "none"  # though all three are above 0
    assert gap.high - gap.mean == pytest.approx(gap.mean - gap.low)
