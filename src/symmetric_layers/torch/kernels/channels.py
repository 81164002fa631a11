"""Moving tensors along the channels of a plan. Dimensions are counted from the end, so leading ones do not matter."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from symmetric_layers.letters import LETTERS
from symmetric_layers.orbits import Block, Plan, plan


@torch.compiler.assume_constant_result
def plan_of(symmetry: Mapping[str, int | str] | None, channels: int) -> Plan:
    """The plan of so many channels: a compiler looks its answer up instead of tracing how it is found."""
    return plan(symmetry, channels, len(LETTERS))


def exchange(x: Tensor, plan: Plan, letters: str, dim: int) -> Tensor:
    """Exchanges the channels along `dim` (negative) with their mirrors; a group's channels where there are groups.

    Equivalent to: `x.index_select(dim, torch.tensor(plan.exchange(letters)))`, without an index.
    """

    def swap(channels: Tensor, block: Block) -> Tensor:
        mirrored = [dim - bit for bit, letter in enumerate(block.kind) if letter in letters]
        if not mirrored:
            return channels
        unfolded = channels.unflatten(dim, (block.orbits, *[2] * len(block.kind)))
        return unfolded.flip(mirrored).flatten(dim - len(block.kind), dim)

    return per_block(x, plan, dim, swap)


def exchange_channels(x: Tensor, plan: Plan, letters: str) -> Tensor:
    """Exchanges the channels of pictures `(N, C, *positions)` or `(C, *positions)`, group by group."""
    dim = -plan.ndim - 1
    if plan.groups == 1:
        return exchange(x, plan, letters, dim)
    return exchange(x.unflatten(dim, (plan.groups, -1)), plan, letters, dim).flatten(dim - 1, dim)


def spread(x: Tensor, plan: Plan, dim: int = -1) -> Tensor:
    """Gives every filter the entry of its representative: along `dim` (negative), stored entries become channels."""
    if not plan.orbits:
        return x
    parts = []
    for block, stored in zip(plan.blocks, cut(x, [block.orbits for block in plan.blocks], dim), strict=True):
        parts.append(stored.repeat_interleave(block.size, dim) if block.kind else stored)
    return join(parts, dim)


def per_block(x: Tensor, plan: Plan, dim: int, move: Callable[[Tensor, Block], Tensor]) -> Tensor:
    """Cuts the channels along `dim` into the runs of one kind, moves each, and joins them again."""
    runs = cut(x, [block.filters for block in plan.blocks], dim)
    return join([move(run, block) for run, block in zip(runs, plan.blocks, strict=True)], dim)


def cut(x: Tensor, sizes: list[int], dim: int) -> Sequence[Tensor]:
    """`x.split(sizes, dim)` whose gradient is not copied where there is nothing to cut.

    Not `narrow`: the gradient of a split is put together in one pass.
    """
    return (x,) if len(sizes) == 1 else x.split(sizes, dim)


def join(parts: list[Tensor], dim: int) -> Tensor:
    """`torch.cat` that does not copy where there is nothing to join."""
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim)


def turned(x: Tensor, dims: list[int] | tuple[int, ...]) -> Tensor:
    """The tensor read backwards along some axes; itself where there are none, of which PyTorch would make a copy."""
    return x.flip(dims) if dims else x
