"""A bank of filters in whole numbers, because operators take nothing else.

`bank` holds, block by block, the letters of the kind in bits (1 for h, 2 for v, 4 for z) and the number of orbits;
`inputs` says the same of the input channels, and is empty where they are pictures.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch

from symmetric_layers.letters import LETTERS, mirrors, orbit_size
from symmetric_layers.orbits import Plan, plan


@torch.compiler.assume_constant_result
def spoken(bank: Plan) -> list[int]:
    """The blocks of a bank, in whole numbers."""
    return [number for block in bank.blocks for number in (_bits(block.kind), block.orbits)]


def sizes(bank: Sequence[int]) -> list[int]:
    """How many filters each block has."""
    return [orbits * orbit_size(kind_of(bits)) for bits, orbits in pairs(bank)]


def pairs(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Block by block: the letters in bits, and the number of orbits."""
    return zip(numbers[::2], numbers[1::2], strict=True)


def kind_of(bits: int) -> str:
    """The letters that the bits stand for."""
    return "".join(letter for bit, letter in enumerate(LETTERS) if bits >> bit & 1)


def _bits(kind: str) -> int:
    return sum(1 << LETTERS.index(letter) for letter in kind)


@lru_cache(maxsize=256)
def whole(bank: tuple[int, ...], inputs: tuple[int, ...], channels: int, ndim: int) -> Plan:
    """The plan that was spoken of."""
    in_symmetry = _counts(inputs) if inputs else None
    return plan(_counts(bank), sum(sizes(bank)), ndim, 1, in_symmetry, channels)


def _counts(bank: Sequence[int]) -> dict[str, int]:
    return {kind_of(bits): orbits * orbit_size(kind_of(bits)) for bits, orbits in pairs(bank) if bits}


@torch.compiler.assume_constant_result
def counts(bank: Plan) -> list[int]:
    """How many filters every kind has, in whole numbers."""
    return [number for kind, filters in bank.symmetry for number in (_bits(kind), filters)]


@torch.compiler.assume_constant_result
def grouped(bank: Plan) -> list[int]:
    """The number of groups, and the same of the input channels."""
    return [bank.groups, *(counts(bank.inputs) if bank.inputs is not None else [])]


@lru_cache(maxsize=256)
def regrouped(bank: tuple[int, ...], inputs: tuple[int, ...], filters: int, channels: int, ndim: int) -> Plan:
    """The plan that `counts` and `grouped` spoke of."""
    groups, *seen = inputs
    in_symmetry = {kind_of(bits): number for bits, number in pairs(seen)}
    symmetry = {kind_of(bits): number for bits, number in pairs(bank)}
    return plan(symmetry, filters, ndim, groups, in_symmetry or None, channels)


class Part(NamedTuple):
    """One block of a bank, as the kernels want it.

    Attributes:
        kind: the letters of its orbits, in bits.
        members: filters of an orbit.
        orbits: how many.
        channel, stored: of the first filter, of the first representative.
        deep: whether the input channels are exchanged by these letters.
        inputs: input channels of one member.
        in_order, out_order: member after member, the channels that belong together.
    """

    kind: int
    members: int
    orbits: int
    channel: int
    stored: int
    deep: bool
    inputs: int
    in_order: tuple[int, ...]
    out_order: tuple[int, ...]

    @property
    def filters(self) -> int:
        """How many filters the block has."""
        return self.orbits * self.members


@lru_cache(maxsize=256)
def parts(bank: tuple[int, ...], inputs: tuple[int, ...], channels: int, ndim: int) -> tuple[Part, ...]:
    """The blocks of a bank."""
    bank_plan = whole(bank, inputs, channels, ndim)
    found = []
    for block in bank_plan.blocks:
        deep = bank_plan.inputs is not None and bool(block.kind)
        order = _order(bank_plan.inputs, block.kind) if deep and bank_plan.inputs is not None else range(channels)
        own = [block.size * orbit + member for member in range(block.size) for orbit in range(block.orbits)]
        members = block.size if deep else 1
        table = (_bits(block.kind), block.size, block.orbits, block.filter, block.representative, deep)
        found.append(Part(*table, channels // members, tuple(order), tuple(own)))
    return tuple(found)


def _order(inputs: Plan, kind: str) -> list[int]:
    """Member after member: input channels that mirrors of this kind exchange."""
    exchanged = [inputs.exchange(letters) if letters else tuple(range(inputs.filters)) for letters in mirrors(kind)]
    first = [channel for channel in range(inputs.filters) if all(seen[channel] >= channel for seen in exchanged)]
    return [seen[channel] for seen in exchanged for channel in first]
