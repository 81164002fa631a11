"""All runs of a comparison: train, or take up what is trained; measure; keep."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from torch import nn

from symmetric_layers import SymmetryError
from symmetric_layers.compare import training
from symmetric_layers.compare.data import Task
from symmetric_layers.compare.measure import Predictor, measure, milliseconds, passes, predictor
from symmetric_layers.compare.models import example, parameters
from symmetric_layers.compare.named import check_answer
from symmetric_layers.compare.results import Results
from symmetric_layers.compare.rows import Row
from symmetric_layers.compare.twins import build

Tick = Callable[[str, int], None]  # what is being done, and how many batches of it are done


class Run(NamedTuple):
    """One row, trained on so many pictures with one seed."""

    samples: int
    row: Row
    seed: int


@dataclass
class Experiment:
    """The runs of one folder."""

    task: Task
    rows: tuple[Row, ...]
    seeds: int
    epochs: int
    results: Results

    @property
    def batches(self) -> int:
        """How many batches are trained if nothing is finished."""
        trainings = {row.training for row in self.rows}
        return len(self.task.samples) * self.seeds * len(trainings) * self.epochs * self.task.batches

    def plan(self) -> Iterator[Run]:
        """All runs, in the order in which they are made: whole seeds first, so that an early end compares fairly."""
        for samples in self.task.samples:
            for seed in range(self.seeds):
                for row in self.rows:
                    yield Run(samples, row, seed)

    def run(self, tick: Tick) -> None:
        """Makes all runs that are not finished, then times the predictions of all rows in turn."""
        self.check()
        trained = set()
        for run in self.plan():
            name = self._checkpoint(run)
            if self.results.find(run.samples, run.row.name, run.seed) is None or not name.is_file():
                self._finish(run, tick)
            elif name not in trained:
                tick(self._label(run), self.epochs * self.task.batches)
            trained.add(name)
        if not {row.name for row in self.rows} <= self.results.content["milliseconds"].keys():
            self._time()

    def check(self) -> None:
        """Builds each network once, measured: what cannot be converted is refused before anything is trained."""
        pictures, classes = example(self.task), len(self.task.classes)
        check_answer(self.task.model, build(self.task, "plain"), pictures, classes, self.task.maps)
        for row in {row.net: row for row in self.rows}.values():
            try:
                build(self.task, row.net, measure=True)
            except SymmetryError as refusal:
                raise SymmetryError(
                    f"--model: no network for the row {row.name!r} can be made from {self.task.model!r}. {refusal} Or "
                    "leave the row out with --only."
                ) from refusal

    def _finish(self, run: Run, tick: Tick) -> None:
        label, path = self._label(run), self._checkpoint(run)
        kept = training.load(self.task, run.row, path, self.epochs)
        if kept is None:
            tick(label, 0)
            one = lambda: tick(label, 1)  # noqa: E731
            training.train(self.task, run.row, run.samples, run.seed, self.epochs, path, one)
        net, seconds = self.load(run)
        if self.results.find(run.samples, run.row.name, run.seed) is None:
            predict = predictor(net, self.task, run.row)
            found = measure(self.task, predict, self.task.testing(run.seed))
            facts = {"weights": parameters(net), "passes": passes(self.task, run.row), "seconds": round(seconds, 3)}
            self.results.add({"samples": run.samples, "row": run.row.name, "seed": run.seed, **found, **facts})

    def _time(self) -> None:
        picture = self.task.testing(0).pictures[0][0][None]
        found = milliseconds(self.predictors(self.task.samples[0], 0), picture)
        self.results.put(milliseconds={**self.results.content["milliseconds"], **found})

    def predictors(self, samples: int, seed: int) -> dict[str, Predictor]:
        """Every row's way to predict."""
        runs = [Run(samples, row, seed) for row in self.rows]
        return {run.row.name: predictor(self.load(run)[0], self.task, run.row) for run in runs}

    def load(self, run: Run) -> tuple[nn.Module, float]:
        """The trained network of a run, and the seconds its training took."""
        kept = training.load(self.task, run.row, self._checkpoint(run), self.epochs)
        if kept is None:
            raise FileNotFoundError(self._checkpoint(run))
        return kept

    def _checkpoint(self, run: Run) -> Path:
        folder = self.results.folder / "checkpoints"
        return folder / f"{run.row.training}-{run.samples}-seed{run.seed}.ckpt"

    def _label(self, run: Run) -> str:
        return f"{run.row.training}, seed {run.seed}"
