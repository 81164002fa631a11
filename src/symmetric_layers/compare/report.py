"""The file `report.html`: self-contained, readable on a phone."""

import os
from collections.abc import Mapping
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from symmetric_layers.compare import layers, plots
from symmetric_layers.compare.data import Told
from symmetric_layers.compare.results import read
from symmetric_layers.compare.rows import ROWS
from symmetric_layers.compare.summary import Line, changes, lines
from symmetric_layers.compare.table import caption, cells, header

_BREAK = "\n"  # in the header of a column
_READING = (
    "{score} is measured on test pictures; {trained!r} is the side the networks were trained on, {other!r} the one "
    "they never saw.",
    "{unit} changed: how many get another class when the picture is mirrored, and the answer mirrored back. A network "
    "that is mirror-symmetric by construction has 0 up to the rounding of float32; the largest change of a probability "
    "in the twins was {largest:.1e}.",
    "Passes: how often the network runs for one prediction; TTA averages over the picture and its mirrors. "
    "Milliseconds are the median for one picture, all rows taking turns. Seconds to train are those of the run that "
    "trained the network; a row with TTA shares its network with the row without.",
    "Drop-in banks: half of each layer's filters are mirror images, each layer for itself. Twins: all filters are "
    "orbits, and every layer exchanges the channels of the one before, so that the whole network is mirror-symmetric.",
)


def redraw(folder: Path) -> Path:
    """Draws the report again, from results.json alone, and says where."""
    return write(folder, read(folder / "results.json", "FOLDER"))


def write(folder: Path, content: Mapping[str, Any]) -> Path:
    """Writes the report of the finished runs, and says where."""
    template = Template(Path(__file__).with_name("report.html").read_text(encoding="utf-8"))
    path = folder / "report.html"
    part = path.with_suffix(".part")
    part.write_text(template.substitute(_parts(content)), encoding="utf-8")
    os.replace(part, path)
    return path


def told(content: Mapping[str, Any]) -> Told:
    """What results.json says of the task."""
    parts: dict[str, Any] = {}
    for name, value in content["told"].items():
        parts[name] = tuple(value) if isinstance(value, list) else value
    return Told(**parts)


def table_of(content: Mapping[str, Any]) -> list[Line]:
    """The table of the rows that were asked for last."""
    rows = tuple(row for row in ROWS if row.name in content["rows"])
    return lines(rows, content["seeds"], told(content), content)


def _parts(content: Mapping[str, Any]) -> dict[str, str]:
    task, table = told(content), table_of(content)
    return {
        "title": escape(task.title),
        "said": _paragraphs([*content["sentences"], *changes(task, table)]),
        "table": _table(task, table),
        "about": _paragraphs(task.about),
        "plots": plots.drawn(task, table),
        "shown": "One picture, and its mirror" if task.maps else "Some pictures, and their mirrors",
        "pictures": content["drawings"].get("pictures", ""),
        "filters": content["drawings"].get("filters", ""),
        "law": layers.section(content.get("law", {})),
        "reading": _paragraphs(_reading(task, table)),
        "command": " ".join(f"<span>{escape(word)}</span>" for word in content["command"].split(" ")),
        "settings": _list({**content["settings"], **content["versions"], **content["machine"]}),
    }


def _table(task: Told, table: list[Line]) -> str:
    head = "".join(f'<th scope="col">{escape(name).replace(_BREAK, "<br>")}</th>' for name in header(task))
    body = []
    for line in table:
        body.append("<tr>" + "".join(_cell(text, text == line.row.title) for text in cells(task, line)) + "</tr>")
    return (
        f"<table><caption>{escape(caption(table))}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(body)}</tbody></table>"
    )


def _cell(text: str, is_name: bool) -> str:
    return f'<th scope="row">{escape(text)}</th>' if is_name else f"<td>{escape(text)}</td>"


def _reading(task: Told, table: list[Line]) -> list[str]:
    twins = [run["largest_difference"] for line in table if line.row.net in ("twin", "wide") for run in line.runs]
    words: dict[str, Any] = {"trained": task.sides[0], "other": task.sides[1], "largest": max(twins, default=0.0)}
    return [text.format(score=task.score.capitalize(), unit=task.unit.capitalize(), **words) for text in _READING]


def _paragraphs(texts: tuple[str, ...] | list[str]) -> str:
    return "".join(f"<p>{escape(text)}</p>" for text in texts)


def _list(values: Mapping[str, Any]) -> str:
    texts = {name: ", ".join(map(str, value)) if isinstance(value, list) else value for name, value in values.items()}
    return "".join(f"<dt>{name.replace('_', ' ')}</dt><dd>{escape(str(text))}</dd>" for name, text in texts.items())
