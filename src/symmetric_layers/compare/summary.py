"""Means and spreads over seeds, and the sentences that follow from them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, stdev
from typing import Any

import numpy as np
from scipy.stats import bootstrap
from scipy.stats import t as student

from symmetric_layers.compare.data import Task, Told
from symmetric_layers.compare.rows import Row

RESAMPLED = 8  # seeds from which on the bootstrap is to be trusted


@dataclass(frozen=True)
class Line:
    """One row of the table: the finished runs of one row on so many pictures."""

    row: Row
    samples: int
    runs: tuple[dict[str, Any], ...]
    milliseconds: float | None

    def values(self, name: str) -> dict[int, float]:
        """One measurement, by seed."""
        return {run["seed"]: run[name] for run in self.runs}

    def mean(self, name: str) -> float:
        """The mean of one measurement over seeds."""
        return fmean(self.values(name).values())


def lines(rows: Sequence[Row], seeds: int, task: Task | Told, content: Mapping[str, Any]) -> list[Line]:
    """The table, as far as it is finished, from the content of results.json."""
    found = []
    known = {(run["samples"], run["row"], run["seed"]): run for run in content["runs"]}
    for samples in task.samples:
        for row in rows:
            runs = [known.get((samples, row.name, seed)) for seed in range(seeds)]
            finished = tuple(run for run in runs if run is not None)
            if finished:
                found.append(Line(row, samples, finished, content["milliseconds"].get(row.name)))
    return found


@dataclass(frozen=True)
class Difference:
    """The paired difference of two rows over the seeds both have, and its 95% interval."""

    mean: float
    low: float | None  # None where one seed shows no spread
    high: float | None
    seeds: int

    @property
    def verdict(self) -> str:
        """`'more'`, `'less'`, or `'none'` where the seeds do not show one."""
        if self.low is None or self.high is None or self.low <= 0 <= self.high:
            return "none"
        return "more" if self.low > 0 else "less"


def difference(one: Line, other: Line, name: str) -> Difference:
    """One row minus another, seed by seed."""
    ours, theirs = one.values(name), other.values(name)
    pairs = [ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())]
    mean = fmean(pairs) if pairs else 0.0
    return Difference(mean, *_interval(pairs), len(pairs))


def _interval(pairs: Sequence[float]) -> tuple[float | None, float | None]:
    """Of the mean, at 95%: Student's for few seeds, the bootstrap's for many.

    Three values drawn from three are nearly always among the same three: the bootstrap would call every difference
    shown that has one sign in all three, a quarter of all where there is none.
    """
    if len(pairs) < 2:
        return None, None
    if len(pairs) < RESAMPLED or len(set(pairs)) == 1:
        half = float(student.ppf(0.975, len(pairs) - 1)) * stdev(pairs) / sqrt(len(pairs))
        return fmean(pairs) - half, fmean(pairs) + half
    found = bootstrap((list(pairs),), np.mean, confidence_level=0.95, method="BCa", rng=np.random.default_rng(0))
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def sentences(task: Task | Told, table: Sequence[Line]) -> list[str]:
    """What the runs say, whatever it is: per number of training pictures, at most two sentences."""
    said: list[str] = []
    for samples in task.samples:
        rows = {line.row.name: line for line in table if line.samples == samples}
        twin = rows.get("twin") or rows.get("wide")
        rival = rows.get("tta") or rows.get("augment") or rows.get("plain")
        if twin is None or rival is None:
            continue
        start = _start(task, samples)
        said.append(start + _against(task, twin, rival))
        if "plain" in rows:
            said.append(start + _cost(task, twin, rows["plain"]))
    return said or ["No twin and plain network together: nothing to compare."]


def _against(task: Task | Told, twin: Line, rival: Line) -> str:
    side = ("trained", "other")[task.asked]
    gap = difference(twin, rival, side)
    shown = {"more": "the twin is better", "less": "the twin is worse", "none": "no difference shown"}[gap.verdict]
    share = twin.mean("weights") / rival.mean("weights")
    ours, theirs = twin.runs[0]["passes"], rival.runs[0]["passes"]
    passes = f"{_passes(ours)} instead of {theirs}" if ours != theirs else f"as many passes ({ours})"
    return (
        f"{task.score.capitalize()} on the side {task.sides[task.asked]!r}: {twin.mean(side):.3f} for "
        f"{twin.row.title!r}, {rival.mean(side):.3f} for {rival.row.title!r}: {shown} ({_paired(gap)}); "
        f"the twin has {share:.0%} of the weights and takes {passes}."
    )


def _cost(task: Task | Told, twin: Line, plain: Line) -> str:
    gap = difference(twin, plain, "trained")
    start = {
        "more": "Symmetry helps",
        "less": "Symmetry costs",
        "none": "Symmetry is shown neither to cost nor to help",
    }[gap.verdict]
    where = f"{'the side it was trained on, ' if task.asked else ''}{task.sides[0]!r}"
    return (
        f"{start} on {where}: {twin.mean('trained'):.3f} for "
        f"{twin.row.title!r}, {plain.mean('trained'):.3f} for {plain.row.title!r} ({_paired(gap)})."
    )


def changes(task: Task | Told, table: Sequence[Line]) -> list[str]:
    """What mirroring the picture changes, per number of training pictures."""
    said = []
    for samples in task.samples:
        parts = [
            f"{percent(line.mean('changed'))} with {line.row.title!r}" for line in table if line.samples == samples
        ]
        if parts:
            start = f"{_start(task, samples)}Mirroring the picture changes the class of so many {task.unit}: "
            said.append(start + ", ".join(parts) + ".")
    return said


def _start(task: Task | Told, samples: int) -> str:
    return f"With {samples} training pictures: " if len(task.samples) > 1 else ""


def _paired(gap: Difference) -> str:
    if gap.low is None or gap.high is None:
        return f"difference {gap.mean:+.3f}, and one seed shows no spread"
    return f"paired difference {gap.mean:+.3f}, 95% interval {gap.low:+.3f} to {gap.high:+.3f} over {gap.seeds} seeds"


def _passes(number: int) -> str:
    return "1 pass" if number == 1 else f"{number} passes"


def percent(share: float) -> str:
    """`'38%'`, `'7.9%'`, `'0'` only where it is exactly 0."""
    if share == 0:
        return "0"
    if share < 0.0001:
        return "under 0.01%"
    return f"{share:.0%}" if share >= 0.1 else f"{share:.1%}" if share >= 0.01 else f"{100 * share:.2g}%"
