"""Sorting: channels that are orbits, side by side, become one run of channels per member, or per part.

Tensor cores want neighbours in memory to be channels of the same member. The parts of gradients are what the butterfly
makes of their members.
"""

import triton
import triton.language as tl

from symmetric_layers.torch.kernels.triton.lacing import unlaced
from symmetric_layers.torch.kernels.triton.launch import INTERPRETED
from symmetric_layers.torch.kernels.triton.places import pixel
from symmetric_layers.torch.kernels.triton.tuples import butterfly

_TILES = [(512, 16)] if INTERPRETED else [(32, 32), (64, 16)]


@triton.autotune(
    [triton.Config({"rows": rows, "columns": columns}) for rows, columns in _TILES],
    ["bucket", "orbits", "letters"],
    cache_results=True,
)
@triton.jit(do_not_specialize=["pixels", "bucket"])
def members(
    x, y, pixels, orbits, answer, lies, bucket, letters: tl.constexpr, folding: tl.constexpr, wide: tl.constexpr,
    rows: tl.constexpr, columns: tl.constexpr,
):  # fmt: skip
    """Writes `(members, pixels, orbits)`, as they are or `folding` them.

    Args:
        x: pictures whose channels are orbits; `lies` are their strides: of pictures, channels and axes.
        y: dense.
        pixels, orbits: how many there are.
        answer: the sizes of a picture, three numbers.
        letters: how many letters the orbits have.
    """
    block = tl.program_id(0)
    if wide:
        block = block.to(tl.int64)
    index = block * rows + tl.arange(0, rows)
    picture, z, high, across = pixel(index, answer)
    place = picture * lies[0] + z * lies[2] + high * lies[3] + across * lies[4]
    first = tl.program_id(1) * columns
    channel = first * 2**letters + tl.arange(0, columns * 2**letters)
    wanted = (index < pixels)[:, None] & (channel < orbits * 2**letters)[None, :]
    pointers = x + place[:, None] + (channel.to(place.dtype) * lies[1])[None, :]
    tile = tl.load(pointers, mask=wanted, other=0.0).to(tl.float32)
    tiles = unlaced(tile, letters, rows, columns)
    if folding:
        tiles = butterfly(tiles, letters)
    orbit = first + tl.arange(0, columns)
    kept = (index < pixels)[:, None] & (orbit < orbits)[None, :]
    for member in tl.static_range(2**letters):
        run = member * tl.cast(pixels, tl.int64) * orbits
        target = y + run + index[:, None] * orbits + orbit[None, :]
        tl.store(target, tiles[member].to(y.dtype.element_ty), mask=kept)
