"""All runs of a comparison: train, or take up what is trained; measure; keep."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from symmetric_layers import SymmetryError
from symmetric_layers.compare import training
from symmetric_layers.compare.budget import FACTORS, Course, Fair, reference, usual
from symmetric_layers.compare.crew import Crew
from symmetric_layers.compare.data import Task
from symmetric_layers.compare.measure import Predictor, measure, milliseconds, passes, predictor
from symmetric_layers.compare.models import example, parameters
from symmetric_layers.compare.named import check_answer
from symmetric_layers.compare.results import Results
from symmetric_layers.compare.rows import Row
from symmetric_layers.compare.search import rate_scores, steps_in_time
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
    crew: Crew = field(default_factory=Crew)
    fair: Fair = field(default_factory=Fair)
    log: Path | None = None

    @property
    def batches(self) -> int:
        """How many batches are trained if nothing is finished, as far as that is known."""
        trainings = {row.training: row for row in self.rows}.values()
        search = len(FACTORS) if self.fair.search else 0
        return sum(self.course(row).steps * (len(self.task.samples) * self.seeds + search) for row in trainings)

    def course(self, row: Row) -> Course:
        """How long and how fast a row is trained."""
        known = self.results.content["courses"].get(row.training, {})
        return usual(self.task, self.epochs)._replace(**{name: known[name] for name in known if name != "scores"})

    def plan(self) -> Iterator[Run]:
        """All runs, in the order in which they are made: whole seeds first, so that an early end compares fairly."""
        for samples in self.task.samples:
            for seed in range(self.seeds):
                for row in self.rows:
                    yield Run(samples, row, seed)

    def run(self, tick: Tick) -> None:
        """Makes all runs that are not finished, then times the predictions of all rows in turn."""
        for row in {row.training: row for row in self.rows}.values():
            self._decide(row, tick)
        trained = set()
        for run in self.plan():
            name = self._checkpoint(run)
            if self.crew.agree(lambda run=run, name=name: not (self._find(run) and name.is_file())):  # type: ignore[misc]
                self._finish(run, tick)
            elif name not in trained:
                tick(self._label(run), self.course(run.row).steps)
            trained.add(name)
        if self.crew.first and not {row.name for row in self.rows} <= self.results.content["milliseconds"].keys():
            self._time()

    def _decide(self, row: Row, tick: Tick) -> None:
        """How long and how fast a row is trained, where that is not the usual; kept before anything rests on it."""
        known = self.crew.agree(lambda: self.results.content["courses"].get(row.training, {}))
        other = reference(self.rows)
        if self.fair.equal == "time" and "steps" not in known and row.training != other.training:
            tick(f"{row.training}, timing", 0)
            steps = steps_in_time(self.task, row, other, self.epochs, self.crew)
            known = {**known, "steps": self.crew.agree(lambda: steps)}
        self._keep(row, known)
        if self.fair.search and "rate" not in known:
            one = lambda: tick(f"{row.training}, rates", 1)  # noqa: E731
            folder = self.results.folder / "checkpoints"
            scores = rate_scores(self.task, row, self.course(row), folder, self.crew, one)
            self._keep(row, {**known, "rate": max(scores, key=lambda rate: scores[rate]), "scores": scores})
            for path in folder.glob(f"search-{row.training}-*") if self.crew.first else ():
                path.unlink()

    def _keep(self, row: Row, known: dict[str, Any]) -> None:
        if known:
            self.results.content["courses"][row.training] = known
            if self.crew.first:
                self.results.write()

    def _find(self, run: Run) -> dict[str, Any] | None:
        return self.results.find(run.samples, run.row.name, run.seed)

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
        label, path, course = self._label(run), self._checkpoint(run), self.course(run.row)
        if self.crew.agree(lambda: training.kept(self.task, path, course) is None):
            tick(label, 0)
            one = lambda: tick(label, 1)  # noqa: E731
            training.train(self.task, run.row, run.samples, run.seed, course, path, one, self.crew, self.log)
        if self.crew.first and self._find(run) is None:
            net, seconds = self.load(run)
            predict = predictor(net.to(self.crew.device), self.task, run.row)
            found = measure(self.task, predict, self.task.testing(run.seed))
            facts = {"weights": parameters(net), "passes": passes(self.task, run.row), "seconds": round(seconds, 3)}
            facts |= {"steps": course.steps, "rate": course.rate}
            self.results.add({"samples": run.samples, "row": run.row.name, "seed": run.seed, **found, **facts})

    def _time(self) -> None:
        picture = self.task.testing(0).pictures[0][0][None]
        found = milliseconds(self.predictors(self.task.samples[0], 0), picture)
        self.results.put(milliseconds={**self.results.content["milliseconds"], **found})

    def predictors(self, samples: int, seed: int) -> dict[str, Predictor]:
        """Every row's way to predict."""
        runs = [Run(samples, row, seed) for row in self.rows]
        nets = {run.row.name: self.load(run)[0].to(self.crew.device) for run in runs}
        return {run.row.name: predictor(nets[run.row.name], self.task, run.row) for run in runs}

    def load(self, run: Run) -> tuple[nn.Module, float]:
        """The trained network of a run, and the seconds its training took."""
        kept = training.load(self.task, run.row, self._checkpoint(run), self.course(run.row))
        if kept is None:
            raise FileNotFoundError(self._checkpoint(run))
        return kept

    def _checkpoint(self, run: Run) -> Path:
        folder = self.results.folder / "checkpoints"
        return folder / f"{run.row.training}-{run.samples}-seed{run.seed}.ckpt"

    def _label(self, run: Run) -> str:
        return f"{run.row.training}, seed {run.seed}"
