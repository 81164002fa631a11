"""How kernels are started: which tiles are tried, how tensors lie in memory, and whether the interpreter runs them."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch
import triton
from torch import Tensor

from symmetric_layers.torch.kernels.triton.measured import multiplies_as_tf32

Grid = Callable[[dict[str, Any]], tuple[int, ...]]  # how many programs there are, from what a kernel is told

INTERPRETED = bool(triton.knobs.runtime.interpret)  # as the kernels were decorated
_ONE_AFTER_THE_OTHER = threading.Lock()  # the tuner and the interpreter remember what they are doing

# rows, columns, warps, stages, by the letters whose parts are summed side by side: the sums of one tile take up to 128
# registers of a thread, and what is being folded about as many
_TILES = {
    0: [(128, 128, 8, 3), (128, 64, 4, 3), (64, 64, 4, 4), (64, 32, 4, 4), (128, 16, 4, 3)],
    1: [(128, 128, 8, 3), (128, 64, 4, 3), (64, 64, 4, 3), (64, 32, 4, 3), (128, 16, 4, 3)],
    2: [(128, 64, 8, 3), (64, 64, 4, 2), (64, 32, 4, 3), (64, 16, 4, 3)],
    3: [(64, 32, 8, 2), (64, 16, 4, 2)],
}
_DEPTHS = (16, 32, 64)
_RUN = (64, 128)  # bytes that are loaded side by side
_ALL = [
    triton.Config({"rows": rows, "columns": columns, "depth": depth}, warps, stages)
    for rows, columns, warps, stages in sorted({tile for tiles in _TILES.values() for tile in tiles})
    for depth in _DEPTHS
]


def tuned(key: str, about: Callable[[dict[str, Any]], tuple[int, int, int]], rows: int, depth: int) -> Callable:
    """Decorates a kernel: of a few tiles the fastest is taken, measured once per shape and remembered by Triton.

    Args:
        key: the arguments that make a shape.
        about: says of the arguments how many letters are summed side by side, and how many columns and numbers of
            depth there are.
        rows, depth: of the one tile that is interpreted: few large ones, as every operation takes its time there.
    """
    configs = [triton.Config({"rows": rows, "columns": 16, "depth": depth})] if INTERPRETED else _ALL
    fitting = {"early_config_prune": lambda configs, named, **more: fit(configs, {**named, **more}, about)}
    return triton.autotune(configs, key.split(), fitting, cache_results=True)


def fit(configs: Sequence[Any], arguments: dict[str, Any], about: Callable[..., tuple[int, int, int]]) -> list[Any]:
    """The tiles that are worth a try: sums and folded tiles stay in registers, and little of a tile is empty."""
    letters, columns, depth = about(arguments)
    size = next(value.element_size() for value in arguments.values() if isinstance(value, Tensor))
    side, deep = room(columns), room(depth)
    widest = max(tile[1] for tile in _TILES[letters] if tile[1] <= side)
    tiles = {tile for tile in _TILES[letters] if widest // 2 <= tile[1] <= widest}
    depths = {min(run // size, deep) for run in (_RUN if letters < 3 else _RUN[:1])}

    def fits(config: Any) -> bool:
        tile = config.kwargs
        return (tile["rows"], tile["columns"], config.num_warps, config.num_stages) in tiles and tile["depth"] in depths

    return list(filter(fits, configs))


def room(number: int) -> int:
    """The smallest side of a tile that holds so many."""
    return max(16, 1 << (number - 1).bit_length())


def start(program: Any, grid: Grid, *arguments: Any, **named: Any) -> None:
    """Runs a kernel on the device of its first argument, on the stream that is current there."""
    first = arguments[0] if arguments else next(iter(named.values()))
    with _ONE_AFTER_THE_OTHER, torch.cuda.device_of(first):
        program[grid](*arguments, **named)


def three(numbers: Sequence[int], fill: int) -> tuple[int, ...]:
    """One number per axis, for always three axes."""
    return (*[fill] * (3 - len(numbers)), *map(int, numbers))


def lies(x: Tensor) -> tuple[int, ...]:
    """The strides of pictures, channels and three axes."""
    return (x.stride(0), x.stride(1), *three(x.stride()[2:], 0))


def is_wide(*tensors: Tensor) -> bool:
    """Whether places in one of the tensors need more than 32 bits."""
    reach = [sum((n - 1) * stride for n, stride in zip(x.shape, x.stride(), strict=True)) for x in tensors]
    return max(reach) >= 2**30  # a tile may begin before the end of a tensor


def bucket(pixels: int) -> int:
    """About how many pixels: what was measured for so many holds for a few more."""
    return pixels.bit_length()


def precision(dtype: torch.dtype) -> str:
    """How float32 is multiplied, by the host's switch for convolutions: as TF32, or thrice, which is as near."""
    if dtype != torch.float32:
        return "ieee"
    return "tf32" if multiplies_as_tf32() else "tf32x3"
