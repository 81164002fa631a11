"""The whole bank of filters, from what is stored."""

import math
from functools import lru_cache
from typing import Any

from keras import ops

from symmetric_layers.keras.channels import cut, exchange, join, pick, picks
from symmetric_layers.letters import LETTERS, axes, taps_seen
from symmetric_layers.orbits import Block, Plan


def expand_kernel(
    kernel: Any, plan: Plan, transposed: bool = False, *, straight: str = LETTERS, containing: str = ""
) -> Any:
    """The whole bank of filters: every representative, followed by its mirrors.

    Args:
        kernel: the stored filters, `(*kernel_size, in_channels / groups, stored)`; of a transposed convolution
            `(*kernel_size, stored, in_channels)`.
        plan: which filters are mirrors of which.
        transposed: whether the kernel is laid out as a transposed convolution's.
        straight: only mirrors along these letters are written out.
        containing: only orbits whose kind contains these letters are written out.

    Returns:
        The same with all filters instead of the stored ones: what the host's own layer would hold.
    """
    if not plan.orbits:
        return kernel
    bank, inputs = (-2, -1) if transposed else (-1, -2)
    kernel = ops.convert_to_tensor(kernel)
    if picks() and plan.inputs is None and straight == LETTERS and not containing:
        return _pick_mirrors(kernel, plan, transposed)
    if plan.banks > 1:
        kernel, inputs = ops.reshape(kernel, [*kernel.shape[:-1], plan.banks, -1]), -3
    if inputs < bank:
        inputs -= 1  # behind the bank's axis comes one for the members of an orbit
    stored = cut(kernel, [block.orbits for block in plan.blocks], bank)
    written = [
        _written(part, block, plan, straight, bank, inputs)
        for block, part in zip(plan.blocks, stored, strict=True)
        if set(containing) <= set(block.kind)
    ]
    full = join(written, bank)
    return ops.reshape(full, [*full.shape[:-2], -1]) if plan.banks > 1 else full


def _written(part: Any, block: Block, plan: Plan, straight: str, bank: int, inputs: int) -> Any:
    """The orbits of one kind, as far as they are mirrored along nothing but the straight letters."""
    letters = [letter for letter in block.kind if letter in straight]
    if not letters:
        return part
    orbit = ops.expand_dims(part, bank)
    for letter in letters:  # doubled letter by letter: few and large operations
        orbit = ops.concatenate([orbit, _mirror(orbit, plan, letter, inputs)], axis=bank)
    full = list(part.shape)
    full[bank] *= 2 ** len(letters)
    return ops.reshape(orbit, full)


def _mirror(kernel: Any, plan: Plan, letter: str, inputs: int) -> Any:
    mirrored = ops.flip(kernel, axis=[plan.ndim + axis for axis in axes(letter)])
    return mirrored if plan.inputs is None or plan.depthwise else exchange(mirrored, plan.inputs, letter, inputs)


def _pick_mirrors(kernel: Any, plan: Plan, transposed: bool) -> Any:
    """The whole bank, every number of every filter picked where its mirror has it: one operation for all kinds."""
    size = tuple(kernel.shape[: plan.ndim])
    rows = kernel if transposed else kernel.swapaxes(-1, -2)
    channels = rows.shape[-1]
    picked = pick(rows.reshape([-1, channels]), _places(plan, size), 0).reshape([*size, plan.filters, channels])
    return picked if transposed else picked.swapaxes(-1, -2)


@lru_cache(maxsize=256)
def _places(plan: Plan, size: tuple[int, ...]) -> tuple[int, ...]:
    """For every tap of every filter, which of all taps of all stored filters it is."""
    filters = zip(plan.mirror, plan.representative, strict=True)
    seen = [(taps_seen(size, letters), stored) for letters, stored in filters]
    return tuple(taps[tap] * plan.stored + stored for tap in range(math.prod(size)) for taps, stored in seen)
