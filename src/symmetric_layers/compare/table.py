"""The table: the same cells for the terminal and for the report."""

from collections.abc import Sequence
from statistics import stdev

from rich.table import Table

from symmetric_layers.compare.data import Task, Told
from symmetric_layers.compare.summary import Line, percent


def header(task: Task | Told) -> list[str]:
    """The names of the columns."""
    many = ["training\npictures"] if len(task.samples) > 1 else []
    sides = [f"{task.score}\n{side}" for side in task.sides]
    return [*many, "", *sides, f"{task.unit}\nchanged", "weights", "passes", "seconds\nto train", "ms to\npredict"]


def cells(task: Task | Told, line: Line) -> list[str]:
    """One row of the table."""
    many = [str(line.samples)] if len(task.samples) > 1 else []
    return [
        *many,
        line.row.title,
        _score(line, "trained"),
        _score(line, "other"),
        percent(line.mean("changed")),
        f"{line.runs[0]['weights'] / 1000:.1f}k",
        str(line.runs[0]["passes"]),
        f"{line.mean('seconds'):.1f}",
        "-" if line.milliseconds is None else f"{line.milliseconds:.1f}",
    ]


def caption(table: Sequence[Line]) -> str:
    """How many seeds are behind the numbers."""
    counts = sorted({len(line.runs) for line in table})
    if counts == [1]:
        return "One seed: no spread."
    seeds = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"Mean ± standard deviation over {seeds} seeds."


def draw(task: Task | Told, table: Sequence[Line]) -> Table:
    """The table for the terminal."""
    drawn = Table(title=task.title, caption=caption(table), caption_justify="left", title_justify="left")
    for name in header(task):
        drawn.add_column(name, justify="right" if name else "left", no_wrap=True)
    for line in table:
        drawn.add_row(*cells(task, line), end_section=line.row == table[-1].row)
    return drawn


def _score(line: Line, name: str) -> str:
    values = list(line.values(name).values())
    mean = f"{line.mean(name):.3f}"
    return mean if len(values) < 2 else f"{mean} ± {stdev(values):.3f}"
