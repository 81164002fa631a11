"""Members that lie side by side in memory, channel after channel: all in one tile, or a tile for each."""

import triton
import triton.language as tl


@triton.jit
def laced(tiles, letters: tl.constexpr, rows: tl.constexpr, columns: tl.constexpr):
    """One tile with the members of an orbit side by side, orbit after orbit."""
    for bit in tl.static_range(letters):
        tiles = _joined(tiles, 2 ** (letters - 1 - bit))
    return tl.reshape(tiles[0], [rows, columns * 2**letters])


@triton.jit
def _joined(tiles, half: tl.constexpr):
    fewer = ()
    for place in tl.static_range(half):
        fewer = fewer + (tl.join(tiles[place], tiles[place + half]),)
    return fewer


@triton.jit
def unlaced(tile, letters: tl.constexpr, rows: tl.constexpr, columns: tl.constexpr):
    """The members of the orbits that lie side by side in one tile, each in a tile of its own."""
    tiles = (tile,)
    for bit in tl.static_range(letters):
        tiles = _parted(tiles, 2**bit, rows, columns * 2 ** (letters - 1 - bit))
    return tiles


@triton.jit
def _parted(tiles, number: tl.constexpr, rows: tl.constexpr, columns: tl.constexpr):
    first = ()
    second = ()
    for place in tl.static_range(number):
        one, other = tl.split(tl.reshape(tiles[place], [rows, columns, 2]))
        first = first + (one,)
        second = second + (other,)
    return first + second
