"""The mirrored grid: a mirror is `flip . convolution . flip`, whatever the size of the picture.

Where stride and size do not fit together, or padding is lopsided, the flipped filter sits on the wrong grid. A mirror
that is *defined* as the representative's convolution seen in a mirror samples the mirrored grid, and the law holds at
every size. Where the geometry is symmetric both are the same thing.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array, lax

from symmetric_layers.flax.bank import expand_kernel
from symmetric_layers.flax.channels import cut, exchange, flip, in_banks, join, per_block, unfold
from symmetric_layers.letters import LETTERS, letters_where, mirrors
from symmetric_layers.orbits import Block, Plan

Run = Callable[[Array, Array, int], Array]  # pictures, filters and groups to an answer without biases


def lopsided(layer: Any, sizes: Sequence[int]) -> str:
    """The letters along which an `nnx.Conv`'s grid is not its own mirror image, for pictures of these sizes."""
    reaches = reaches_of(layer)
    strides, spread = each(layer.strides, reaches), each(layer.input_dilation, reaches)
    pads = pads_of(layer, sizes, reaches, strides)
    spaced = [(n - 1) * d + 1 for n, d in zip(sizes, spread, strict=True)]
    return letters_where(
        before != after or (n + before + after - reach) % stride != 0
        for n, reach, stride, (before, after) in zip(spaced, reaches, strides, pads, strict=True)
    )


def lopsided_transposed(layer: Any) -> str:
    """The letters along which an `nnx.ConvTranspose` cuts off (or adds) more on one side than on the other."""
    reaches = reaches_of(layer)
    if layer.padding == "SAME":  # `lax.conv_transpose` pads reach + stride - 2 in all
        geometry = zip(reaches, each(layer.strides, reaches), strict=True)
        return letters_where(stride > reach or (reach + stride) % 2 == 1 for reach, stride in geometry)
    if layer.padding == "VALID":
        geometry = zip(reaches, each(layer.strides, reaches), strict=True)
        return letters_where(stride > reach for reach, stride in geometry)
    if isinstance(layer.padding, str):  # circles are cut open where the host wants
        return letters_where(True for _ in reaches)
    return letters_where(before != after for before, after in _pairs(layer.padding, len(reaches)))


def in_the_mirror(run: Run, x: Array, kernel: Array, plan: Plan, turned: bool, crooked: str) -> Array:
    """All filters' answers, those mirrored along a crooked letter in the mirror.

    Args:
        run: the host's convolution, without its biases.
        x: pictures, `(..., *positions, channels)`.
        kernel: the stored filters.
        plan: which filters are mirrors of which.
        turned: whether the filters stand on the kernel's last axis but one.
        crooked: along which letters the grid is not its own mirror image.
    """
    straight = "".join(letter for letter in LETTERS if letter not in crooked)
    answers = {}
    for letters in mirrors(crooked):
        kinds = [block for block in plan.blocks if set(letters) <= set(block.kind)]
        if kinds:
            filters = expand_kernel(kernel, plan, turned, straight=straight, containing=letters)
            seen, groups = flip(x, letters), plan.groups
            if plan.depthwise:
                seen = _channels(seen, plan, straight, letters)
                groups = seen.shape[-1]
            elif plan.inputs is not None:  # of filters there are fewer than of pixels
                filters = exchange(filters, plan.inputs, letters, -1 if turned else -2)
            answer = flip(run(seen, filters, groups), letters)
            sizes = [_seen(block, straight) for block in kinds]
            parts = cut(in_banks(answer, plan), sizes, -1)
            answers.update({(letters, block.kind): part for block, part in zip(kinds, parts, strict=True)})
    full = join([_side_by_side(answers, block, crooked) for block in plan.blocks], -1)
    return full.reshape(*full.shape[:-2], plan.filters)


def each(value: int | Sequence[int] | None, axes: Sequence[Any]) -> tuple[int, ...]:
    """One number per axis; None means 1, as in the host."""
    if value is None or isinstance(value, int):
        return (1 if value is None else value,) * len(axes)
    return tuple(value)


def _seen(block: Block, straight: str) -> int:
    """How many filters of a run are mirrored along straight letters only."""
    return int(block.orbits * 2 ** len(set(block.kind) & set(straight)))


def _channels(x: Array, plan: Plan, straight: str, letters: str) -> Array:
    """The channels that depthwise filters see which are mirrored along those of the crooked letters."""

    def pick(channels: Array, block: Block) -> Array:
        if not set(letters) <= set(block.kind):
            return channels[..., :0]
        places = tuple(slice(None) if letter in straight else int(letter in letters) for letter in reversed(block.kind))
        own = unfold(channels, -1, [block.orbits, *[2] * len(block.kind)])[(..., slice(None), *places)]
        return own.reshape(*channels.shape[:-1], _seen(block, straight))

    return per_block(x, plan, -1, pick)


def _side_by_side(answers: dict[tuple[str, str], Array], block: Block, crooked: str) -> Array:
    """The members of the orbits of one kind in their order, from the answers for each set of crooked letters."""
    here = "".join(letter for letter in block.kind if letter in crooked)
    if not here:
        return answers["", block.kind]
    others = [letter for letter in block.kind if letter not in crooked]
    lead = answers["", block.kind].ndim  # of axes before those of the letters, with the orbits split off

    def members(rest: str, chosen: str) -> Array:
        """The answers for those letters, and for those and any of the rest, each letter on an axis of its own."""
        if not rest:
            return unfold(answers[chosen, block.kind], -1, [block.orbits, *[2] * len(others)])
        return jnp.stack([members(rest[:-1], chosen), members(rest[:-1], rest[-1] + chosen)], lead)

    standing = [*reversed(here), *reversed(others)]  # the last letter changes slowest
    order = [lead + standing.index(letter) for letter in reversed(block.kind)]
    ordered = jnp.transpose(members(here, ""), [*range(lead), *order])
    return ordered.reshape(*ordered.shape[: lead - 1], block.filters)


def reaches_of(layer: Any) -> list[int]:
    """How many pixels a filter spans along each axis."""
    return [
        d * (k - 1) + 1 for k, d in zip(layer.kernel_size, each(layer.kernel_dilation, layer.kernel_size), strict=True)
    ]


def pads_of(layer: Any, sizes: Sequence[int], reaches: list[int], strides: Sequence[int]) -> Sequence[tuple[int, int]]:
    """What the host adds before and after the pixels along each axis."""
    if layer.padding in ("CIRCULAR", "REFLECT"):
        return [((reach - 1) // 2, reach // 2) for reach in reaches]
    if layer.padding == "CAUSAL":
        return [(reach - 1, 0) for reach in reaches]
    if isinstance(layer.padding, str):
        return lax.padtype_to_pads(sizes, reaches, strides, layer.padding)
    return _pairs(layer.padding, len(reaches))


def _pairs(padding: Any, rank: int) -> list[tuple[int, int]]:
    """Sides of the picture; of a padding that is none the same, for the host to refuse in its own words."""
    sides = [padding] * rank if isinstance(padding, int) else padding
    pairs = [(side, side) if isinstance(side, int) else side for side in sides] if isinstance(sides, Sequence) else []
    fits = len(pairs) == rank and all(isinstance(pair, tuple) and len(pair) == 2 for pair in pairs)
    return pairs if fits else [(0, 0)] * rank
