"""The host's convolutions, asked with other filters than they hold."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras
from keras import ops

from symmetric_layers.keras.channels import channel_axis
from symmetric_layers.keras.grid import lopsided, lopsided_transposed

if TYPE_CHECKING:
    from keras.layers import Layer as _Host
else:
    _Host = object


class Running(_Host):
    """What all convolutions of this face share: filters of their own making, then biases and the activation."""

    _transposed: bool

    def _answer(self, inputs: Any) -> Any:
        """What all filters answer, with their biases and the activation."""
        outputs = self._convolved(inputs)
        if self.use_bias:
            shape = [1] * (self.rank + 2)
            shape[channel_axis(self.data_format)] = self.filters
            outputs = ops.add(outputs, ops.reshape(self._biases(), shape))
        return outputs if self.activation is None else self.activation(outputs)

    def _convolved(self, inputs: Any) -> Any:
        """What all filters answer, without biases."""
        raise NotImplementedError

    def _biases(self) -> Any:
        """One bias per filter."""
        return self.bias

    def _positions(self, inputs: Any) -> Sequence[int | None]:
        """The size of pictures, as far as it is known."""
        return tuple(inputs.shape[1:-1] if self.data_format == "channels_last" else inputs.shape[2:])

    def _run(self, inputs: Any, kernel: Any) -> Any:
        """The host's convolution with these filters, without biases."""
        raise NotImplementedError

    def _crooked(self, sizes: Sequence[int | None]) -> str:
        """The letters along which the host's grid is not its own mirror image."""
        raise NotImplementedError


class Convolving(Running):
    """A convolution."""

    _transposed = False

    def call(self, inputs: Any) -> Any:
        """Convolves a batch of pictures as the host's layer does."""
        return self._answer(inputs)

    def _run(self, inputs: Any, kernel: Any) -> Any:
        padding = self.padding
        if padding == "causal":
            before = self.dilation_rate[0] * (self.kernel_size[0] - 1)
            pads = [[0, 0], [0, 0], [0, 0]]
            pads[1 if self.data_format == "channels_last" else 2] = [before, 0]
            inputs, padding = ops.pad(inputs, pads), "valid"
        convolve = ops.conv
        if self._is_depthwise(kernel):
            convolve, channels = ops.depthwise_conv, inputs.shape[-1]
            kernel = ops.reshape(kernel, [*kernel.shape[:-2], channels, kernel.shape[-1] // channels])
        return convolve(
            inputs,
            kernel,
            strides=tuple(self.strides),
            padding=padding,
            dilation_rate=self.dilation_rate,
            data_format=self.data_format,
        )

    def _is_depthwise(self, kernel: Any) -> bool:
        """Whether TensorFlow has an operation of its own for this, where it compiles grouped ones with XLA."""
        alike = len({*self.strides}) == len({*self.dilation_rate}) == 1 and 1 in (*self.strides, *self.dilation_rate)
        known = self.data_format == "channels_last" and self.rank < 3 and keras.backend.backend() == "tensorflow"
        return self.groups > 1 and kernel.shape[-2] == 1 and alike and known

    def _crooked(self, sizes: Sequence[int | None]) -> str:
        return lopsided(self, sizes)


class Spreading(Running):
    """A transposed convolution."""

    _transposed = True

    def call(self, inputs: Any) -> Any:
        """Spreads a batch of pictures out as the host's layer does."""
        return self._answer(inputs)

    def _run(self, inputs: Any, kernel: Any) -> Any:
        return ops.conv_transpose(
            inputs,
            kernel,
            strides=list(self.strides),
            padding=self.padding,
            output_padding=self.output_padding,
            dilation_rate=self.dilation_rate,
            data_format=self.data_format,
        )

    def _crooked(self, sizes: Sequence[int | None]) -> str:
        return lopsided_transposed(self)
