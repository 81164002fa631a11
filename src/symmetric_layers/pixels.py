"""Where channels stand that become pixels: a mirror exchanges them, and the places within a pixel that they go to.

Only the standard library is used here, nothing that is slow to import, and Python 3.7 runs it.
"""

from __future__ import annotations

from itertools import product

from symmetric_layers.errors import SymmetryError
from symmetric_layers.letters import mirrors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from symmetric_layers.orbits import Plan


def places_of_orbits(bank: Plan, factor: int) -> list[int]:
    """For every channel that becomes a pixel, in the host's order, where it stands in a bank of whole orbits.

    Args:
        bank: how the channels are arranged that have the pixels.
        factor: how many pixels there are for one, along each of two axes. The bank they come from has
            `factor ** 2` times as many orbits of every kind.
    """
    area = factor * factor
    places = [0] * (bank.filters * area)
    for block in bank.blocks:
        for orbit, row, column in product(range(block.orbits), range(factor), range(factor)):
            for member, mirrored in enumerate(mirrors(block.kind)):
                channel = block.filter + orbit * block.size + member
                stands = block.filter * area + (orbit * area + row * factor + column) * block.size + member
                places[channel * area + _place(row, column, factor, mirrored)] = stands
    return places


def places_of_plain(channels: int, axes: str, factor: int) -> list[int]:
    """The same for ordinary channels: their pixels are the orbits, which have to be whole.

    Raises:
        SymmetryError: for an odd factor, which leaves pixels that are their own mirror images.
    """
    if factor % 2:
        raise SymmetryError(
            f"factor: {factor} by {factor} pixels have a middle one, which is its own mirror image. Expected an even "
            "number where channels are no orbits. Use one, or channels that are orbits."
        )
    rows = factor // 2 if "v" in axes else factor
    columns = factor // 2 if "h" in axes else factor
    places = [0] * (channels * factor * factor)
    orbits = product(range(channels), range(rows), range(columns))
    size = 2 ** len(axes)
    for orbit, (channel, row, column) in enumerate(orbits):
        for member, mirrored in enumerate(mirrors(axes)):
            places[channel * factor * factor + _place(row, column, factor, mirrored)] = orbit * size + member
    return places


def _place(row: int, column: int, factor: int, mirrored: str) -> int:
    row = factor - 1 - row if "v" in mirrored else row
    column = factor - 1 - column if "h" in mirrored else column
    return row * factor + column
