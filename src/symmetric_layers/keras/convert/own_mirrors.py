"""Convolutions whose filters are their own mirrors: from ordinary channels to ordinary ones."""

import math
from typing import Any

import keras
from keras import ops

from symmetric_layers.keras.channels import channel_axis, flip, refuse_quantized
from symmetric_layers.keras.running import Convolving, Running
from symmetric_layers.letters import LETTERS, mirrors, orbit_size
from symmetric_layers.orbits import plan


class _OwnMirror(Running):
    def __init__(self, *arguments: Any, letters: str, **others: Any) -> None:
        super().__init__(*arguments, **others)
        refuse_quantized(self)
        self.letters = letters
        self.inputs = plan({letters: orbit_size(letters)}, orbit_size(letters), self.rank)  # a way back wants to know

    def _axes(self) -> list[int]:
        return [self.rank - 1 - LETTERS.index(letter) for letter in self.letters]

    def add_weight(self, shape: Any = None, initializer: Any = None, *arguments: Any, **others: Any) -> Any:
        """Adds a weight as the host does; of filters, the half that the other half mirrors is stored."""
        if others.get("name") == "kernel":
            drawn, whole = keras.initializers.get(initializer), tuple(shape)
            shape = [math.ceil(size / 2) if axis in self._axes() else size for axis, size in enumerate(whole)]
            kept = tuple(slice(size) for size in shape)

            def initializer(shape: Any, dtype: Any = None) -> Any:
                return drawn(whole, dtype=dtype)[kept]

        return super().add_weight(shape, initializer, *arguments, **others)

    def full_kernel(self) -> Any:
        """The filters with both halves: what the host's layer would hold as its `kernel`."""
        kernel = ops.convert_to_tensor(self.kernel)
        for axis in self._axes():
            other = ops.flip(kernel, axis)
            odd = self.kernel_size[axis] % 2
            behind = other[(slice(None),) * axis + (slice(odd, None),)]
            kernel = ops.concatenate([kernel, behind], axis=axis)
        return kernel

    def representatives(self, kernel: Any) -> Any:
        """What is stored of the means of such filters over all their mirrors."""
        for axis in self._axes():
            kernel = (kernel + kernel[(slice(None),) * axis + (slice(None, None, -1),)]) / 2
        return kernel[tuple(slice(size) for size in self.kernel.shape)]

    def _convolved(self, inputs: Any) -> Any:
        axis, kernel = channel_axis(self.data_format), self.full_kernel()
        crooked = "".join(letter for letter in self._crooked(self._positions(inputs)) if letter in self.letters)
        answers = [flip(self._run(flip(inputs, seen, axis), kernel), seen, axis) for seen in mirrors(crooked)]
        return sum(answers[1:], answers[0]) / len(answers) if len(answers) > 1 else answers[0]

    def get_config(self) -> dict[str, Any]:
        """The host's config, and what was asked for beyond it."""
        return {**super().get_config(), "letters": self.letters}


@keras.saving.register_keras_serializable(package="symmetric_layers")
class OwnMirrorConv1D(_OwnMirror, Convolving, keras.layers.Conv1D):
    """`Conv1D` whose filters are their own mirrors; `OwnMirrorConv2D` explains it."""


@keras.saving.register_keras_serializable(package="symmetric_layers")
class OwnMirrorConv2D(_OwnMirror, Convolving, keras.layers.Conv2D):
    """`Conv2D` whose filters are their own mirrors: between ordinary channels, that is all that mirrors.

    Orbits lose nothing and are to be preferred where there can be any. Single channels that are convolved each by
    itself, a blur of pictures, say, have no room for them.

    Equivalent to: a `Conv2D` whose `kernel` is `ops.concatenate([w, ops.flip(w, 1)[:, 1:]], 1)`, for odd kernels and
    `'h'`; the mean of that over both grids where stride, size and padding do not fit together.

    Law: mirroring the input along one of the letters mirrors the output. It holds at every size.

    Args:
        letters: the axes along which filters are their own mirrors, like `'hv'`.
        others: as in the host. Initializers draw the full filters, of which one half is kept.

    Attributes:
        kernel: the first half of each filter along each letter, its middle with it.

    Shape:
        As in the host.
    """


@keras.saving.register_keras_serializable(package="symmetric_layers")
class OwnMirrorConv3D(_OwnMirror, Convolving, keras.layers.Conv3D):
    """`Conv3D` whose filters are their own mirrors; `OwnMirrorConv2D` explains it."""
