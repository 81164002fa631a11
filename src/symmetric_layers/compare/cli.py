"""The command line, by Typer. What is slow to import waits until the arguments are known to be right."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from symmetric_layers import SymmetryError
from symmetric_layers.compare.data import NAMES
from symmetric_layers.compare.rows import ROWS, Row, choose
from symmetric_layers.errors import one_of, whole_number

if TYPE_CHECKING:
    from rich.console import Console

    from symmetric_layers.compare.experiment import Experiment

_UsageError: type[Exception] = typer.BadParameter.__bases__[0]  # public in click, which newer typers carry inside
_SEE = "See symmetric-layers compare --help."
_ROWS = "; ".join(f"{row.name}: {row.title}" for row in ROWS)

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.callback()
def _front() -> None:
    """Convolution layers whose filters come in mirror-image orbits."""


@app.command()
def compare(
    data: Annotated[str, typer.Option(metavar="NAME", help=f"The data set: {', '.join(NAMES)}.")] = "brain",
    seeds: Annotated[str, typer.Option(metavar="N", help="How often each row is trained.")] = "3",
    epochs: Annotated[str | None, typer.Option(metavar="N", help="Length of a training, if not the usual.")] = None,
    only: Annotated[str | None, typer.Option(metavar="ROWS", help=f"Rows, with commas in between. {_ROWS}.")] = None,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where results are written.")] = Path("compare-out"),
) -> None:
    """Train a plain network and its mirrored twins on real data, and say what changed.

    Prints a table, and writes results.json, report.html and checkpoints to a folder. Ctrl-C keeps what is finished;
    the same command continues it. No data set needs a download.
    """
    one_of("--data", data, NAMES)
    rows = choose(only)
    count = _count("--seeds", seeds)
    length = None if epochs is None else _count("--epochs", epochs)
    options = [f"--data={data}", f"--seeds={count}", *([f"--epochs={length}"] if length else [])]
    options += [f"--only={','.join(row.name for row in rows)}"] if only else []
    command = shlex.join(["symmetric-layers", "compare", *options, f"--out={out}"])
    _work(data, rows, count, length, out, command)


def run(arguments: Sequence[str]) -> int:
    """Runs the arguments, and returns the exit code; what they get wrong becomes one sentence."""
    try:
        code = app(list(arguments) or ["--help"], prog_name="symmetric-layers", standalone_mode=False)
    except _UsageError as error:
        raise SymmetryError(_sentence(error)) from error
    except typer.Abort:  # what Typer makes of Ctrl-C, or an exit code of 130
        code = 130
    if code == 130:
        raise KeyboardInterrupt
    return code if isinstance(code, int) else 0


def _count(option: str, text: str) -> int:
    return whole_number(option, int(text) if text.isascii() and text.isdigit() else text, 1)


def _sentence(error: Exception) -> str:
    option = getattr(error, "option_name", None)
    if isinstance(option, str) and "such option" in str(error):
        return f"{option}: this is no option. Expected --data, --seeds, --epochs, --only or --out. {_SEE}"
    return f"arguments: {str(error).rstrip('.?')}. Expected compare and its options. {_SEE}"


def _work(data: str, rows: tuple[Row, ...], seeds: int, epochs: int | None, out: Path, command: str) -> None:
    from rich.console import Console

    from symmetric_layers.compare.results import Results, writable

    writable(out)
    console = Console()
    if not console.is_terminal:
        console = Console(width=150)
    with console.status("Loading torch, Lightning, MONAI and the data"):
        import torch

        from symmetric_layers.compare.data import THREADS, load
        from symmetric_layers.compare.experiment import Experiment

        torch.set_num_threads(THREADS)
        task = load(data)
        results = Results(out, task.settings(epochs), command)
    experiment = Experiment(task, rows, seeds, epochs or task.epochs, results)
    try:
        _run(console, experiment)
    except KeyboardInterrupt:
        _show(console, experiment)
        raise
    _show(console, experiment)
    _write(console, experiment)


def _run(console: "Console", experiment: "Experiment") -> None:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description:<18}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=experiment.batches)
        experiment.run(lambda label, done: progress.update(bar, description=label, advance=done))


def _show(console: "Console", experiment: "Experiment") -> None:
    from symmetric_layers.compare.summary import lines, sentences
    from symmetric_layers.compare.table import draw

    table = lines(experiment.rows, experiment.seeds, experiment.task, experiment.results)
    if not table:
        return
    experiment.results.put(sentences=sentences(experiment.task, table))
    console.print(draw(experiment.task, table))
    for sentence in experiment.results.content["sentences"]:
        console.print(sentence, highlight=False)


def _write(console: "Console", experiment: "Experiment") -> None:
    from symmetric_layers.compare.report import write

    path = write(experiment)
    console.print(f"Written: {experiment.results.path} and {path}", highlight=False, soft_wrap=True)
