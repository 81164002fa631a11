"""The tiles that are tried where kernels read in boxes: for each kernel a few, the fastest ones on an H200."""

from typing import NamedTuple


class Tile(NamedTuple):
    """One way to cut the work.

    Attributes:
        rows, columns, depth: sides of the tiles that are multiplied.
        warps, stages: of a program, and of the pipeline that brings tiles.
    """

    rows: int
    columns: int
    depth: int
    warps: int
    stages: int

    def bytes(self, rows: int, columns: int, size: int) -> int:
        """Of so many tiles on both sides; rows go into registers a stage earlier."""
        kept = rows * self.rows * max(self.stages - 1, 1) + columns * self.columns * self.stages
        return kept * self.depth * size


# by the bytes of a number, then by the letters of the orbits: the sums of a tile take up to 128 registers of a thread
ANSWERS = {
    2: {
        1: [Tile(128, 128, 64, 8, 3), Tile(128, 64, 64, 4, 3), Tile(64, 128, 64, 4, 2), Tile(64, 32, 64, 4, 3),
            Tile(64, 32, 16, 4, 3)],
        2: [Tile(64, 64, 64, 4, 2), Tile(128, 64, 64, 8, 2), Tile(128, 32, 64, 4, 2), Tile(128, 32, 32, 4, 3),
            Tile(64, 16, 64, 4, 2), Tile(64, 16, 16, 4, 3)],
        3: [Tile(64, 32, 32, 4, 2), Tile(64, 16, 64, 4, 2), Tile(64, 16, 32, 4, 2), Tile(64, 16, 16, 4, 2)],
    },
    4: {
        1: [Tile(64, 64, 32, 4, 2), Tile(128, 128, 32, 8, 2), Tile(128, 64, 32, 8, 3), Tile(64, 128, 32, 4, 2),
            Tile(64, 32, 32, 4, 3), Tile(64, 32, 16, 4, 3)],
        2: [Tile(64, 64, 32, 4, 2), Tile(128, 64, 16, 8, 3), Tile(64, 32, 32, 4, 2), Tile(64, 16, 16, 4, 3)],
        3: [Tile(64, 16, 32, 4, 2), Tile(64, 16, 16, 4, 2)],
    },
}  # fmt: skip
_16_BIT = [Tile(128, 256, 64, 8, 2), Tile(128, 128, 64, 4, 3), Tile(128, 128, 32, 4, 3), Tile(128, 64, 64, 4, 3),
           Tile(64, 32, 64, 4, 3), Tile(64, 32, 16, 4, 3)]  # fmt: skip
_32_BIT = [Tile(128, 128, 32, 8, 2), Tile(64, 128, 32, 4, 2), Tile(128, 128, 16, 4, 3), Tile(64, 64, 32, 4, 2),
           Tile(64, 32, 16, 4, 2)]  # fmt: skip
PICTURES = {2: dict.fromkeys((1, 2, 3), _16_BIT), 4: dict.fromkeys((1, 2, 3), _32_BIT)}
FILTERS = {  # rows are channels, and depth is pixels
    2: {
        1: [Tile(128, 128, 64, 8, 3), Tile(128, 64, 64, 8, 3), Tile(64, 64, 64, 4, 3), Tile(64, 32, 64, 4, 3)],
        2: [Tile(64, 64, 64, 4, 2), Tile(64, 64, 32, 4, 3), Tile(64, 32, 64, 4, 2), Tile(64, 16, 64, 4, 2),
            Tile(64, 16, 32, 4, 3)],
        3: [Tile(64, 16, 32, 4, 2), Tile(64, 32, 32, 8, 2)],
    },
    4: {
        1: [Tile(128, 128, 32, 8, 2), Tile(128, 64, 32, 8, 3), Tile(64, 64, 32, 4, 3), Tile(64, 32, 32, 4, 3)],
        2: [Tile(64, 64, 32, 4, 2), Tile(64, 32, 32, 4, 2), Tile(64, 16, 32, 4, 2)],
        3: [Tile(64, 16, 32, 4, 2), Tile(64, 16, 32, 4, 1)],
    },
}  # fmt: skip
INTERPRETED = {
    "answers": Tile(128, 16, 16, 4, 1),
    "pictures": Tile(128, 16, 16, 4, 1),
    "filters": Tile(16, 16, 64, 4, 1),
}
