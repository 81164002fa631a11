"""The command line, by Typer. What is slow to import waits until the arguments are known to be right."""

import shlex
from collections.abc import Sequence
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import Annotated, Any

import typer

from symmetric_layers import SymmetryError
from symmetric_layers.compare.budget import EQUAL, Fair
from symmetric_layers.compare.data import NAMES
from symmetric_layers.compare.rows import ROWS, choose
from symmetric_layers.compare.scale import Scale
from symmetric_layers.compare.wishes import Wishes, number
from symmetric_layers.compare.work import Asked, work
from symmetric_layers.errors import one_of


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
    left_right_labels: Annotated[str | None, _text("PAIRS", "Values of masks that h exchanges: 3:4,7:8.")] = None,
    symmetry: Annotated[str | None, _text("JSON", "Of the drop-in banks, if not half of the filters.")] = None,
    size: Annotated[str | None, _text("HxW", "Of the pictures, if not their own.")] = None,
    batch: Annotated[str | None, _text("N", "Pictures in a batch.")] = None,
    workers: Annotated[str, _text("N", "Processes that read pictures.")] = "0",
    cache: Annotated[str, _text("MB", "Memory for pictures that need not be read again.")] = "1024",
    train_sizes: Annotated[str | None, _text("SIZES", "Numbers of training pictures: 25,50,100%.")] = None,
    seeds: Annotated[str, _text("N", "How often each row is trained.")] = "3",
    epochs: Annotated[str | None, _text("N", "Length of a training, if not the usual.")] = None,
    equal: Annotated[str, _text("WHAT", "What every row gets as much of: steps or time.")] = "steps",
    lr_search: Annotated[bool, typer.Option("--lr-search", help="Search each row's learning rate.")] = False,
    devices: Annotated[str, _text("N", "Processes that train together, on each machine.")] = "1",
    num_nodes: Annotated[str, _text("N", "Machines that train together.")] = "1",
    strategy: Annotated[str, _text("NAME", "ddp or fsdp, with several processes.")] = "ddp",
    precision: Annotated[str, _text("NAME", "32-true, 64-true or bf16-mixed, in training.")] = "32-true",
    accelerator: Annotated[str, _text("NAME", "cpu, gpu or auto.")] = "cpu",
    log: Annotated[str | None, _text("NAME", "tensorboard: losses, scores and rates, in FOLDER/logs.")] = None,
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
    about_data = (size, batch, workers, cache, train_sizes, left_right_labels)
    wishes = Wishes(data, model, model_args, axes, symmetry, *about_data).check()
    scale = Scale(number("--devices", devices), number("--num-nodes", num_nodes), strategy, precision, accelerator)
    fair = Fair(one_of("--equal", equal, EQUAL), lr_search)
    given = {"seeds": count, "epochs": length, "only": only and ",".join(row.name for row in rows), **wishes.spoken()}
    given |= {"equal": equal if equal != "steps" else None, **scale.spoken()}
    options = [f"--data={data}", *(f"--{name}={value}" for name, value in given.items() if value)]
    options += ["--lr-search"] * lr_search + [f"--out={out}"]
    logs = _logs(log, out)
    command = shlex.join(["symmetric-layers", "compare", *options])
    work(wishes, Asked(rows, count, length, scale, fair, logs, out, command))


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


def _logs(log: str | None, out: Path) -> Path | None:
    if log is None:
        return None
    one_of("--log", log, ("tensorboard",))
    if not any(map(find_spec, ("tensorboard", "tensorboardX"))):
        raise SymmetryError(
            "--log: 'tensorboard' needs a package that is not installed. Expected tensorboard or tensorboardX. Install "
            "it with: pip install tensorboardX"
        )
    return out / "logs"
