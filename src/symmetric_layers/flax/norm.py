"""Normalisation that treats the members of an orbit as one channel seen several times."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax import Array, lax

from symmetric_layers.errors import SymmetryError
from symmetric_layers.flax.channels import plan_of, spread
from symmetric_layers.flax.initial import ONES, ZEROS, Initializer, representatives
from symmetric_layers.flax.statistics import moments
from symmetric_layers.flax.written import Values, Written
from symmetric_layers.groups import keep_groups_whole
from symmetric_layers.orbits import Plan

_Symmetry = Mapping[str, int | str] | None


class OrbitBatchNorm(nnx.BatchNorm):
    """`nnx.BatchNorm` for channels that are orbits: statistics and affine terms are shared within each orbit.

    An ordinary batch norm gives a filter and its mirror different scales, and the answer no longer mirrors. Here an
    orbit is one channel that is seen several times.

    Equivalent to: where all channels are `'h'` orbits, `nnx.BatchNorm(C // 2, axis=-2)` on
    `x.reshape(*x.shape[:-1], -1, 2)`, where the two members of each orbit are further positions.

    Law: exchanging channels with their mirrors, before or after, is the same; so it keeps the law of the layer before.

    Args:
        symmetry: how the channels are arranged: the `symmetry` of the layer before. None: an ordinary batch norm.
        others: as in the host.

    Attributes:
        scale, bias, mean, var: one entry per orbit and free channel, `(plan.stored,)`.

    Shape:
        `(*batch, *positions, num_features)` to the same; with `axis=` the channels stand on that axis.

    Raises:
        SymmetryError: for a symmetry that does not fit; one sentence says what would.

    Example:
        >>> norm = OrbitBatchNorm(16, symmetry={'h': 8}, rngs=nnx.Rngs(0))
        >>> norm(jnp.ones((5, 28, 28, 16))).shape, norm.scale.shape
        ((5, 28, 28, 16), (12,))
    """

    def __init__(self, num_features: int, *, symmetry: _Symmetry = None, rngs: nnx.Rngs, **others: Any) -> None:
        bank = plan_of(symmetry, num_features)
        super().__init__(bank.stored, rngs=rngs, **others)
        self.num_features = bank.filters
        self.plan = bank

    def __call__(self, x: Array, use_running_average: bool | None = None, *, mask: Array | None = None) -> Array:
        """Normalises with the statistics of each orbit; numbers where `mask` is false do not count."""
        if not self.plan.orbits:
            return super().__call__(x, use_running_average, mask=mask)
        (axis,) = (self.axis,) if isinstance(self.axis, int) else self.axis
        if x.shape[axis] != self.plan.filters:
            raise SymmetryError(
                f"x: {x.shape[axis]} channels on axis {axis} are not those of this norm. Expected "
                f"{self.plan.filters}. Make the norm for as many, or move the channels."
            )
        there = None if mask is None else jnp.moveaxis(jnp.broadcast_to(mask, x.shape), axis, -1)
        stored = [self.mean, self.var, self.scale, self.bias]
        numbers = [None if variable is None else variable[...] for variable in stored]
        seen: Any = self.promote_dtype((jnp.moveaxis(x, axis, -1), *numbers), dtype=self.dtype)
        last, mean, var, scale, bias = seen
        if not self._tracked(use_running_average):
            mean, var = moments(last, self.plan, self, there)
            self._track(mean, var)
        answer = (last - spread(mean, self.plan)) * spread(_factor(var + self.epsilon, scale), self.plan)
        answer = answer if bias is None else answer + spread(bias, self.plan)
        return jnp.moveaxis(answer.astype(last.dtype), -1, axis)

    def _tracked(self, use_running_average: bool | None) -> bool:
        """Whether the tracked statistics count; what the call says goes before what the layer says."""
        asked = self.use_running_average if use_running_average is None else use_running_average
        if asked is None:
            raise SymmetryError(
                "use_running_average: None says neither that the statistics of the batch count nor that the tracked "
                "ones do. Expected True or False. Pass it to the layer or to its call, or use `nnx.view`."
            )
        return asked

    def _track(self, mean: Array, var: Array) -> None:
        """Lets the tracked statistics follow those of the batch."""
        for tracked, now in ((self.mean, mean), (self.var, var)):
            followed = self.momentum * tracked[...] + (1 - self.momentum) * now
            tracked[...] = lax.stop_gradient(followed).astype(tracked.dtype)


class _SharedAffine(nnx.Module):
    """Norms whose statistics go where the channels go; only what is learnt has to be shared within orbits."""

    _host: Any
    plan: Plan

    def __init__(
        self,
        num_features: int,
        *arguments: Any,
        scale_init: Initializer = ONES,
        bias_init: Initializer = ZEROS,
        symmetry: _Symmetry = None,
        rngs: nnx.Rngs,
        **others: Any,
    ) -> None:
        bank = plan_of(symmetry, num_features)
        starts: Any = {
            "scale_init": representatives(scale_init, bank, -1),
            "bias_init": representatives(bias_init, bank, -1),
        }
        self._host.__init__(self, num_features, *arguments, rngs=rngs, **starts, **others)
        self.plan = bank

    def __call__(self, x: Array, *, mask: Array | None = None) -> Array:
        """Normalises as the host does, with one scale and one bias per channel."""
        names = [name for name in ("scale", "bias") if getattr(self, name) is not None]
        full = {name: Values(spread(getattr(self, name)[...], self.plan)) for name in names}
        normal: Array = self._host.__call__(Written(self, **full), x, mask=mask)
        return normal


class OrbitLayerNorm(_SharedAffine, nnx.LayerNorm):
    """`nnx.LayerNorm` over channels that are orbits: affine terms are shared within each orbit.

    Statistics over all channels do not notice an exchange; the affine terms of a ConvNeXt or a transformer would.

    Equivalent to: `nnx.LayerNorm` whose `scale` and `bias` are equal within each orbit.

    Law: exchanging channels with their mirrors, before or after, is the same.

    Args:
        symmetry: how the channels are arranged: the `symmetry` of the layer before.
        others: as in the host.

    Attributes:
        scale, bias: one entry per orbit and free channel.

    Raises:
        SymmetryError: for a symmetry that does not fit.

    Example:
        >>> OrbitLayerNorm(16, symmetry={'hv': 16}, rngs=nnx.Rngs(0)).scale.shape
        (4,)
    """

    _host = nnx.LayerNorm


class OrbitInstanceNorm(_SharedAffine, nnx.InstanceNorm):
    """`nnx.InstanceNorm` for channels that are orbits: affine terms are shared within each orbit.

    A picture's own statistics go where its channels go and need no sharing; what is learnt does.

    Equivalent to: `nnx.InstanceNorm` whose `scale` and `bias` are equal within each orbit.

    Law: exchanging channels with their mirrors, before or after, is the same.

    Args:
        symmetry: how the channels are arranged: the `symmetry` of the layer before.
        others: as in the host.

    Attributes:
        scale, bias: one entry per orbit and free channel.

    Raises:
        SymmetryError: for a symmetry that does not fit.

    Example:
        >>> OrbitInstanceNorm(16, symmetry={'hv': 16}, rngs=nnx.Rngs(0)).scale.shape
        (4,)
    """

    _host = nnx.InstanceNorm


class OrbitGroupNorm(_SharedAffine, nnx.GroupNorm):
    """`nnx.GroupNorm` for channels that are orbits: affine terms are shared within each orbit.

    Statistics are taken over groups of channels as in the host; mirroring must carry whole groups onto whole groups,
    so a group holds whole orbits, or a part of one that its mirrors keep together.

    Equivalent to: `nnx.GroupNorm` whose `scale` and `bias` are equal within each orbit.

    Law: exchanging channels with their mirrors, before or after, is the same.

    Args:
        symmetry: how the channels are arranged: the `symmetry` of the layer before.
        others: as in the host.

    Attributes:
        scale, bias: one entry per orbit and free channel.

    Raises:
        SymmetryError: for a symmetry that does not fit, or groups that mirroring would tear apart.

    Example:
        >>> OrbitGroupNorm(16, 4, symmetry={'hv': 16}, rngs=nnx.Rngs(0)).scale.shape
        (4,)
    """

    _host = nnx.GroupNorm

    def __init__(
        self, num_features: int, num_groups: int | None = 32, group_size: int | None = None, **others: Any
    ) -> None:
        super().__init__(num_features, num_groups, group_size, **others)
        keep_groups_whole(self.plan, self.num_groups)


def _factor(var: Array, scale: Array | None) -> Array:
    root = lax.rsqrt(var)
    return root if scale is None else root * scale
