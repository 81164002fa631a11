"""Any channelwise layer, made to obey the mirror law on orbits of channels at every size."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from symmetric_layers.errors import SymmetryError, whole_number
from symmetric_layers.keras.channels import channel_axis, flip, known_format, per_block, plain
from symmetric_layers.letters import LETTERS, mirrors
from symmetric_layers.orbits import Block, Plan, plan


@keras.saving.register_keras_serializable(package="symmetric_layers")
class Mirrored(keras.layers.Wrapper):
    """A layer that treats every channel by itself, seen in the mirror by the mirrors of an orbit.

    Max pooling with stride 2 pairs columns 0 and 1, 2 and 3, ...: on a picture of odd width its mirror image pairs
    others, and the law is lost. Here the mirrors of an orbit are pooled in the mirror.

    Equivalent to: `flip . layer . flip` on the channels that are mirrored, the layer on the others.

    Law: where the channels of the input are orbits, mirroring the input and exchanging its channels mirrors the output
    and exchanges its channels; at every size.

    Args:
        layer: a layer without weights that answers channel by channel, for any number of them: pooling, upsampling.
        symmetry: how the channels are arranged: the `symmetry` of the layer before.

    Shape:
        What the layer gives. The channels are where the layer has them, last where it does not say.

    Raises:
        SymmetryError: for a symmetry that cannot be read, or (when it is built) that the channels do not fit; and for a
            layer with weights.

    Example:
        >>> pool = Mirrored(keras.layers.MaxPooling2D(2), {'h': 4})
        >>> x = keras.random.normal((1, 7, 7, 4))
        >>> mirrored = pool(keras.ops.take(keras.ops.flip(x, 2), [1, 0, 3, 2], axis=-1))
        >>> bool(keras.ops.all(mirrored == keras.ops.take(keras.ops.flip(pool(x), 2), [1, 0, 3, 2], axis=-1)))
        True
    """

    def __init__(self, layer: Any, symmetry: Mapping[str, int | str] | None, **kwargs: Any) -> None:
        given = plain("symmetry", symmetry)
        super().__init__(layer, **kwargs)
        self.symmetry = given

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Checks that the channels fit."""
        self.plan = self._plan(input_shape)
        super().build(input_shape)
        if self.layer.weights:
            raise SymmetryError(
                f"layer: {self.layer.name!r} has weights of its own for every channel. Expected a layer without "
                "weights. Use a symmetric layer in its place."
            )

    def call(self, inputs: Any) -> Any:
        """Calls the layer, in the mirror where channels are mirrors."""
        axis = self._axis()
        same = self.built and inputs.shape[axis] == self.plan.filters
        bank = self.plan if same else self._plan(inputs.shape)
        return per_block(inputs, bank, axis, lambda run, block: self._members(run, block, axis))

    def _members(self, run: Any, block: Block, axis: int) -> Any:
        """The answers for the orbits of one kind."""
        if not block.kind:
            return self.layer(run)
        answers = []
        for index, letters in enumerate(mirrors(block.kind)):
            every = slice(index, None, block.size)
            own = run[..., every] if axis == -1 else run[:, every]
            answer = self.layer(flip(own, letters, axis))
            if len(answer.shape) == len(own.shape):  # where it takes all positions together, nothing is mirrored back
                answer = flip(answer, letters, axis)
            answers.append(answer)
        behind = len(answers[0].shape) if axis == -1 else 2
        shape = list(ops.shape(answers[0]))
        shape[axis] = block.filters
        return ops.reshape(ops.stack(answers, axis=behind), shape)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> Any:
        """What the layer says."""
        return self.layer.compute_output_shape(input_shape)

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        return {**super().get_config(), "symmetry": None if self.symmetry is None else dict(self.symmetry)}

    def _axis(self) -> int:
        return channel_axis(known_format(getattr(self.layer, "data_format", "channels_last")))

    def _plan(self, shape: Sequence[int | None]) -> Plan:
        channels = whole_number("input channels", shape[self._axis()], 1)
        return plan(self.symmetry, channels, min(max(len(shape) - 2, 1), len(LETTERS)))
