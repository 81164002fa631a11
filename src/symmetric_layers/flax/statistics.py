"""What orbits have in common: their mean and variance, without moving a pixel."""

from typing import Any

import jax.numpy as jnp
from jax import Array, lax

from symmetric_layers.flax.channels import per_block, spread, unfold
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
    axes = tuple(range(x.ndim - 1))
    count = _over_orbits(jnp.ones_like(wide, dtype=wide.real.dtype).sum(axes, where=mask), plan)

    def mean(values: Array) -> Array:
        return _over_orbits(values.sum(axes, where=mask), plan) / count

    if layer.use_fast_variance:
        first, second = _shared([mean(wide), mean(_squared(wide))], layer)
        return first, jnp.maximum(0.0, second - _squared(first))
    (first,) = _shared([mean(wide)], layer)
    (second,) = _shared([mean(_squared(wide - spread(first, plan)))], layer)
    return first, second


def _squared(x: Array) -> Array:
    return lax.square(x.real) + lax.square(x.imag) if jnp.iscomplexobj(x) else lax.square(x)


def _over_orbits(per_channel: Array, plan: Plan) -> Array:
    """The sum over the members of each orbit."""
    return per_block(per_channel, plan, -1, lambda run, block: unfold(run, -1, [block.orbits, block.size]).sum(-1))


def _shared(values: list[Array], layer: Any) -> list[Array]:
    """The means over the devices that the layer names, asked for at once."""
    if layer.axis_name is None:
        return values
    return list(lax.pmean(values, layer.axis_name, axis_index_groups=layer.axis_index_groups))
