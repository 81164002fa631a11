"""What every row gets: as many steps or as much time, one learning rate for all or each its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from symmetric_layers import SymmetryError
from symmetric_layers.compare.data import Task
from symmetric_layers.compare.rows import Row

if TYPE_CHECKING:
    from symmetric_layers.compare.summary import Line

EQUAL = ("steps", "time")
FACTORS = (1.0, 0.5, 2.0, 0.25)  # of the usual rate; the first of equally good ones is taken


class Course(NamedTuple):
    """How long and how fast one network is trained.

    Attributes:
        epochs: of a row that gets the usual number of steps.
        steps: how many batches this network is trained on.
        rate: the largest learning rate of the schedule.
    """

    epochs: int
    steps: int
    rate: float

    def settings(self, task: Task) -> dict[str, Any]:
        """What shapes a run with this course."""
        other = {"steps": self.steps} if self.steps != self.epochs * task.batches else {}
        return {**task.settings(self.epochs), "learning_rate": self.rate, **other}


def usual(task: Task, epochs: int) -> Course:
    """What every row gets where nothing else is said."""
    return Course(epochs, epochs * task.batches, task.rate)


class Fair(NamedTuple):
    """What is equal among the rows.

    Attributes:
        equal: `'steps'`, or `'time'`: as many steps as fit into the time of the plain row.
        search: whether each row's learning rate is searched for, on validation pictures.
    """

    equal: str = "steps"
    search: bool = False

    def settings(self, rows: Sequence[Row]) -> dict[str, Any]:
        """What shapes the runs, where it is not the usual."""
        time = {"equal": f"time of {reference(rows).name}"} if self.equal == "time" else {}
        factors = ", ".join(f"{factor:g}" for factor in sorted(FACTORS))
        return {**time, **({"learning_rate_search": f"{factors} times the rate"} if self.search else {})}

    def check(self, task: Task) -> None:
        """Refuses a search that has nothing to judge by."""
        if self.search and task.validation is None:
            raise SymmetryError(
                f"--lr-search: the data set {task.name!r} has no validation pictures, and test pictures must not "
                "choose. Expected a folder or a table. Leave it out."
            )


def reference(rows: Sequence[Row]) -> Row:
    """The row whose time the others get: the plain one, or the first if there is none."""
    return next((row for row in rows if row.name == "plain"), rows[0])


def sentences(fair: Fair, table: Sequence[Line]) -> list[str]:
    """How long and how fast the rows were trained, where that is not the same for all."""
    rows = {line.row.name: line for line in table}
    said = []
    if fair.equal == "time":
        whose = reference([line.row for line in rows.values()]).title
        parts = [f"{line.runs[0]['steps']} for {line.row.title!r}" for line in rows.values()]
        said.append(f"Every row got as many steps as fit into the time of {whose!r}: {', '.join(parts)}.")
    if fair.search:
        parts = [f"{line.runs[0]['rate']:g} for {line.row.title!r}" for line in rows.values()]
        said.append(f"Learning rates were chosen on validation pictures, by one search for all: {', '.join(parts)}.")
    return said
