"""Means and spreads over seeds, and the sentences that follow from them."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, stdev
from typing import Any

from scipy.stats import t as student

from symmetric_layers.compare.data import Task
from symmetric_layers.compare.results import Results
from symmetric_layers.compare.rows import Row


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


def lines(rows: Sequence[Row], seeds: int, task: Task, results: Results) -> list[Line]:
    """The table, as far as it is finished."""
    found = []
    for samples in task.samples:
        for row in rows:
            runs = [results.find(samples, row.name, seed) for seed in range(seeds)]
            finished = tuple(run for run in runs if run is not None)
            if finished:
                found.append(Line(row, samples, finished, results.content["milliseconds"].get(row.name)))
    return found


@dataclass(frozen=True)
class Difference:
    """The paired difference of two rows over the seeds both have, and the half-width of its 95% interval."""

    mean: float
    half: float | None  # None where one seed shows no spread
    seeds: int

    @property
    def verdict(self) -> str:
        """`'more'`, `'less'`, or `'none'` where the seeds do not show one."""
        if self.half is None or abs(self.mean) <= self.half:
            return "none"
        return "more" if self.mean > 0 else "less"


def difference(one: Line, other: Line, name: str) -> Difference:
    """One row minus another, seed by seed."""
    ours, theirs = one.values(name), other.values(name)
    pairs = [ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())]
    if len(pairs) < 2:
        return Difference(pairs[0] if pairs else 0.0, None, len(pairs))
    half = float(student.ppf(0.975, len(pairs) - 1)) * stdev(pairs) / sqrt(len(pairs))
    return Difference(fmean(pairs), half, len(pairs))


def sentences(task: Task, table: Sequence[Line]) -> list[str]:
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


def _against(task: Task, twin: Line, rival: Line) -> str:
    gap = difference(twin, rival, "other")
    shown = {"more": "the twin is better", "less": "the twin is worse", "none": "no difference shown"}[gap.verdict]
    share = twin.mean("weights") / rival.mean("weights")
    ours, theirs = twin.runs[0]["passes"], rival.runs[0]["passes"]
    passes = f"{_passes(ours)} instead of {theirs}" if ours != theirs else f"as many passes ({ours})"
    return (
        f"{task.score.capitalize()} on the side {task.sides[1]!r}: {twin.mean('other'):.3f} for {twin.row.title!r}, "
        f"{rival.mean('other'):.3f} for {rival.row.title!r}: {shown} ({_paired(gap)}); "
        f"the twin has {share:.0%} of the weights and takes {passes}."
    )


def _cost(task: Task, twin: Line, plain: Line) -> str:
    gap = difference(twin, plain, "trained")
    start = {
        "more": "Symmetry helps",
        "less": "Symmetry costs",
        "none": "Symmetry is shown neither to cost nor to help",
    }[gap.verdict]
    return (
        f"{start} on the side it was trained on, {task.sides[0]!r}: {twin.mean('trained'):.3f} for "
        f"{twin.row.title!r}, {plain.mean('trained'):.3f} for {plain.row.title!r} ({_paired(gap)})."
    )


def changes(task: Task, table: Sequence[Line]) -> list[str]:
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


def _start(task: Task, samples: int) -> str:
    return f"With {samples} training pictures: " if len(task.samples) > 1 else ""


def _paired(gap: Difference) -> str:
    if gap.half is None:
        return f"difference {gap.mean:+.3f}, and one seed shows no spread"
    return f"paired difference {gap.mean:+.3f} ± {gap.half:.3f}, 95% interval over {gap.seeds} seeds"


def _passes(number: int) -> str:
    return "1 pass" if number == 1 else f"{number} passes"


def percent(share: float) -> str:
    """`'38%'`, `'7.9%'`, `'0'` only where it is exactly 0."""
    if share == 0:
        return "0"
    if share < 0.0001:
        return "under 0.01%"
    return f"{share:.0%}" if share >= 0.1 else f"{share:.1%}" if share >= 0.01 else f"{100 * share:.2g}%"
