"""Moving arrays along the channels of a plan. Axes are counted from the end, so leading ones do not matter."""

from collections.abc import Callable, Mapping, Sequence

import jax.numpy as jnp
from jax import Array

from symmetric_layers.letters import LETTERS, axes
from symmetric_layers.orbits import Block, Plan, plan


def plan_of(symmetry: Mapping[str, int | str] | None, channels: int) -> Plan:
    """The plan of so many channels, however many positions there are."""
    return plan(symmetry, channels, len(LETTERS))


def spread(x: Array, plan: Plan) -> Array:
    """Gives every filter the entry of its representative: along the last axis, stored entries become channels."""
    if not plan.orbits:
        return x
    stored = cut(in_banks(x, plan), [block.orbits for block in plan.blocks], -1)
    parts = [jnp.repeat(part, block.size, -1) for block, part in zip(plan.blocks, stored, strict=True)]
    return join(parts, -1).reshape(*x.shape[:-1], plan.filters)


def act(x: Array, plan: Plan | None, letters: str) -> Array:
    """A mirrored picture `(..., *positions, channels)`: positions reversed, channels that are orbits exchanged."""
    if not letters:
        return x
    mirrored = flip(x, letters)
    if plan is None or not plan.orbits:
        return mirrored
    return exchange(in_banks(mirrored, plan), plan, letters, -1).reshape(x.shape)


def flip(x: Array, letters: str) -> Array:
    """Reads the positions of `(..., *positions, channels)` backwards along the letters."""
    return jnp.flip(x, [axis - 1 for axis in axes(letters)]) if letters else x


def exchange(x: Array, plan: Plan, letters: str, axis: int) -> Array:
    """Exchanges the channels (of one group) along `axis` with their mirrors.

    Equivalent to: `jnp.take(x, jnp.array(plan.exchange(letters)), axis)`, without an index.
    """

    def swap(channels: Array, block: Block) -> Array:
        mirrored = [axis - bit for bit, letter in enumerate(block.kind) if letter in letters]
        if not mirrored:
            return channels
        return jnp.flip(unfold(channels, axis, [block.orbits, *[2] * len(block.kind)]), mirrored).reshape(
            channels.shape
        )

    return per_block(x, plan, axis, swap)


def in_banks(x: Array, plan: Plan) -> Array:
    """The last axis as two: banks, and what each of them has."""
    return unfold(x, -1, [plan.banks, x.shape[-1] // plan.banks])


def unfold(x: Array, axis: int, sizes: Sequence[int]) -> Array:
    """One axis (negative) as several, of sizes that are all said: empty batches leave nothing to conclude them from."""
    return x.reshape(*x.shape[: x.ndim + axis], *sizes, *x.shape[x.ndim + axis + 1 :])


def per_block(x: Array, plan: Plan, axis: int, move: Callable[[Array, Block], Array]) -> Array:
    """Cuts the channels along `axis` into the runs of one kind, moves each, and joins them again."""
    if not plan.blocks:
        return x
    runs = cut(x, [block.filters for block in plan.blocks], axis)
    return join([move(run, block) for run, block in zip(runs, plan.blocks, strict=True)], axis)


def cut(x: Array, sizes: Sequence[int], axis: int) -> list[Array]:
    """Pieces of these sizes."""
    if len(sizes) == 1:
        return [x]
    ends = [sum(sizes[: index + 1]) for index in range(len(sizes) - 1)]
    return jnp.split(x, ends, axis)


def join(parts: Sequence[Array], axis: int) -> Array:
    """The pieces side by side."""
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis)
