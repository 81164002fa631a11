"""A convolution as wide as its input that cannot tell one neighbour from another."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from symmetric_layers.errors import whole_number, yes_or_no
from symmetric_layers.keras.channels import known_format


@keras.saving.register_keras_serializable(package="symmetric_layers")
class GlobalConv1D(keras.layers.Layer):
    """A 1-D convolution that is indifferent to the order of its features.

    One weight looks at the feature itself, one at all the others: for features that have no order, or one that should
    not matter. The cost grows with the number of features, not with its square.

    y_i = x_i @ centre + (sum of x_j over all j other than i) @ surround + bias, then the activation

    Equivalent to: a `Conv1D` with `kernel_size=2 * width - 1` and `padding='same'` whose middle tap is `centre` and
    whose every other tap is `surround`.

    Law: permuting the features permutes the output likewise.

    Args:
        filters: the channels of one answer.
        activation, use_bias, kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer,
            activity_regularizer, kernel_constraint, bias_constraint: as in `Conv1D`. What is said of the kernel goes
            for `centre` and for `surround`, each by itself.
        data_format: where the channels are, `'channels_last'` or `'channels_first'`; None as Keras is configured.

    Attributes:
        centre, surround: `(channels, filters)`, drawn like the kernel of a `Dense` layer.
        bias: `(filters,)` or None.

    Shape:
        `(batch, width)` or `(batch, width, channels)` to `(batch, width, filters)`; with `'channels_first'`
        `(batch, width)` or `(batch, channels, width)` to `(batch, filters, width)`. The width need not be known.
        A Keras mask `(batch, width)` leaves features out: out of the sums, and their own answer is 0.

    Raises:
        SymmetryError: for filters or channels that are no whole numbers above 0, and for no such `data_format`.

    Example:
        >>> layer = GlobalConv1D(8)
        >>> x, order = keras.random.normal((2, 100, 3)), keras.random.shuffle(keras.ops.arange(100))
        >>> permuted = layer(keras.ops.take(x, order, axis=1))
        >>> bool(keras.ops.all(keras.ops.isclose(permuted, keras.ops.take(layer(x), order, axis=1), atol=1e-4)))
        True

    Source: Zaheer et al., "Deep sets", NeurIPS 2017 (lemma 3: every linear map that permutes with its input).
    """

    def __init__(
        self,
        filters: int,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        filters, data_format = whole_number("filters", filters, 1), known_format(data_format)
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.filters = filters
        self.activation = keras.activations.get(activation)
        self.use_bias = yes_or_no("use_bias", use_bias)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)
        self.kernel_constraint = keras.constraints.get(kernel_constraint)
        self.bias_constraint = keras.constraints.get(bias_constraint)
        self.data_format = data_format
        self.supports_masking = True
        self.input_spec = keras.layers.InputSpec(min_ndim=2, max_ndim=3)

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Makes the weights, now that the number of input channels is known."""
        axis = -1 if self.data_format == "channels_last" else 1
        channels = 1 if len(input_shape) == 2 else whole_number("input channels", input_shape[axis], 1)
        axes = None if len(input_shape) == 2 else {axis: channels}
        self.input_spec = keras.layers.InputSpec(ndim=len(input_shape), axes=axes)
        self.centre, self.surround = (
            self.add_weight(
                name=name,
                shape=(channels, self.filters),
                initializer=self.kernel_initializer,
                regularizer=self.kernel_regularizer,
                constraint=self.kernel_constraint,
            )
            for name in ("centre", "surround")
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias",
                shape=(self.filters,),
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )
        self.built = True

    def call(self, inputs: Any, mask: Any = None) -> Any:
        """Convolves; features where `mask` is false are left out."""
        first = self.data_format == "channels_first"
        x = inputs
        if len(x.shape) == 2:
            x = ops.expand_dims(x, -1)
        elif first:
            x = ops.transpose(x, (0, 2, 1))
        there = None if mask is None else ops.expand_dims(ops.cast(mask, "bool"), -1)
        if there is not None:
            x = ops.where(there, x, ops.zeros_like(x))
        centre, surround = ops.convert_to_tensor(self.centre), ops.convert_to_tensor(self.surround)
        # sums of many features need more digits than 16 bits have
        wide = "float32" if keras.backend.standardize_dtype(x.dtype) in ("float16", "bfloat16") else x.dtype
        total = ops.sum(ops.cast(x, wide), axis=1, keepdims=True)
        # not `ops.matmul`, which on some backends computes float64 in float32
        around = ops.einsum("nwc,cf->nwf", total, ops.cast(surround, wide))
        answer = ops.add(ops.einsum("nwc,cf->nwf", x, centre - surround), ops.cast(around, x.dtype))
        if self.bias is not None:
            answer = ops.add(answer, self.bias)
        if self.activation is not None:
            answer = self.activation(answer)
        if there is not None:
            answer = ops.where(there, answer, ops.zeros_like(answer))
        return ops.transpose(answer, (0, 2, 1)) if first else answer

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        """`filters` channels at every feature."""
        if self.data_format == "channels_first":
            return (input_shape[0], self.filters, input_shape[-1])
        return (input_shape[0], input_shape[1], self.filters)

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
            "bias_regularizer": keras.regularizers.serialize(self.bias_regularizer),
            "activity_regularizer": keras.regularizers.serialize(self.activity_regularizer),
            "kernel_constraint": keras.constraints.serialize(self.kernel_constraint),
            "bias_constraint": keras.constraints.serialize(self.bias_constraint),
            "data_format": self.data_format,
        }
