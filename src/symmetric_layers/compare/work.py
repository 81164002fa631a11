"""A comparison from its options to its report; only the first of several processes prints and writes."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from symmetric_layers.compare.budget import Fair
from symmetric_layers.compare.rows import Row
from symmetric_layers.compare.scale import Scale
from symmetric_layers.compare.wishes import Wishes

if TYPE_CHECKING:
    from rich.console import Console

    from symmetric_layers.compare.experiment import Experiment


class Asked(NamedTuple):
    """What is asked for besides data and networks."""

    rows: tuple[Row, ...]
    seeds: int
    epochs: int | None
    scale: Scale
    fair: Fair
    logs: Path | None
    out: Path
    command: str


def work(wishes: Wishes, asked: Asked) -> None:
    """Does what is asked for, and prints the table."""
    from rich.console import Console

    from symmetric_layers.compare.results import writable

    writable(asked.out)
    console = Console()
    if not console.is_terminal:
        console = Console(width=150)
    with console.status("Loading torch, Lightning, MONAI and the data"):
        experiment = _experiment(wishes, asked)
    experiment.crew.start()  # the other processes begin from the top, and come here, too
    console.quiet = not experiment.crew.first
    if experiment.crew.first:
        experiment.results.write()
    try:
        _run(console, experiment)
    except KeyboardInterrupt:
        if not experiment.crew.first:
            raise SystemExit(0) from None
        _show(console, experiment)
        experiment.crew.end()
        raise
    if experiment.crew.first:
        _show(console, experiment)
        _write(console, experiment)


def _experiment(wishes: Wishes, asked: Asked) -> "Experiment":
    """All that is to be done, if it can be."""
    import torch

    from symmetric_layers.compare.crew import Crew
    from symmetric_layers.compare.data import THREADS
    from symmetric_layers.compare.experiment import Experiment
    from symmetric_layers.compare.results import Results

    torch.set_num_threads(THREADS)
    crew, task = Crew(asked.scale), wishes.task()
    asked.scale.check_batch(task.batch)
    asked.fair.check(task)
    task = replace(task, facts=(*task.facts, *asked.scale.settings().items(), *asked.fair.settings(asked.rows).items()))
    results = Results(asked.out, task.settings(asked.epochs), asked.command)
    experiment = Experiment(
        task, asked.rows, asked.seeds, asked.epochs or task.epochs, results, crew, asked.fair, asked.logs
    )
    experiment.check()
    return experiment


def _run(console: "Console", experiment: "Experiment") -> None:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description:<18}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=experiment.batches)

        def tick(label: str, done: int) -> None:
            progress.update(bar, description=label, advance=done, total=experiment.batches)

        experiment.run(tick)


def _show(console: "Console", experiment: "Experiment") -> None:
    from symmetric_layers.compare import budget
    from symmetric_layers.compare.summary import lines, sentences
    from symmetric_layers.compare.table import draw

    task, results = experiment.task, experiment.results
    table = lines(experiment.rows, experiment.seeds, task, results.content)
    if not table:
        return
    rows = [row.name for row in experiment.rows]
    said = [*sentences(task, table), *budget.sentences(experiment.fair, table)]
    results.put(told=task.told(), rows=rows, seeds=experiment.seeds, sentences=said)
    console.print(draw(task, table))
    for sentence in results.content["sentences"]:
        console.print(sentence, highlight=False)


def _write(console: "Console", experiment: "Experiment") -> None:
    from symmetric_layers.compare.drawings import drawings
    from symmetric_layers.compare.law import measured
    from symmetric_layers.compare.report import redraw

    results = experiment.results
    results.put(drawings=drawings(experiment), law=measured(experiment))
    path = redraw(results.folder)
    console.print(f"Written: {results.path} and {path}", highlight=False, soft_wrap=True)
