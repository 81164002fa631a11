"""A convolution as wide as its input that cannot tell one neighbour from another."""

from __future__ import annotations

import tensorflow as tf

from symmetric_layers.errors import whole_number, yes_or_no
from symmetric_layers.tf1.autograph import as_written

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class GlobalConv1D(tf.keras.layers.Layer):
    """A 1-D convolution that is indifferent to the order of its features.

    One weight looks at the feature itself, one at all the others: for features that have no order, or one that should
    not matter. Cost and memory grow with the number of features, not with its square.

    y_i = activation(x_i @ centre + (sum of x_j over all j other than i) @ surround + bias)

    Equivalent to: a `Conv1D` with `kernel_size=2 * width - 1` and `padding='same'` whose middle tap is `centre` and
    whose every other tap is `surround`.

    Law: permuting the features permutes the output likewise.

    Args:
        filters: the channels of one answer.
        activation, use_bias, kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer,
        activity_regularizer, kernel_constraint, bias_constraint: as in `Conv1D`; those of the kernel hold for `centre`
            and for `surround`.

    Attributes:
        centre, surround: `(channels, filters)`.
        bias: `(filters,)` or None.

    Shape:
        `(batch, width)` or `(batch, width, channels)` to `(batch, width, filters)`; the width may be unknown. A Keras
        mask is `(batch, width)`, true for features that are there. Features that are not there are left out of the
        sums, and their own answer is 0; the mask is passed on.

    Raises:
        SymmetryError: for filters that are no whole number above 0, and a `use_bias` that is no bool.

    Example:
        >>> layer = GlobalConv1D(8, activation='relu')
        >>> layer(tf.zeros([2, 100, 3])).shape.as_list()
        [2, 100, 8]

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
        **options: Any,
    ) -> None:
        filters, use_bias = whole_number("filters", filters, 1), yes_or_no("use_bias", use_bias)
        super().__init__(activity_regularizer=tf.keras.regularizers.get(activity_regularizer), **options)
        self.filters = filters
        self.use_bias = use_bias
        self.activation = tf.keras.activations.get(activation)
        self.kernel_initializer = tf.keras.initializers.get(kernel_initializer)
        self.bias_initializer = tf.keras.initializers.get(bias_initializer)
        self.kernel_regularizer = tf.keras.regularizers.get(kernel_regularizer)
        self.bias_regularizer = tf.keras.regularizers.get(bias_regularizer)
        self.kernel_constraint = tf.keras.constraints.get(kernel_constraint)
        self.bias_constraint = tf.keras.constraints.get(bias_constraint)
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        """Makes the weights for inputs of this shape."""
        shape = tf.TensorShape(input_shape).as_list()
        if len(shape) not in (2, 3):
            raise ValueError(f"Inputs should have rank 2 or 3. Received input shape: {shape}")
        channels = shape[2] if len(shape) == 3 else 1
        if channels is None:
            raise ValueError("The channel dimension of the inputs should be defined. Found `None`.")
        self.input_spec = tf.keras.layers.InputSpec(ndim=len(shape), axes={2: channels} if len(shape) == 3 else None)
        self.centre, self.surround = (
            self.add_weight(
                name=name,
                shape=[channels, self.filters],
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
                shape=[self.filters],
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )
        super().build(input_shape)

    @as_written
    def call(self, inputs: tf.Tensor, mask: tf.Tensor | None = None) -> tf.Tensor:
        """Convolves `(batch, width)` or `(batch, width, channels)`; features where `mask` is false are left out."""
        x = inputs[:, :, tf.newaxis] if inputs.shape.ndims == 2 else inputs
        there = None if mask is None else tf.cast(mask, tf.bool)[:, :, tf.newaxis]
        if there is not None:
            x = _zero_unless(there, x)
        everybody = tf.reduce_sum(x, 1, keepdims=True)
        own = tf.tensordot(x, self.centre - self.surround, 1)
        answer = own + tf.tensordot(everybody, self.surround, 1)
        if self.bias is not None:
            answer = tf.nn.bias_add(answer, self.bias)
        if self.activation is not None:
            answer = self.activation(answer)
        if there is not None:
            answer = _zero_unless(there, answer)
        answer.set_shape(self.compute_output_shape(inputs.shape))
        return answer

    def compute_output_shape(self, input_shape: Any) -> tf.TensorShape:
        """As wide as the input, with `filters` channels."""
        return tf.TensorShape(input_shape)[:2].concatenate(self.filters)

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        return dict(
            super().get_config(),
            filters=self.filters,
            activation=tf.keras.activations.serialize(self.activation),
            use_bias=self.use_bias,
            kernel_initializer=tf.keras.initializers.serialize(self.kernel_initializer),
            bias_initializer=tf.keras.initializers.serialize(self.bias_initializer),
            kernel_regularizer=tf.keras.regularizers.serialize(self.kernel_regularizer),
            bias_regularizer=tf.keras.regularizers.serialize(self.bias_regularizer),
            activity_regularizer=tf.keras.regularizers.serialize(self.activity_regularizer),
            kernel_constraint=tf.keras.constraints.serialize(self.kernel_constraint),
            bias_constraint=tf.keras.constraints.serialize(self.bias_constraint),
        )


def _zero_unless(there: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """0 where nothing is there; whatever stood there (NaN, too) leaves no trace, nor does its gradient."""
    return tf.compat.v2.where(there, x, tf.zeros_like(x))
