"""The answers of orbits: pictures are folded while they are loaded, multiplied, and mirrored while they are stored.

A program makes a tile of pixels times orbits, all members of them. Taps come in groups: those that the same letters
move. For each of these and every chunk of channels it loads one tile per mirror, adds and subtracts them in registers,
and multiplies every part by its own weights; nothing folded is written to memory.
"""

import triton
import triton.language as tl

from symmetric_layers.torch.kernels.triton.lacing import unlaced
from symmetric_layers.torch.kernels.triton.launch import tuned
from symmetric_layers.torch.kernels.triton.places import entries, pixel, portions, read, tap
from symmetric_layers.torch.kernels.triton.tuples import add_product, butterfly, count, spread, zeros
from symmetric_layers.torch.kernels.triton.writing import mirrored, write


@tuned(
    "bucket channels orbits kernel stride kind deep together precision",
    lambda said: (said["kind"].bit_count(), said["orbits"], said["channels"]),
    rows=512, depth=16,
)  # fmt: skip
@triton.jit(do_not_specialize=["pixels", "bucket"])
def answers(
    x, packed, bias, y, pixels, channels, orbits, sizes, answer, kernel, stride, padding, dilation, lies, into, bucket,
    kind: tl.constexpr, deep: tl.constexpr, together: tl.constexpr, biased: tl.constexpr, precision: tl.constexpr,
    exact: tl.constexpr, wide: tl.constexpr, rows: tl.constexpr, columns: tl.constexpr, depth: tl.constexpr,
):  # fmt: skip
    """The convolution with the orbits of one kind.

    Args:
        x: pictures; `lies` are their strides: of pictures, members, channels and axes.
        packed: the parts of the filters, `(slots, channels, orbits)`, see `weights.py`.
        bias: one number per orbit, read where `biased`.
        y: the answers; `into` are their strides: of pictures, channels and axes.
        pixels, channels, orbits: how many there are, of all answers together, of one member, of the bank.
        sizes, answer, kernel, stride, padding, dilation: three numbers each.
        bucket: about how many pixels, for the tuner.
        kind: the letters in bits; `deep` whether channels are exchanged.
        together: whether all members are read in the same place and lie side by side.
        precision, exact, wide: of the products, whether they are interpreted, whether memory needs 64 bits.
        rows, columns, depth: the tile, in pixels, orbits and channels.
    """
    letters: tl.constexpr = count(kind)
    blocks = portions(orbits, columns)
    block = tl.program_id(0) // blocks
    first = tl.program_id(0) % blocks * columns
    if wide:
        block = block.to(tl.int64)
    index = block * rows + tl.arange(0, rows)
    picture, z, high, across = pixel(index, answer)
    places = (z * stride[0] - padding[0], high * stride[1] - padding[1], across * stride[2] - padding[2])
    orbit = first + tl.arange(0, columns)
    sums = zeros(2**letters, rows, columns)
    for pattern in tl.static_range(2**letters):
        if (not deep) or pattern == 2**letters - 1:
            sums = _summed(
                sums, x + (picture * lies[0])[:, None], packed, places, index < pixels, orbit, channels, orbits, sizes,
                kernel, dilation, lies, kind, pattern, deep, together, precision, exact, rows, depth,
            )  # fmt: skip
            taps = entries(kernel, kind, spread(pattern, kind), deep)
            packed += taps * 2 ** count(pattern) * channels * orbits
    place = picture * into[0] + z * into[2] + high * into[3] + across * into[4]
    laid = mirrored(sums, bias, first, orbits, letters, biased, rows, columns)
    write(y, laid, place, index < pixels, first * 2**letters, orbits * 2**letters, into[1], columns * 2**letters)


@triton.jit
def _summed(
    sums, x, packed, places, there, orbit, channels, orbits, sizes, kernel, dilation, lies, kind: tl.constexpr,
    pattern: tl.constexpr, deep: tl.constexpr, together: tl.constexpr, precision: tl.constexpr, exact: tl.constexpr,
    rows: tl.constexpr, depth: tl.constexpr,
):  # fmt: skip
    """Adds the products of all taps that the same letters move; `pattern` numbers these among those of the kind."""
    letters: tl.constexpr = count(pattern)
    chunks = portions(channels, depth)
    for turn in range(entries(kernel, kind, spread(pattern, kind), deep) * chunks):
        entry = turn // chunks
        channel = turn % chunks * depth + tl.arange(0, depth)
        where = tap(entry, kernel, kind, spread(pattern, kind), deep)
        if together:
            planes = _side_by_side(x, places, there, turn % chunks, channels, kernel, dilation, sizes, lies, letters,
                                   rows, depth)  # fmt: skip
        else:
            planes = folded(x, places, where, there, channel, channels, kernel, dilation, sizes, lies, kind, pattern)
        for part in tl.static_range(2**letters):
            filters = packed + ((entry * 2**letters + part) * channels + channel[:, None]) * orbits + orbit[None, :]
            weights = tl.load(filters, mask=(channel < channels)[:, None] & (orbit < orbits)[None, :], other=0.0)
            sums = add_product(sums, spread(part, pattern), planes[part], weights, precision, exact)
    return sums


@triton.jit
def folded(
    x, places, where, there, channel, channels, kernel, dilation, sizes, lies, kind: tl.constexpr,
    pattern: tl.constexpr,
):  # fmt: skip
    """Tiles of pixels times channels, one per part: sums and differences of what the mirrors of a tap read."""
    tiles = ()
    for member in tl.static_range(2 ** count(pattern)):
        tiles = tiles + (
            _mirror(x, places, where, there, channel, channels, kernel, dilation, sizes, lies, kind,
                    spread(member, pattern)),
        )  # fmt: skip
    return butterfly(tiles, count(pattern))


@triton.jit
def _mirror(
    x, places, where, there, channel, channels, kernel, dilation, sizes, lies, kind: tl.constexpr, member: tl.constexpr
):  # fmt: skip
    """What one mirror of a tap reads, from its own channels."""
    offset, inside = read(places, where, kernel, dilation, sizes, (lies[3], lies[4], lies[5]), spread(member, kind))
    own = x + member * tl.cast(lies[1], tl.int64)
    pointers = own + offset[:, None] + (channel.to(offset.dtype) * lies[2])[None, :]
    wanted = (inside & there)[:, None] & (channel < channels)[None, :]
    return tl.load(pointers, mask=wanted, other=0.0).to(tl.float32)


@triton.jit
def _side_by_side(
    x, places, there, chunk, channels, kernel, dilation, sizes, lies, letters: tl.constexpr, rows: tl.constexpr,
    depth: tl.constexpr,
):  # fmt: skip
    """The same where there is one tap, and the members of an orbit of channels are neighbours in memory."""
    offset, inside = read(places, (0, 0, 0), kernel, dilation, sizes, (lies[3], lies[4], lies[5]), 0)
    channel = chunk * (depth * 2**letters) + tl.arange(0, depth * 2**letters)
    wanted = (inside & there)[:, None] & (channel < channels * 2**letters)[None, :]
    pointers = x + offset[:, None] + (channel.to(offset.dtype) * lies[1])[None, :]
    tile = tl.load(pointers, mask=wanted, other=0.0).to(tl.float32)
    return butterfly(unlaced(tile, letters, rows, depth), letters)
