"""What orbits have in common: their mean and variance, without moving a pixel."""

from typing import Any

import jax.numpy as jnp
from jax import Array, lax

from symmetric_layers.flax.channels import cut, join, spread, unfold
from symmetric_layers.orbits import Plan


def moments(x: Array, plan: Plan, layer: Any, mask: Array | None) -> tuple[Array, Array]:
    """The mean and variance of every orbit and free channel, over all devices that the layer names.

    Equivalent to: what `nnx.BatchNorm` takes of `(..., stored)`, where the members of an orbit are more positions.

    Args:
        x: `(..., channels)`.
        plan: how the channels are arranged.
        layer: an `nnx.BatchNorm`, which says how variances are taken and who shares them.
        mask: which numbers count, as `x`; None: all.
    """
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    there = None if mask is None else _over_orbits(_sums(mask.astype(wide.dtype)), plan)
    count = _over_orbits(jnp.full(x.shape[-1], x.size // x.shape[-1], wide.dtype), plan) if there is None else there

    def mean(values: Array) -> Array:
        seen = values if mask is None else jnp.where(mask, values, 0)
        return _over_orbits(_sums(seen), plan) / count

    if layer.use_fast_variance:
        first, second = _shared(jnp.stack([mean(wide), mean(lax.square(wide))]), layer)
        return first, jnp.maximum(0.0, second - lax.square(first))
    first = _shared(mean(wide), layer)
    return first, _shared(mean(lax.square(wide - spread(first, plan))), layer)


def _sums(x: Array) -> Array:
    return x.sum(range(x.ndim - 1))


def _over_orbits(per_channel: Array, plan: Plan) -> Array:
    """The sum over the members of each orbit."""
    runs = cut(per_channel, [block.filters for block in plan.blocks], -1)
    return join([unfold(run, -1, [-1, block.size]).sum(-1) for block, run in zip(plan.blocks, runs, strict=True)], -1)


def _shared(values: Array, layer: Any) -> Array:
    """The mean over the devices that the layer names."""
    if layer.axis_name is None:
        return values
    mean: Array = lax.pmean(values, layer.axis_name, axis_index_groups=layer.axis_index_groups)
    return mean
