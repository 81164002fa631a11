"""How many steps fit into the time of another row, and which learning rate suits a row."""

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import lightning.pytorch as pl

from symmetric_layers.compare import training
from symmetric_layers.compare.budget import FACTORS, Course
from symmetric_layers.compare.crew import Crew
from symmetric_layers.compare.data import Task
from symmetric_layers.compare.rows import Row

SEED = 2**31 - 1  # no run has it: pictures that choose a rate by it are not those that choose an epoch
_STEPS, _WARM, _TURNS = 12, 3, 3


class Pace(pl.Callback):
    """Looks at the clock after every batch."""

    def __init__(self, crew: Crew) -> None:
        self.crew = crew
        self.marks: list[float] = []

    def on_train_batch_end(self, *_: Any) -> None:
        """One batch is done, on an accelerator too."""
        self.crew.wait()
        self.marks.append(time.perf_counter())


def pace(task: Task, row: Row, crew: Crew) -> list[float]:
    """The seconds of a few training steps, as they are in a training, without those of warming up."""
    course = Course(1, min(task.batches, _STEPS), task.rate)
    learner = training.learner(task, row, task.samples[0], SEED, course, crew)
    clock = Pace(crew)
    training.fit(learner, [clock], crew, limit_val_batches=0, enable_checkpointing=False)
    return [end - begin for begin, end in zip(clock.marks[_WARM:-1], clock.marks[_WARM + 1 :], strict=True)]


def steps_in_time(task: Task, row: Row, other: Row, epochs: int, crew: Crew) -> int:
    """How many whole steps of a row fit into the time of the other one's epochs: both take turns to be timed."""
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(_TURNS):
        theirs += pace(task, other, crew)
        ours += pace(task, row, crew)
    return max(1, int(epochs * task.batches * median(theirs) / median(ours)))


def rate_scores(
    task: Task, row: Row, course: Course, folder: Path, crew: Crew, tick: Callable[[], None]
) -> dict[float, float]:
    """The score of each learning rate on validation pictures, of networks that are trained for nothing else."""
    found = {}
    for factor in FACTORS:
        path, one = folder / f"search-{row.training}-{factor:g}.ckpt", course._replace(rate=factor * task.rate)
        if not crew.agree(lambda path=path, one=one: training.kept(task, path, one) is not None):  # type: ignore[misc]
            training.train(task, row, max(task.samples), SEED, one, path, tick, crew)
        found[one.rate] = crew.agree(lambda path=path: float(training.read(path)["score"]))  # type: ignore[misc]
    return found
