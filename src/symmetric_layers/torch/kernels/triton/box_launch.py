"""How kernels that read in boxes are started: which tiles are tried, and what the copy engine is told."""

from collections.abc import Callable
from typing import Any

import triton

from symmetric_layers.torch.kernels.triton import box_tiles
from symmetric_layers.torch.kernels.triton.box_tiles import Tile
from symmetric_layers.torch.kernels.triton.boxes import box, counts, read_in
from symmetric_layers.torch.kernels.triton.launch import INTERPRETED, room

ACROSS = 64 if INTERPRETED else 32  # pixels of a box, where gradients lie across: 128 bytes of float32
_SHARED = 227 * 1024  # bytes of a multiprocessor's memory that all stages of a tile have to fit into
_KEY = ["bucket", "channels", "orbits", "kernel", "kind", "deep", "precision"]

_Said = dict[str, Any]
_Tiles = dict[int, dict[int, list[Tile]]]


def number_of(counts: tuple[int, ...]) -> int:
    """How many boxes there are."""
    pictures, deep, high, wide = counts
    return pictures * deep * high * wide


def _tuned(
    name: str, tiles: _Tiles, columns: str, depth: str, loads: Callable[[int, int], tuple[int, int]], told: _Said
) -> Callable:
    """Decorates a kernel: of a few tiles the fastest is taken, measured once per shape and remembered by Triton.

    Args:
        name: of the kernel.
        tiles: those that are tried, by the bytes of a number and by letters.
        columns, depth: the arguments that say how many columns there are, and what is summed over.
        loads: how many tiles of rows and of columns a turn brings, by the number of letters and of pieces.
        told: what else the kernel is told, worked out of its arguments and its tile, one after the other.
    """
    every = {tile for by_letters in tiles.values() for some in by_letters.values() for tile in some}
    configs = [_config(tile) for tile in sorted(every)]
    if INTERPRETED:
        configs = [_config(box_tiles.INTERPRETED[name])]

    def prune(configs: list[triton.Config], named: _Said, **more: Any) -> list[triton.Config]:
        wanted = [_config(tile).all_kwargs() for tile in fitting({**named, **more})]
        return [config for config in configs if INTERPRETED or config.all_kwargs() in wanted]

    def fitting(said: _Said) -> list[Tile]:
        letters, size = said["kind"].bit_count(), said["x"].element_size()
        some, several = tiles[size][letters], 2 if said["precision"] == "tf32x3" else 1
        widest = max(room(said[columns]), min(tile.columns for tile in some))
        deepest = max(room(said[depth]), min(tile.depth for tile in some))
        small = [tile for tile in some if tile.columns <= widest and tile.depth <= deepest]
        return [tile for tile in small if tile.bytes(*loads(2**letters, several), size) <= _SHARED]

    def decorate(kernel: Any) -> Any:
        key = [name for name in _KEY if name in kernel.arg_names]
        return triton.autotune(configs, key, {"early_config_prune": prune}, cache_results=True)(
            triton.heuristics(told)(kernel)
        )

    return decorate


def _config(tile: Tile) -> triton.Config:
    sides = {"rows": tile.rows, "columns": tile.columns, "depth": tile.depth}
    return triton.Config(sides, num_warps=tile.warps, num_stages=tile.stages)


def _reading(depth: str) -> _Said:
    """What kernels are told whose rows are the pixels of a box; `depth` says what is summed over."""
    return {
        "chunks": lambda said: -(-said[depth] // said["depth"]),
        "shape": lambda said: box(said["rows"], said["pictures"], said["answer"]),
        "counts": lambda said: counts(said["shape"], said["pictures"], said["answer"]),
        "x_boxes": lambda said: read_in(said["x"], (*said["shape"], said["depth"])),
        "packed_runs": lambda said: read_in(said["packed"].view(-1, said[depth]), (said["columns"], said["depth"])),
    }


def _parts_boxes(said: _Said) -> Any:
    if said["across"]:
        return read_in(said["parts"].view(-1, said["depth"]), (said["columns"], said["depth"]))
    return read_in(said["parts"], (*said["shape"], said["columns"]))


_SHARING = {
    "shape": lambda said: box(said["depth"], said["pictures"], said["answer"]),
    "counts": lambda said: counts(said["shape"], said["pictures"], said["answer"]),
    "boxes": lambda said: number_of(said["counts"]),
    "share": lambda said: -(-said["boxes"] // said["splits"]),
    "x_boxes": lambda said: read_in(said["x"], (*said["shape"], said["rows"])),
    "parts_boxes": _parts_boxes,
    "overhangs": lambda said: any(size % side for size, side in zip(said["answer"], said["shape"][1:], strict=True)),
}

for_answers = _tuned(
    "answers",
    box_tiles.ANSWERS,
    "orbits",
    "channels",
    lambda members, several: (members, members * several),
    _reading("channels"),
)
for_pictures = _tuned(
    "pictures",
    box_tiles.PICTURES,
    "channels",
    "orbits",
    lambda members, several: (members, several),
    _reading("orbits"),
)
for_filters = _tuned(
    "filters", box_tiles.FILTERS, "orbits", "pixels", lambda members, several: (members, members * several), _SHARING
)
