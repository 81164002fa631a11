"""Pooling over the members of an orbit, and pooling that keeps the k largest values."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from symmetric_layers.errors import enough_positions, one_of, whole_number
from symmetric_layers.keras.channels import channel_axis, known_format, per_block, plain
from symmetric_layers.letters import LETTERS
from symmetric_layers.orbits import Block, Plan, plan


@keras.saving.register_keras_serializable(package="symmetric_layers")
class OrbitPool(keras.layers.Layer):
    """Pools each orbit of channels into one channel: the way from mirrored answers to one answer.

    What is left of an orbit no longer knows which of its mirrors saw the pattern. Free channels pass through.

    Equivalent to: `ops.mean(ops.reshape(x, (*x.shape[:-1], -1, 2)), -1)` where all channels are `'h'` orbits.

    Law: where the channels obey the law of `SymmetricConv2D`, mirroring the input along a letter of every kind
    mirrors the output and exchanges nothing: after a mean or maximum over all positions it does not change at all.

    Args:
        symmetry: how the channels are arranged, as in the layer that made them.
        reduce: `'mean'` or `'max'`.
        data_format: where the channels are, `'channels_last'` or `'channels_first'`; None as Keras is configured.

    Shape:
        `(batch, *positions, channels)` to `(batch, *positions, orbits + free channels)`, or the same with the
        channels after the batch; with any number of position axes.

    Raises:
        SymmetryError: for no such `reduce` or `data_format`, and, when it is built, for channels that `symmetry` does
            not fit.

    Example:
        >>> pool = OrbitPool({'hv': 8}, reduce='max')
        >>> tuple(pool(keras.random.normal((5, 28, 28, 10))).shape)
        (5, 28, 28, 4)
    """

    def __init__(
        self,
        symmetry: Mapping[str, int | str] | None,
        reduce: str = "mean",
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        given = plain("symmetry", symmetry)
        reduce = one_of("reduce", reduce, ("mean", "max"))
        data_format = known_format(data_format)
        super().__init__(**kwargs)
        self.symmetry, self.reduce, self.data_format = given, reduce, data_format
        self.supports_masking = True  # positions stay where they are
        self.input_spec = keras.layers.InputSpec(min_ndim=2)

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Checks that the channels fit."""
        self.plan = self._plan(input_shape)
        self.built = True

    def call(self, inputs: Any) -> Any:
        """Pools over the members of each orbit."""
        axis = channel_axis(self.data_format)
        position = axis % len(inputs.shape)

        def pool(channels: Any, block: Block) -> Any:
            if not block.kind:
                return channels
            shape = ops.shape(channels)
            members = ops.reshape(channels, (*shape[:position], block.orbits, block.size, *shape[position + 1 :]))
            if self.reduce == "max":
                return ops.max(members, axis=position + 1)
            return ops.sum(members, axis=position + 1) / block.size  # `ops.mean` of float64 loses half the digits

        same = self.built and inputs.shape[axis] == self.plan.filters
        return per_block(inputs, self.plan if same else self._plan(inputs.shape), axis, pool)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        """The shape of the input, with one channel per orbit and free channel."""
        shape = list(input_shape)
        shape[channel_axis(self.data_format)] = self._plan(input_shape).stored
        return tuple(shape)

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        symmetry = None if self.symmetry is None else dict(self.symmetry)
        return {**super().get_config(), "symmetry": symmetry, "reduce": self.reduce, "data_format": self.data_format}

    def _plan(self, shape: Sequence[int | None]) -> Plan:
        return plan(self.symmetry, shape[channel_axis(self.data_format)], len(LETTERS))  # type: ignore[arg-type]


@keras.saving.register_keras_serializable(package="symmetric_layers")
class TopKPool(keras.layers.Layer):
    """Keeps the k largest values of each channel over all positions, largest first; k = 1 is global max pooling.

    A pattern that occurs three times then counts three times, wherever it stands.

    Equivalent to: `ops.flip(ops.sort(x, axis=1), axis=1)[:, :k]` for `(batch, steps, channels)`.

    Law: permuting the positions, mirroring among them, changes nothing.

    Args:
        k: how many values to keep, at least 1.
        data_format: where the channels are, `'channels_last'` or `'channels_first'`; None as Keras is configured.

    Shape:
        `(batch, *positions, channels)` to `(batch, k, channels)`, or `(batch, channels, *positions)` to
        `(batch, channels, k)`, with any number of position axes.

    Raises:
        SymmetryError: for a k that is no whole number above 0, and for inputs with fewer than k positions. A
            TensorFlow graph that learns the number of positions only when it runs refuses them in its own words.

    Example:
        >>> keras.ops.convert_to_numpy(TopKPool(2)(keras.ops.array([[[1.0], [5.0], [3.0]]]))).tolist()
        [[[5.0], [3.0]]]

    Source: Kalchbrenner et al., "A convolutional neural network for modelling sentences", ACL 2014 (k-max pooling).
    """

    def __init__(self, k: int, data_format: str | None = None, **kwargs: Any) -> None:
        k, data_format = whole_number("k", k, 1), known_format(data_format)
        super().__init__(**kwargs)
        self.k, self.data_format = k, data_format
        self.input_spec = keras.layers.InputSpec(min_ndim=3)

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Checks that there are enough positions, where their number is known."""
        self.compute_output_shape(input_shape)
        self.built = True

    def call(self, inputs: Any) -> Any:
        """Picks the k largest per channel."""
        self.compute_output_shape(inputs.shape)
        last = self.data_format == "channels_last"
        x = ops.moveaxis(inputs, -1, 1) if last else inputs
        shape = ops.shape(x)
        x = ops.reshape(x, (shape[0], shape[1], math.prod(shape[2:])))
        values, _ = ops.top_k(x, self.k)
        return ops.moveaxis(values, 1, -1) if last else values

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        """k positions per channel; refused where the input is known to have fewer."""
        last = self.data_format == "channels_last"
        positions = input_shape[1:-1] if last else input_shape[2:]
        known = [size for size in positions if size is not None]
        if len(known) == len(positions):
            enough_positions(self.k, math.prod(known))
        return (input_shape[0], self.k, input_shape[-1]) if last else (input_shape[0], input_shape[1], self.k)

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        return {**super().get_config(), "k": self.k, "data_format": self.data_format}
