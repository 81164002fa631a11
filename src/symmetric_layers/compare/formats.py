"""The table as text: for a page, for a spreadsheet, for a program."""

import csv
import io
import json
from pathlib import Path
from statistics import stdev
from typing import Any

from symmetric_layers.compare.report import table_of, told
from symmetric_layers.compare.results import read
from symmetric_layers.compare.summary import Line
from symmetric_layers.compare.table import caption, cells, header

_MEASURED = ("trained", "other", "changed", "seconds")


def text(folder: Path, form: str) -> str:
    """The finished runs of a folder, as `'md'`, `'csv'` or `'json'`."""
    content = read(folder / "results.json", "FOLDER")
    task, table = told(content), table_of(content)
    if form == "md":
        rows = [[name.replace("\n", " ") for name in header(task)], *(cells(task, line) for line in table)]
        lines = ["| " + " | ".join(row) + " |" for row in rows]
        lines.insert(1, "|" + " --- |" * len(rows[0]))
        return "\n\n".join(["\n".join(lines), caption(table), *content["sentences"]])
    plain = [_facts(line) for line in table]
    if form == "json":
        return json.dumps({"title": task.title, "sides": task.sides, "rows": plain}, indent=1)
    file = io.StringIO()
    writer = csv.DictWriter(file, list(plain[0]) if plain else ["row"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(plain)
    return file.getvalue().rstrip("\n")


def _facts(line: Line) -> dict[str, Any]:
    found: dict[str, Any] = {"samples": line.samples, "row": line.row.name, "seeds": len(line.runs)}
    for name in _MEASURED:
        values = list(line.values(name).values())
        found |= {name: line.mean(name), f"{name}_deviation": stdev(values) if len(values) > 1 else None}
    return {**found, "weights": line.runs[0]["weights"], "passes": line.runs[0]["passes"], "ms": line.milliseconds}
