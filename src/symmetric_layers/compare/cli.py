"""The command line, by Typer. What is slow to import waits until the arguments are known to be right."""

import shlex
from collections.abc import Sequence
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from symmetric_layers import SymmetryError
from symmetric_layers.compare.data import NAMES
from symmetric_layers.compare.rows import ROWS, Row, choose
from symmetric_layers.compare.wishes import Wishes, number
from symmetric_layers.errors import one_of

if TYPE_CHECKING:
    from rich.console import Console

    from symmetric_layers.compare.experiment import Experiment


def _text(metavar: str, text: str) -> Any:
    return typer.Option(metavar=metavar, help=text)


_UsageError: type[Exception] = typer.BadParameter.__bases__[0]  # public in click, which newer typers carry inside
_SEE = "See symmetric-layers compare --help."
_ROWS = "; ".join(f"{row.name}: {row.title}" for row in ROWS)

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.callback()
def _front() -> None:
    """Convolution layers whose filters come in mirror-image orbits."""


@app.command()
def compare(
    data: Annotated[str, _text("DATA", f"{', '.join(NAMES)}; or a folder, or a table (.csv, .json).")] = "brain",
    model: Annotated[str | None, _text("NET", "small, unet, monai:NAME or package.module:function.")] = None,
    model_args: Annotated[str | None, _text("JSON", "Arguments for the model.")] = None,
    axes: Annotated[str | None, _text("LETTERS", "Along what the twins mirror: h, v, hv, hvz, ...")] = None,
    symmetry: Annotated[str | None, _text("JSON", "Of the drop-in banks, if not half of the filters.")] = None,
    size: Annotated[str | None, _text("HxW", "Of the pictures, if not their own.")] = None,
    batch: Annotated[str | None, _text("N", "Pictures in a batch.")] = None,
    workers: Annotated[str, _text("N", "Processes that read pictures.")] = "0",
    cache: Annotated[str, _text("MB", "Memory for pictures that need not be read again.")] = "1024",
    train_sizes: Annotated[str | None, _text("SIZES", "Numbers of training pictures: 25,50,100%.")] = None,
    seeds: Annotated[str, _text("N", "How often each row is trained.")] = "3",
    epochs: Annotated[str | None, _text("N", "Length of a training, if not the usual.")] = None,
    only: Annotated[str | None, _text("ROWS", f"Rows, with commas in between. {_ROWS}.")] = None,
    out: Annotated[Path, _text("FOLDER", "Where results are written.")] = Path("compare-out"),
) -> None:
    """Train a plain network and its mirrored twins, and say what changed: on built-in data, or on your own.

    Prints a table, and writes results.json, report.html and checkpoints to a folder. Ctrl-C keeps what is finished;
    the same command continues it. No built-in data set needs a download.
    """
    rows = choose(only)
    count = number("--seeds", seeds)
    length = None if epochs is None else number("--epochs", epochs)
    wishes = Wishes(data, model, model_args, axes, symmetry, size, batch, workers, cache, train_sizes).check()
    given = {"seeds": count, "epochs": length, "only": only and ",".join(row.name for row in rows), **wishes.spoken()}
    options = [f"--data={data}", *(f"--{name}={value}" for name, value in given.items() if value), f"--out={out}"]
    _work(wishes, rows, count, length, out, shlex.join(["symmetric-layers", "compare", *options]))


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where compare wrote results.json.")],
    format: Annotated[str, _text("FORMAT", "html (written to the folder), md, csv or json (printed).")] = "html",
) -> None:
    """Draw the report of a comparison again, from its results.json alone."""
    one_of("--format", format, ("html", "md", "csv", "json"))
    from symmetric_layers.compare import formats
    from symmetric_layers.compare.report import redraw

    if format == "html":
        typer.echo(f"Written: {redraw(folder)}")
    else:
        typer.echo(formats.text(folder, format))


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


def _sentence(error: Exception) -> str:
    option = getattr(error, "option_name", None)
    if isinstance(option, str) and "such option" in str(error):
        known = [f"--{name.replace('_', '-')}" for name in signature(compare).parameters]
        return f"{option}: this is no option. Expected {', '.join(known[:-1])} or {known[-1]}. {_SEE}"
    return f"arguments: {str(error).rstrip('.?')}. Expected compare or report, and their options. {_SEE}"


def _work(wishes: Wishes, rows: tuple[Row, ...], seeds: int, epochs: int | None, out: Path, command: str) -> None:
    from rich.console import Console

    from symmetric_layers.compare.results import Results, writable

    writable(out)
    console = Console()
    if not console.is_terminal:
        console = Console(width=150)
    with console.status("Loading torch, Lightning, MONAI and the data"):
        import torch

        from symmetric_layers.compare.data import THREADS
        from symmetric_layers.compare.experiment import Experiment

        torch.set_num_threads(THREADS)
        task = wishes.task()
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

    task, results = experiment.task, experiment.results
    table = lines(experiment.rows, experiment.seeds, task, results.content)
    if not table:
        return
    rows = [row.name for row in experiment.rows]
    results.put(told=task.told(), rows=rows, seeds=experiment.seeds, sentences=sentences(task, table))
    console.print(draw(task, table))
    for sentence in results.content["sentences"]:
        console.print(sentence, highlight=False)


def _write(console: "Console", experiment: "Experiment") -> None:
    from symmetric_layers.compare.drawings import drawings
    from symmetric_layers.compare.report import redraw

    results = experiment.results
    results.put(drawings=drawings(experiment))
    path = redraw(results.folder)
    console.print(f"Written: {results.path} and {path}", highlight=False, soft_wrap=True)
