"""Scores against weights, against milliseconds and against the number of training pictures."""

import base64
from collections.abc import Sequence
from html import escape
from io import BytesIO
from statistics import stdev
from typing import Any

from matplotlib.figure import Figure

from symmetric_layers.compare.data import Task, Told
from symmetric_layers.compare.summary import Line

MARKS = ("o", "s", "D", "^", "v", "P")  # told apart without colour vision
SIZE = (4.4, 3.5)  # inches; small, so that the words are large on a phone
COLOURS = ("#1b2026", "#0072b2", "#009e73", "#b8860b", "#d55e00", "#8a3a7a")


def drawn(task: Task | Told, table: Sequence[Line]) -> str:
    """The plots, as figures of a page."""
    largest = [line for line in table if line.samples == max(task.samples)]
    found = [_figure(task, [[line] for line in largest], "weights")]
    if any(line.milliseconds for line in largest):
        found.append(_figure(task, [[line] for line in largest if line.milliseconds], "milliseconds"))
    if len(task.samples) > 1:
        names = dict.fromkeys(line.row.name for line in table)
        found.append(_figure(task, [[line for line in table if line.row.name == name] for name in names], "samples"))
    return "".join(found)


def _figure(task: Task | Told, rows: Sequence[Sequence[Line]], against: str) -> str:
    """The score that is asked for, one mark per row; those of one row are joined."""
    words = {"weights": "weights", "milliseconds": "ms for one prediction", "samples": "training pictures"}[against]
    side = ("trained", "other")[task.asked]
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.add_subplot()
    for place, lines in enumerate(rows):
        style: dict[str, Any] = {"marker": MARKS[place % 6], "color": COLOURS[place % 6], "label": lines[0].row.title}
        places, scores = [_value(line, against) for line in lines], [line.mean(side) for line in lines]
        axes.errorbar(places, scores, yerr=[_spread(line, side) for line in lines], capsize=3, **style)
    axes.set(xlabel=words, ylabel=f"{task.score}, {task.sides[task.asked]}")
    if against == "samples":
        axes.set_xscale("log")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=9)
    told = "; ".join(
        f"{line.row.title}: {line.mean(side):.3f} at {_value(line, against):g}" for lines in rows for line in lines
    )
    alt = f"{task.score} on {task.sides[task.asked]!r} against {words}. {told}."
    return f"<figure><h3>Against {words}</h3>{embedded(figure, alt)}</figure>"


def _value(line: Line, against: str) -> float:
    value: Any = {"weights": line.runs[0]["weights"], "milliseconds": line.milliseconds, "samples": line.samples}[
        against
    ]
    return float(value)


def _spread(line: Line, side: str) -> float:
    values = list(line.values(side).values())
    return stdev(values) if len(values) > 1 else 0.0


def embedded(figure: Figure, alt: str) -> str:
    """A figure as an `<img>`."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    code = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f'<img class="plot" src="data:image/png;base64,{code}" alt="{escape(alt)}">'
