"""The whole bank of filters, from what is stored."""

from typing import Any

import jax.numpy as jnp
from jax import Array

from symmetric_layers.errors import SymmetryError
from symmetric_layers.flax.channels import cut, exchange, in_banks, join
from symmetric_layers.letters import LETTERS, axes, mirrors
from symmetric_layers.orbits import Block, Plan


def stored_kernel(layer: Any) -> Array:
    """What a layer stores of its filters, masked; refused where the mask is not one of what is stored."""
    kernel: Array = layer.kernel[...]
    if layer.mask is None:
        return kernel
    if layer.mask.shape != kernel.shape:
        raise SymmetryError(
            f"mask: an array of shape {layer.mask.shape} does not fit the stored filters. Expected shape "
            f"{kernel.shape}. Leave mirrors out: they are masked like their representatives, in the mirror."
        )
    return kernel * layer.mask


def expand_kernel(
    kernel: Array, plan: Plan, turned: bool = False, *, straight: str = LETTERS, containing: str = ""
) -> Array:
    """The whole bank of filters: every representative, followed by its mirrors.

    Args:
        kernel: the stored filters, `(*kernel_size, in_features / groups, stored)`; where it is turned
            `(*kernel_size, stored, in_features)`.
        plan: which filters are mirrors of which.
        turned: whether the filters stand on the last axis but one.
        straight: only mirrors along these letters are written out.
        containing: only orbits whose kind contains these letters are written out.

    Returns:
        The same with all filters instead of the stored ones: what the host's own layer would hold.
    """
    if not plan.orbits:
        return kernel
    bank, inputs = (-2, -1) if turned else (-1, -2)
    if plan.banks > 1:
        kernel, inputs = in_banks(kernel, plan), -3
    stored = cut(kernel, [block.orbits for block in plan.blocks], bank)
    parts = [
        _written(part, block, plan, straight, bank, inputs)
        for block, part in zip(plan.blocks, stored, strict=True)
        if set(containing) <= set(block.kind)
    ]
    full = join(parts, bank)
    return full.reshape(*full.shape[:-2], plan.banks * full.shape[-1]) if plan.banks > 1 else full


def _written(part: Array, block: Block, plan: Plan, straight: str, bank: int, inputs: int) -> Array:
    """The orbits of one kind, as far as they are mirrored along nothing but the straight letters."""
    members = [_mirror(part, plan, letters, inputs) for letters in mirrors(block.kind) if set(letters) <= set(straight)]
    if len(members) == 1:
        return part
    shape = list(part.shape)
    shape[bank] *= len(members)
    return jnp.stack(members, part.ndim + bank + 1).reshape(shape)


def _mirror(kernel: Array, plan: Plan, letters: str, inputs: int) -> Array:
    if not letters:
        return kernel
    behind = 3 if plan.banks > 1 else 2  # positions are counted from the end: before them layers may be stacked
    mirrored = jnp.flip(kernel, [axis - behind for axis in axes(letters)])
    return mirrored if plan.inputs is None or plan.depthwise else exchange(mirrored, plan.inputs, letters, inputs)
