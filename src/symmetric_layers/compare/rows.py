"""The rows of the comparison: which network, how it is trained, how it predicts."""

from dataclasses import dataclass

from symmetric_layers.errors import SymmetryError


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        net: `'plain'`, `'bank'` (mirrored banks dropped in), `'twin'` (equivariant, equal channels) or `'wide'`
            (equivariant, equal weights).
        augment: whether training pictures are mirrored at random.
        average: whether predictions are averaged over the picture and its mirrors.
    """

    name: str
    title: str
    net: str
    augment: bool = False
    average: bool = False

    @property
    def training(self) -> str:
        """The name of the training that this row needs; rows with the same one share the network."""
        return "augment" if self.augment else self.net


ROWS = (
    Row("plain", "plain", "plain"),
    Row("augment", "plain + augmentation", "plain", augment=True),
    Row("tta", "plain + augmentation + TTA", "plain", augment=True, average=True),
    Row("bank", "drop-in banks", "bank"),
    Row("twin", "twin, equal channels", "twin"),
    Row("wide", "twin, equal weights", "wide"),
)
NAMES = tuple(row.name for row in ROWS)


def choose(only: str | None) -> tuple[Row, ...]:
    """The rows named in a comma-separated list, in the order of the table; all where there is none."""
    if only is None:
        return ROWS
    names = [name.strip() for name in only.split(",")]
    for name in names:
        if name not in NAMES:
            raise SymmetryError(
                f"--only: {name!r} is no row. Expected one or more of {', '.join(NAMES)}. "
                "Name them with commas in between."
            )
    return tuple(row for row in ROWS if row.name in names)
