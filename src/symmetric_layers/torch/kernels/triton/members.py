"""Sorting: channels that are orbits, side by side, become one run of channels per member, or per part.

Tensor cores want neighbours in memory to be channels of the same member. The parts of gradients are what the butterfly
makes of their members.
"""

import triton
import triton.language as tl

from symmetric_layers.torch.kernels.triton.boxes import corner, placed
from symmetric_layers.torch.kernels.triton.lacing import unlaced
from symmetric_layers.torch.kernels.triton.launch import INTERPRETED
from symmetric_layers.torch.kernels.triton.places import pixel
from symmetric_layers.torch.kernels.triton.tuples import butterfly, coarse

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


@triton.jit
def members_across(
    x, y, pictures, boxes, orbits, answer, lies, counts, letters: tl.constexpr, pieces: tl.constexpr,
    wide: tl.constexpr, rows: tl.constexpr, columns: tl.constexpr, shape: tl.constexpr,
):  # fmt: skip
    """Writes the parts of gradients box after box, `(pieces, parts, boxes, orbits, pixels)`: neighbours are pixels.

    Args:
        x: gradients; `lies` are their strides: of pictures, channels and axes.
        y: dense.
        pictures, boxes, orbits: how many there are; `answer` are the sizes of a picture, three numbers.
        counts, shape: how many boxes there are along all axes, and their sizes.
        pieces: two where float32 is multiplied as TF32 thrice: what TF32 keeps of a number, and what it drops.
    """
    box = tl.program_id(0)
    place, there = placed(corner(box, counts, shape), pictures, answer, lies, wide, rows, shape)
    if wide:
        box = box.to(tl.int64)
    first = tl.program_id(1) * columns
    channel = first * 2**letters + tl.arange(0, columns * 2**letters)
    wanted = there[:, None] & (channel < orbits * 2**letters)[None, :]
    pointers = x + place[:, None] + (channel.to(place.dtype) * lies[1])[None, :]
    tiles = butterfly(unlaced(tl.load(pointers, mask=wanted, other=0.0), letters, rows, columns), letters)
    orbit = first + tl.arange(0, columns)
    own = y + (box * orbits + orbit[:, None]) * rows + tl.arange(0, rows)[None, :]
    run = boxes * tl.cast(orbits, tl.int64) * rows
    for part in tl.static_range(2**letters):
        turned = tiles[part].T
        if pieces == 2:
            tl.store(own + (2**letters + part) * run, turned - coarse(turned), mask=(orbit < orbits)[:, None])
            turned = coarse(turned)
        tl.store(own + part * run, turned, mask=(orbit < orbits)[:, None])
