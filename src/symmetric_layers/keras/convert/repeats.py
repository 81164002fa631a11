"""Channels that stand several times, orbit by orbit."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from symmetric_layers.errors import whole_number
from symmetric_layers.keras.arranged import Arranged, Symmetry
from symmetric_layers.keras.channels import channel_axis, known_format


@keras.saving.register_keras_serializable(package="symmetric_layers")
class RepeatOrbits(Arranged, keras.layers.Layer):
    """Every orbit of channels several times, one after the other: what a depthwise layer makes several channels of.

    Equivalent to: `ops.take(x, numbers, axis)` with the numbers of each orbit's channels, again and again.

    Law: exchanging channels with their mirrors, before or after, is the same.

    Args:
        times: how often.
        symmetry: how the channels are arranged.
        data_format: where they are.
        others: as in the host.
    """

    def __init__(self, times: int, *, symmetry: Symmetry, data_format: str | None = None, **others: Any) -> None:
        super().__init__(symmetry=symmetry, **others)
        self.times, self.data_format = whole_number("times", times, 1), known_format(data_format)

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Learns how the channels are arranged."""
        self._axis = channel_axis(self.data_format)
        self._arrange(input_shape, self._axis)
        self.built = True

    def numbers(self) -> list[int]:
        """Which channel of the input stands where."""
        runs = [orbit.members for orbit in self.plan.orbits] + [(number,) for number in self.plan.free]
        return [number for run in runs for _ in range(self.times) for number in run]

    def call(self, inputs: Any) -> Any:
        """Repeats channels."""
        return ops.take(inputs, self.numbers(), axis=self._axis)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> Any:
        """As many times as many channels."""
        shape, axis = list(input_shape), channel_axis(self.data_format)
        channels = shape[axis]
        shape[axis] = None if channels is None else channels * self.times
        return tuple(shape)

    def get_config(self) -> dict[str, Any]:
        """What was asked for."""
        return {**super().get_config(), "times": self.times, "data_format": self.data_format}
