"""The part of the report that shows the law layer by layer, drawn from the numbers alone."""

from collections.abc import Mapping
from html import escape
from typing import Any

from matplotlib.figure import Figure

from symmetric_layers.compare.plots import COLOURS, MARKS, SIZE, embedded
from symmetric_layers.compare.rows import ROWS

MANY = 12  # layers; more are folded away
_WHOLE = "the whole network"
_LEAST = 1e-17  # where a logarithmic axis shows 0
_TEXT = (
    "The trained networks of the first seed are asked about a test picture and its mirror image, in double precision "
    "(float64). The deviation is the largest difference between a layer's answer to the mirror image and its mirrored "
    "answer to the picture, over the largest value in it: some 1e-15 is rounding, and 1 is as large as the answer "
    "itself."
)

Law = Mapping[str, list[dict[str, Any]]]


def section(law: Law) -> str:
    """The heading, what the numbers say, a plot of them, and a table; nothing where nothing was measured."""
    if not law:
        return ""
    found = {row.title: {one["layer"]: one["deviation"] for one in law[row.name]} for row in ROWS if row.name in law}
    names = [name for name in dict.fromkeys(name for layers in found.values() for name in layers) if name] + [""]
    return (
        f"<h2>The law, measured layer by layer</h2><p>{_said(found)}</p><p>{_TEXT}</p>"
        f'<div class="one">{_plot(found, names)}</div>{_folded(_table(found, names), len(names) - 1)}'
    )


def _said(found: Mapping[str, Mapping[str, float]]) -> str:
    parts = [f"{_number(max(layers.values()))} with {title!r}" for title, layers in found.items()]
    return escape(f"The largest deviation of a layer from the law of mirrors is {', '.join(parts)}.")


def _plot(found: Mapping[str, Mapping[str, float]], names: list[str]) -> str:
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.add_subplot()
    for place, (title, layers) in enumerate(found.items()):
        shown = [(1 + names.index(name), max(error, _LEAST)) for name, error in layers.items()]
        look: dict[str, Any] = {"marker": MARKS[place], "color": COLOURS[place], "markersize": 5, "linewidth": 0.8}
        axes.plot(*zip(*sorted(shown), strict=True), label=title, **look)
    axes.set(xlabel="layers, the last one the whole network", ylabel="deviation from the law")
    axes.set_yscale("log")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=9)
    told = "; ".join(
        f"{title}: {_number(min(layers.values()))} to {_number(max(layers.values()))}"
        for title, layers in found.items()
    )
    return f"<figure>{embedded(figure, f'Deviation from the law against the place of the layer. {told}.')}</figure>"


def _table(found: Mapping[str, Mapping[str, float]], names: list[str]) -> str:
    head = "".join(f'<th scope="col">{escape(title)}</th>' for title in found)
    body = []
    for name in names:
        cells = "".join(
            f"<td>{_number(layers[name])}</td>" if name in layers else "<td>-</td>" for layers in found.values()
        )
        body.append(f'<tr><th scope="row">{escape(name or _WHOLE)}</th>{cells}</tr>')
    return (
        '<div class="wide small law" tabindex="0" role="region" aria-label="Deviations of all layers"><table><thead>'
        f'<tr><th scope="col">layer</th>{head}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'
    )


def _number(deviation: float) -> str:
    return f"{deviation:.2g}" if deviation >= 0.01 or not deviation else f"{deviation:.1e}"


def _folded(table: str, count: int) -> str:
    if count <= MANY:
        return table
    return f"<details><summary>All {count} layers, in numbers</summary>{table}</details>"
