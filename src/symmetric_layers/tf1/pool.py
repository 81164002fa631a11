"""Pooling over the members of an orbit, and pooling that keeps the k largest values."""

from __future__ import annotations

import tensorflow as tf

from symmetric_layers.errors import SymmetryError, enough_positions, one_of, whole_number
from symmetric_layers.letters import LETTERS
from symmetric_layers.orbits import plan
from symmetric_layers.tf1.autograph import as_written
from symmetric_layers.tf1.channels import frozen, per_block, thawed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from symmetric_layers.orbits import Block, Plan


class OrbitPool(tf.keras.layers.Layer):
    """Pools each orbit of channels into one channel: the way from mirrored answers to one answer.

    What is left of an orbit no longer knows which of its mirrors saw the pattern. Free channels pass through.

    Equivalent to: `tf.reduce_mean(tf.reshape(x, [n, height, width, -1, 2]), -1)` where all channels are `'h'` orbits.

    Law: where the channels obey the law of `SymmetricConv2D`, mirroring the input along a letter of every kind
    mirrors the output and exchanges nothing: after a mean or maximum over all positions it does not change at all.

    Args:
        symmetry: how the channels are arranged, as in the layer that made them.
        reduce: `'mean'` or `'max'`.

    Shape:
        `(batch, *positions, C)` to `(batch, *positions, orbits + free channels)`, with any number of positions axes.

    Raises:
        SymmetryError: when constructed with no such `reduce` or an unknown kind; when built, for numbers that do not
            fit the channels.

    Example:
        >>> pool = OrbitPool({'hv': 8}, reduce='max')
        >>> pool(tf.zeros([5, 28, 28, 10])).shape.as_list()
        [5, 28, 28, 4]
    """

    def __init__(self, symmetry: Mapping[str, int | str] | None, reduce: str = "mean", **options: Any) -> None:
        asked = frozen("symmetry", symmetry, len(LETTERS))
        reduce = one_of("reduce", reduce, ("mean", "max"))
        super().__init__(**options)
        self._symmetry = asked
        self.reduce = reduce
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        """Looks whether the symmetry fits the channels."""
        self.plan = self._plan(input_shape)
        super().build(input_shape)

    @as_written
    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Pools `(batch, *positions, C)` over the members of each orbit."""

        def pool(channels: tf.Tensor, block: Block) -> tf.Tensor:
            if not block.kind:
                return channels
            leading = tf.shape(channels)[:-1]
            members = tf.reshape(channels, tf.concat([leading, [block.orbits, block.size]], 0))
            return tf.reduce_mean(members, -1) if self.reduce == "mean" else tf.reduce_max(members, -1)

        answer = per_block(inputs, self.plan, -1, pool)
        answer.set_shape(inputs.shape[:-1].concatenate(self.plan.stored))
        return answer

    def compute_output_shape(self, input_shape: Any) -> tf.TensorShape:
        """The input's shape, with as many channels as there are orbits and free channels."""
        shape = tf.TensorShape(input_shape)
        return shape[:-1].concatenate(self._plan(shape).stored)

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        return dict(super().get_config(), symmetry=thawed(self._symmetry), reduce=self.reduce)

    def _plan(self, shape: Any) -> Plan:
        return plan(thawed(self._symmetry), tf.TensorShape(shape).as_list()[-1], len(LETTERS))


class TopKPool(tf.keras.layers.Layer):
    """Keeps the k largest values of each channel over all positions, largest first; k = 1 is global max pooling.

    A pattern that occurs three times then counts three times, wherever it stands.

    Equivalent to: `tf.sort(x, axis=1, direction='DESCENDING')[:, :k]`.

    Law: permuting the positions, mirroring among them, changes nothing.

    Args:
        k: how many values to keep, at least 1.

    Shape:
        `(batch, steps, channels)` to `(batch, k, channels)`; further positions axes are taken as one.

    Raises:
        SymmetryError: for a k that is no whole number above 0, and for inputs with fewer than k positions.
        tf.errors.InvalidArgumentError: the same sentence, where the number of positions is known only at run time.

    Example:
        >>> TopKPool(2)(tf.zeros([5, 100, 8])).shape.as_list()
        [5, 2, 8]

    Source: Kalchbrenner et al., "A convolutional neural network for modelling sentences", ACL 2014 (k-max pooling).
    """

    def __init__(self, k: int, **options: Any) -> None:
        k = whole_number("k", k, 1)
        super().__init__(**options)
        self.k = k

    @as_written
    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Picks the k largest of `(batch, *positions, channels)` per channel."""
        last = inputs.shape.ndims - 1
        shape = tf.shape(inputs)
        positions = inputs.shape[1:last].num_elements()
        if positions is None:
            positions = tf.reduce_prod(shape[1:last])
            with tf.control_dependencies([tf.debugging.Assert(positions >= self.k, [_refusal(self.k, positions)])]):
                inputs = tf.identity(inputs)
        else:
            enough_positions(self.k, positions)
        flat = tf.reshape(inputs, tf.stack([shape[0], positions, shape[last]]))
        answer = tf.transpose(tf.nn.top_k(tf.transpose(flat, [0, 2, 1]), self.k).values, [0, 2, 1])
        answer.set_shape(self.compute_output_shape(inputs.shape))
        return answer

    def compute_output_shape(self, input_shape: Any) -> tf.TensorShape:
        """k positions of as many channels."""
        shape = tf.TensorShape(input_shape)
        return shape[:1].concatenate(self.k).concatenate(shape[-1:])

    def get_config(self) -> dict[str, Any]:
        """The argument."""
        return dict(super().get_config(), k=self.k)


def _refusal(k: int, positions: tf.Tensor) -> tf.Tensor:
    """The sentence of `enough_positions`, for a number of positions that only the running graph knows."""
    unknown = -1
    try:
        enough_positions(k, unknown)
    except SymmetryError as refusal:
        words = str(refusal).split(str(unknown))
    text = [tf.strings.as_string(positions)] * (2 * len(words) - 1)
    text[::2] = words
    return tf.strings.join(text)
