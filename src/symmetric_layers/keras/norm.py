"""Normalisation that treats the members of an orbit as one channel seen several times."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from symmetric_layers.errors import SymmetryError
from symmetric_layers.groups import keep_groups_whole
from symmetric_layers.keras.arranged import Arranged, Symmetry
from symmetric_layers.keras.channels import expand_bias, per_block
from symmetric_layers.keras.initial import Representatives
from symmetric_layers.keras.written import Written
from symmetric_layers.orbits import Block


@keras.saving.register_keras_serializable(package="symmetric_layers")
class OrbitBatchNormalization(Arranged, keras.layers.BatchNormalization):
    """`BatchNormalization` for channels that are orbits: statistics and affine terms are shared within each orbit.

    An ordinary batch norm gives a filter and its mirror different scales, and the answer no longer mirrors. Here an
    orbit is one channel that is seen several times.

    Equivalent to: for `'h'` orbits alone, `BatchNormalization(axis=-2)` on `ops.reshape(x, (*x.shape[:-1], -1, 2))`,
    where the two members of each orbit are further positions.

    Law: exchanging channels with their mirrors, before or after, is the same; so it keeps the law of the layer before.

    Args:
        symmetry: how the channels are arranged: the `symmetry` of the layer before. None: an ordinary batch norm.
        others: as in the host; `renorm=True` is not shared within orbits, and refused.

    Attributes:
        gamma, beta, moving_mean, moving_variance: one entry per orbit and free channel, `(plan.stored,)`.

    Shape:
        `(batch, *positions, channels)` to the same; with `axis=` the channels stand on that axis.

    Raises:
        SymmetryError: for `renorm=True`; when it is built, for channels that `symmetry` does not fit.

    Example:
        >>> norm = OrbitBatchNormalization(symmetry={'h': 8})
        >>> tuple(norm(keras.ops.ones((5, 28, 28, 16))).shape), tuple(norm.gamma.shape)
        ((5, 28, 28, 16), (12,))
    """

    def __init__(self, *arguments: Any, symmetry: Symmetry = None, **others: Any) -> None:
        super().__init__(*arguments, symmetry=symmetry, **others)
        if self.symmetry and getattr(self, "renorm", False):
            raise SymmetryError(
                "renorm: True is not shared within orbits. Expected False. Use it with ordinary batch norms only."
            )

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Makes one scale, offset, mean and variance per orbit."""
        self._arrange(input_shape, self.axis)
        stored = list(input_shape)
        stored[self.axis] = self.plan.stored
        super().build(tuple(stored))
        self.input_spec = keras.layers.InputSpec(ndim=len(input_shape), axes={self.axis: input_shape[self.axis]})

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalises with the statistics of each orbit; positions where `mask` is false do not count."""
        if not self.plan.orbits or (mask is not None and len(mask.shape) != len(inputs.shape) - 1):
            return super().call(inputs, training=training, mask=mask)  # which refuses such a mask in its own words
        dtype = keras.backend.standardize_dtype(inputs.dtype)
        dtype = "float64" if dtype == "float64" else "float32"  # 16 bits do not hold sums, nor the host's rules 64
        x = ops.cast(inputs, dtype)
        mean, variance = ops.cast(self.moving_mean, dtype), ops.cast(self.moving_variance, dtype)
        if training and self.trainable:
            now = self._orbit_moments(x, mask)
            for tracked, before, value in zip(
                (self.moving_mean, self.moving_variance), (mean, variance), now, strict=True
            ):
                tracked.assign(before * self.momentum + value * (1.0 - self.momentum))
            mean, variance = now
        outputs = ops.batch_normalization(
            x,
            expand_bias(mean, self.plan),
            expand_bias(variance, self.plan),
            axis=self.axis,
            offset=expand_bias(ops.cast(self.beta, dtype), self.plan) if self.center else None,
            scale=expand_bias(ops.cast(self.gamma, dtype), self.plan) if self.scale else None,
            epsilon=self.epsilon,
        )
        return ops.cast(outputs, self.compute_dtype)

    def _orbit_moments(self, x: Any, mask: Any) -> tuple[Any, Any]:
        """The mean and variance of each orbit; a mask lacks the last axis, as the host's do."""
        axes = [axis for axis in range(len(x.shape)) if axis != self.axis % len(x.shape)]
        if mask is None:  # all channels have equally many numbers
            means, variances = ops.moments(x, axes, synchronized=self.synchronized)
            mean = self._over_orbits(means, "mean")
            away = ops.square(means - expand_bias(mean, self.plan))
            return mean, self._over_orbits(variances + away, "mean")
        there, nothing = ops.expand_dims(ops.cast(mask, "bool"), -1), ops.zeros_like(x)
        count = ops.sum(ops.cast(ops.broadcast_to(there, ops.shape(x)), x.dtype), axes)
        count = self._over_orbits(count, "sum") + keras.backend.epsilon()  # as the host does
        mean = self._over_orbits(ops.sum(ops.where(there, x, nothing), axes), "sum") / count
        shape = [1] * len(x.shape)
        shape[self.axis] = self.plan.filters
        away = ops.square(x - ops.reshape(expand_bias(mean, self.plan), shape))
        return mean, self._over_orbits(ops.sum(ops.where(there, away, nothing), axes), "sum") / count

    def _over_orbits(self, per_channel: Any, how: str) -> Any:
        def joined(run: Any, block: Block) -> Any:
            total = ops.sum(ops.reshape(run, [block.orbits, block.size]), axis=1)
            return total / block.size if how == "mean" else total

        return per_block(per_channel, self.plan, -1, joined)


class _SharedAffine(Arranged):
    """Norms whose statistics go where the channels go; only what is learnt has to be shared within orbits."""

    _host: type

    def add_weight(self, shape: Any = None, initializer: Any = None, *arguments: Any, **others: Any) -> Any:
        """Adds a weight as the host does; of scales and offsets, only those of representatives are stored."""
        if self.plan.orbits:
            initializer, shape = Representatives(initializer, shape, -1, self.plan), (self.plan.stored,)
        return super().add_weight(shape, initializer, *arguments, **others)

    def call(self, inputs: Any) -> Any:
        """Normalises as the host does, with one scale and one offset per channel."""
        names = [name for name in ("gamma", "beta") if getattr(self, name) is not None]
        full = {name: expand_bias(getattr(self, name), self.plan) for name in names}
        call: Any = self._host.call  # type: ignore[attr-defined]
        return call(Written(self, **full), inputs)


@keras.saving.register_keras_serializable(package="symmetric_layers")
class OrbitLayerNormalization(_SharedAffine, keras.layers.LayerNormalization):
    """`LayerNormalization` over channels that are orbits: affine terms are shared within each orbit.

    Statistics over all channels do not notice an exchange; the affine terms of a ConvNeXt or a transformer would.

    Equivalent to: `LayerNormalization` whose `gamma` and `beta` are equal within each orbit.

    Law: exchanging channels with their mirrors, before or after, is the same.

    Args:
        symmetry: how the channels are arranged: the `symmetry` of the layer before.
        others: as in the host; `axis` is the axis of the channels alone, because affine terms of positions would tell
            left from right.

    Attributes:
        gamma, beta: one entry per orbit and free channel.

    Raises:
        SymmetryError: for several axes; when it is built, for channels that `symmetry` does not fit.

    Example:
        >>> norm = OrbitLayerNormalization(symmetry={'hv': 16})
        >>> tuple(norm(keras.ops.ones((2, 5, 5, 16))).shape), tuple(norm.gamma.shape)
        ((2, 5, 5, 16), (4,))
    """

    _host = keras.layers.LayerNormalization

    def __init__(self, *arguments: Any, symmetry: Symmetry = None, **others: Any) -> None:
        super().__init__(*arguments, symmetry=symmetry, **others)
        if self.symmetry and not isinstance(self.axis, int) and len(self.axis) != 1:
            raise SymmetryError(
                f"axis: {list(self.axis)!r} holds positions as well as channels. Expected the axis of the channels. "
                "Use OrbitLayerNormalization(axis=-1), which any size of picture fits."
            )

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Makes one scale and offset per orbit."""
        self._arrange(input_shape, self.axis if isinstance(self.axis, int) else self.axis[0])
        super().build(input_shape)


@keras.saving.register_keras_serializable(package="symmetric_layers")
class OrbitGroupNormalization(_SharedAffine, keras.layers.GroupNormalization):
    """`GroupNormalization` for channels that are orbits: affine terms are shared within each orbit.

    Statistics are taken over groups of channels as in the host; mirroring must carry whole groups onto whole groups,
    so a group holds whole orbits, or a part of one that its mirrors keep together. `groups=-1` is instance
    normalization, which always fits.

    Equivalent to: `GroupNormalization` whose `gamma` and `beta` are equal within each orbit.

    Law: exchanging channels with their mirrors, before or after, is the same.

    Args:
        symmetry: how the channels are arranged: the `symmetry` of the layer before.
        others: as in the host.

    Attributes:
        gamma, beta: one entry per orbit and free channel.

    Raises:
        SymmetryError: when it is built, for channels that `symmetry` does not fit, or groups that mirroring would tear
            apart.

    Example:
        >>> norm = OrbitGroupNormalization(4, symmetry={'hv': 16})
        >>> tuple(norm(keras.ops.ones((2, 5, 5, 16))).shape), tuple(norm.gamma.shape)
        ((2, 5, 5, 16), (4,))
    """

    _host = keras.layers.GroupNormalization

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Makes one scale and offset per orbit."""
        self._arrange(input_shape, self.axis)
        super().build(input_shape)
        keep_groups_whole(self.plan, self.groups, "groups")
