"""Stored filters as the kernels want them, and gradients on their way back.

A filter is packed as its parts: what is even or odd along every letter. A **slot** is one part of one tap that stands
for its mirrors. The parts of a tap are signed means over what its mirrors hold; both directions are the same operation,
a mean of a few entries with signs, and only tables differ.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from symmetric_layers.torch.kernels.bank import Part

_Taps = tuple[int, ...]


class Table(NamedTuple):
    """What is averaged: `result[i]` is the mean of `signs[i, j] * entries[places[i, j]]` over all j.

    Tables stay in the host's memory, and are sent along with every call: CUDA graphs allow this, and would not allow
    memory of theirs to be kept from call to call.
    """

    places: Tensor
    signs: Tensor

    def apply(self, entries: Tensor) -> Tensor:
        """The signed means, in float32, along the first dimension."""
        places, signs = (table.to(entries.device, non_blocking=True) for table in self)
        picked = entries.index_select(0, places.flatten()).float().unflatten(0, places.shape)
        return (picked * signs[(..., *[None] * (entries.dim() - 1))]).sum(1) / places.shape[1]


def kept(numbers: list, dtype: torch.dtype) -> Tensor:
    """Numbers in memory from which a GPU may copy on its own."""
    tensor = torch.tensor(numbers, dtype=dtype)
    return tensor.pin_memory() if torch.cuda.is_available() else tensor


def pack(weight: Tensor, part: Part, transposed: bool, backwards: bool = False) -> Tensor:
    """The parts of filters, `(slots, channels of a member, orbits)`, rounded to the weight's dtype once.

    Args:
        weight: the stored filters of one block, `(orbits, channels, *kernel)`.
        part: the block.
        transposed: whether orbits come before channels.
        backwards: for the gradient of orbits: filters are read backwards, and by the other member.
    """
    table = _packing(_bare(part), tuple(weight.shape[2:]), backwards)
    if part.deep:
        parts = table.apply(weight.flatten(1).T).unflatten(0, (-1, part.inputs))
    else:
        parts = table.apply(weight.flatten(2).permute(2, 1, 0))
    return (parts.transpose(1, 2) if transposed else parts).to(weight.dtype).contiguous()


def unpack(gradient: Tensor, part: Part, kernel_size: Sequence[int]) -> Tensor:
    """The gradient of stored filters from that of their parts, `(slots, channels of a member, orbits)`, in float32."""
    table = _unpacking(_bare(part), tuple(kernel_size))
    if part.deep:
        stored = table.apply(gradient.flatten(0, 1)).T.unflatten(1, (part.inputs * part.members, -1))
    else:
        stored = table.apply(gradient).permute(2, 1, 0)
    return stored.unflatten(2, tuple(kernel_size))


def _bare(part: Part) -> Part:
    """What tables depend on."""
    return part._replace(orbits=0, channel=0, stored=0, out_order=(), in_order=part.in_order if part.deep else ())


def _letters(kind: int) -> list[int]:
    """The letters of a kind, each as the number of its axis, counted from the last."""
    return [axis for axis in range(3) if kind >> axis & 1]


def slots(part: Part, kernel_size: Sequence[int]) -> tuple[tuple[int, list[_Taps]], ...]:
    """Pattern after pattern: the letters that move a tap, among those of the kind, and the taps that stand for all."""
    return _slots(part.kind, part.deep, tuple(kernel_size))


@lru_cache(maxsize=256)
def _slots(kind: int, deep: bool, kernel_size: _Taps) -> tuple[tuple[int, list[_Taps]], ...]:
    letters, rank = _letters(kind), len(kernel_size)
    found = []
    for pattern in [2 ** len(letters) - 1] if deep else range(2 ** len(letters)):
        moved = {axis for bit, axis in enumerate(letters) if pattern >> bit & 1}
        ranges = []
        for axis, size in zip(range(rank)[::-1], kernel_size, strict=True):
            if deep or axis not in letters:
                ranges.append(range(size))
            else:
                ranges.append(range(size // 2) if axis in moved else range(size // 2, size // 2 + size % 2))
        found.append((pattern, list(product(*ranges))))
    return tuple(found)


def number_of_slots(part: Part, kernel_size: Sequence[int]) -> int:
    """How many slots there are."""
    return sum(len(taps) * 2 ** pattern.bit_count() for pattern, taps in slots(part, kernel_size))


@lru_cache(maxsize=None)  # a CUDA graph that was captured may read them at any time
def _packing(part: Part, kernel_size: _Taps, backwards: bool) -> Table:
    places: list[list[int]] = []
    signs: list[list[int]] = []
    members, taps = range(part.members), _flat_size(kernel_size)
    for pattern, standing in slots(part, kernel_size):
        for tap in standing:
            if backwards:
                own = [_flat(_backwards(tap, kernel_size), kernel_size)] * part.members
            else:
                own = [_flat(_mirrored(tap, kernel_size, part, member), kernel_size) for member in members]
            for odd in (member for member in members if not member & ~pattern):
                row = [_sign(odd & member) for member in members]
                for channel in range(part.inputs if part.deep else 1):
                    places.append([_channel(part, member, channel) * taps + own[member] for member in members])
                    signs.append(row)
    return Table(kept(places, torch.int32), kept(signs, torch.int8))


@lru_cache(maxsize=None)  # a CUDA graph that was captured may read them at any time
def _unpacking(part: Part, kernel_size: _Taps) -> Table:
    members, width = range(part.members), part.inputs if part.deep else 1
    rows: dict[tuple[int, int], tuple[list[int], list[int]]] = {}
    first = 0
    for pattern, standing in slots(part, kernel_size):
        own = [member for member in members if not member & ~pattern]
        for tap in standing:
            for member in own:
                tap_there = _flat(_mirrored(tap, kernel_size, part, member), kernel_size)
                # parts that are no part of this tap stand for those that are: all rows have equal lengths
                odds = [odd & pattern for odd in members]
                signs = [_sign(odd & member) for odd in odds]
                for channel in range(width):
                    seen = [(first + own.index(odd)) * width + channel for odd in odds]
                    rows[_channel(part, member, channel), tap_there] = seen, signs
            first += len(own)
    ordered = [rows[key] for key in sorted(rows)]
    return Table(kept([seen for seen, _ in ordered], torch.int32), kept([signs for _, signs in ordered], torch.int8))


def _sign(bits: int) -> int:
    return -1 if bits.bit_count() % 2 else 1


def _channel(part: Part, member: int, channel: int) -> int:
    return part.in_order[member * part.inputs + channel] if part.deep else 0


def _mirrored(tap: _Taps, kernel_size: _Taps, part: Part, member: int) -> _Taps:
    """The tap that mirrors a tap along the letters of a member."""
    turned = {axis for bit, axis in enumerate(_letters(part.kind)) if member >> bit & 1}
    axes = range(len(tap))[::-1]
    return tuple(size - 1 - place if axis in turned else place
                 for axis, place, size in zip(axes, tap, kernel_size, strict=True))  # fmt: skip


def _backwards(tap: _Taps, kernel_size: _Taps) -> _Taps:
    return tuple(size - 1 - place for place, size in zip(tap, kernel_size, strict=True))


def _flat(tap: _Taps, kernel_size: _Taps) -> int:
    place = 0
    for along, size in zip(tap, kernel_size, strict=True):
        place = place * size + along
    return place


def _flat_size(kernel_size: _Taps) -> int:
    return torch.Size(kernel_size).numel()
