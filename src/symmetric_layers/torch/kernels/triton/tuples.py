"""Tuples of tiles on the GPU, one tile per member or per part of an orbit."""

import triton
import triton.language as tl


@triton.constexpr_function
def count(bits):
    """How many bits are set."""
    return bin(bits).count("1")


@triton.constexpr_function
def spread(number, mask):
    """The bits of a number, laid into the set bits of a mask, the lowest first."""
    laid = 0
    for place in range(3):
        if mask >> place & 1:
            laid |= (number & 1) << place
            number >>= 1
    return laid


@triton.jit
def spread_out(number, mask: tl.constexpr):
    """`spread` of a number that is not known before."""
    laid = number & 0
    for place in tl.static_range(3):
        if (mask >> place) % 2 == 1:
            laid |= (number & 1) << place
            number = number >> 1
    return laid


@triton.jit
def sign(bits):
    """Minus one where the number of set bits is odd."""
    return (1 - 2 * ((bits ^ bits >> 1 ^ bits >> 2) & 1)).to(tl.float32)


@triton.jit
def coarse(tile):
    """What TF32 keeps of float32: the first ten bits of the fraction."""
    return (tile.to(tl.int32, bitcast=True) & -8192).to(tl.float32, bitcast=True)


@triton.jit
def put(tiles, place: tl.constexpr, tile):
    """The tuple with another tile in one place."""
    return tiles[:place] + (tile,) + tiles[place + 1 :]


@triton.jit
def zeros(number: tl.constexpr, rows: tl.constexpr, columns: tl.constexpr):
    """So many tiles for sums."""
    tiles = ()
    for _ in tl.static_range(number):
        tiles = tiles + (tl.full([rows, columns], 0.0, tl.float32),)
    return tiles


@triton.jit
def butterfly(tiles, letters: tl.constexpr):
    """Sums and differences along so many letters, the lowest first: members become parts, parts become members."""
    for bit in tl.static_range(letters):
        for place in tl.static_range(2**letters):
            if (place >> bit) % 2 == 0:
                tiles = _crossed(tiles, place, place + 2**bit)
    return tiles


@triton.jit
def _crossed(tiles, one: tl.constexpr, other: tl.constexpr):
    first = tiles[one]
    second = tiles[other]
    total = first.to(tl.float32) + second.to(tl.float32)
    difference = first.to(tl.float32) - second.to(tl.float32)
    return put(put(tiles, one, total.to(first.dtype)), other, difference.to(first.dtype))


@triton.jit
def product(left, right, total, precision: tl.constexpr, exact: tl.constexpr):
    """Adds a product of matrices to a sum in float32; `exact` where the interpreter multiplies, in float32 only."""
    left = left.to(right.dtype)
    if exact:
        left = left.to(tl.float32)
        right = right.to(tl.float32)
    return tl.dot(left, right, total, input_precision=precision)


@triton.jit
def weighted(left, runs, row, further, column, total, precision: tl.constexpr, exact: tl.constexpr):
    """Adds the product with a tile of filters, whose runs lie `further` apart where they are in two pieces.

    TF32 keeps ten bits of a number. In `tf32x3` what it drops of either side is multiplied, too, by what it keeps of
    the other. Tensor cores cut what they add; so they add few, and the long sum is made in float32.
    """
    if precision == "tf32x3":
        kept = coarse(left)
        right = runs.load([row, column]).T
        more = product(left - kept, right, tl.full(total.shape, 0.0, tl.float32), "tf32", exact)
        more = product(kept, runs.load([row + further, column]).T, more, "tf32", exact)
        total += product(kept, right, more, "tf32", exact)
    else:
        total = product(left, runs.load([row, column]).T, total, precision, exact)
    return total


@triton.jit
def add_product(sums, place: tl.constexpr, left, right, precision: tl.constexpr, exact: tl.constexpr):
    """Adds a product to one of the sums."""
    return put(sums, place, product(left, right, sums[place], precision, exact))
