"""Writes the README's tables: `make readme`. Nobody types numbers.

Reads what `make demo` wrote to `compare-out`, and runs `benchmarks/layers.py`.
"""

import pathlib
import subprocess
import sys

from clock import machine, put, table

from symmetric_layers.compare.data import load
from symmetric_layers.compare.results import Results
from symmetric_layers.compare.rows import ROWS
from symmetric_layers.compare.summary import lines, sentences
from symmetric_layers.compare.table import caption, cells, header

HERE = pathlib.Path(__file__).parent
README = HERE.parent / "README.md"
COMPARED = HERE.parent / "compare-out"


def comparison() -> str:
    """The table of the demo, and what it says."""
    task = load("brain")
    results = Results(COMPARED, task.settings(None), "symmetric-layers compare --data=brain --seeds=3")
    seeds = 1 + max(run["seed"] for run in results.runs)
    found = lines(ROWS, seeds, task, results.content)
    names = [name.replace("\n", " ") for name in header(task)]
    rows = [cells(task, line) for line in found]
    where = f"`make demo` on {machine()}. {caption(found)}"
    return "\n\n".join([where, table(names, rows), *sentences(task, found)])


def costs() -> str:
    """What the benchmark prints."""
    command = [sys.executable, str(HERE / "layers.py")]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    put(README, "compare", comparison())
    put(README, "benchmark", costs())
