"""Channels that are orbits, brought into runs of one member, because tensor cores want neighbours of one kind."""

import math
from functools import lru_cache
from itertools import chain

import torch
from torch import Tensor

from symmetric_layers.torch.kernels.bank import Part
from symmetric_layers.torch.kernels.triton.launch import Grid, bucket, is_wide, lies, start, three
from symmetric_layers.torch.kernels.triton.members import members


@lru_cache(maxsize=None)  # a CUDA graph that was captured may read them at any time
def gather(order: tuple[int, ...], inputs: int) -> Tensor | None:
    """Orbit after orbit: the channels that belong together, None where they are neighbours already."""
    found = list(chain.from_iterable(order[orbit::inputs] for orbit in range(inputs)))
    if found == list(range(len(order))):
        return None
    tensor = torch.tensor(found, device="cpu")
    return tensor.pin_memory() if torch.cuda.is_available() else tensor  # from where a GPU may copy on its own


def in_order(x: Tensor, part: Part) -> Tensor:
    """The same with the channels of an orbit side by side, along the second axis."""
    found = gather(part.in_order, part.inputs) if part.deep else None
    return x if found is None else x.index_select(1, found.to(x.device, non_blocking=True))


def put_back(y: Tensor, x: Tensor, part: Part) -> None:
    """The opposite: channels of y, orbit after orbit, to where x has them; y may be x where they stay."""
    found = gather(part.in_order, part.inputs)
    if found is not None:
        x.index_copy_(1, found.to(x.device, non_blocking=True), y)


def are_moved(part: Part) -> bool:
    """Whether channels that belong together are no neighbours."""
    return part.deep and gather(part.in_order, part.inputs) is not None


def sorted_members(x: Tensor, part: Part, folding: bool) -> Tensor:
    """`(members, N, *positions, orbits)` of pictures whose channels are orbits; their parts, where `folding`."""
    orbits, positions = x.shape[1] // part.members, x.shape[2:]
    y = x.new_empty((part.members, x.shape[0], *positions, orbits))
    pixels = x.shape[0] * math.prod(positions)
    start(
        members, _rows_and_columns(pixels, orbits), x, y, pixels, orbits, three(positions, 1), lies(x), bucket(pixels),
        letters=part.kind.bit_count(), folding=folding, wide=is_wide(x, y),
    )  # fmt: skip
    return y


def _rows_and_columns(pixels: int, columns: int) -> Grid:
    return lambda tile: (-(-pixels // tile["rows"]), -(-columns // tile["columns"]))
