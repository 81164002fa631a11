"""A convolution as wide as its input that cannot tell one neighbour from another."""

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax import Array

from symmetric_layers.errors import whole_number, yes_or_no
from symmetric_layers.flax.initial import KERNEL, ZEROS, Initializer


class GlobalConv1D(nnx.Module):
    """A 1-D convolution that is indifferent to the order of its features.

    One weight looks at the feature itself, one at all the others: for features that have no order, or one that should
    not matter. The cost grows with the number of features, not with its square.

    y_i = x_i @ centre + (sum of x_j over all j other than i) @ surround + bias

    Equivalent to: an `nnx.Conv` with `kernel_size=(2 * width - 1,)` whose middle tap is `centre` and whose every other
    tap is `surround`.

    Law: permuting the features permutes the output likewise.

    Args:
        in_features: the channels of one feature.
        out_features: the channels of one answer.
        use_bias, dtype, param_dtype, precision, kernel_init, bias_init, rngs: as in `nnx.Linear`. What
            is said of the kernel goes for `centre` and for `surround`, each by itself.

    Attributes:
        centre, surround: `(in_features, out_features)`, drawn like the kernel of `nnx.Linear`.
        bias: `(out_features,)` or None.

    Shape:
        `(*batch, width, in_features)` to `(*batch, width, out_features)`; `mask` is `(*batch, width)`, true for
        features that are there. Features that are not there are left out of the sums, and their own answer is 0.

    Raises:
        SymmetryError: for features that are no whole numbers above 0.

    Example:
        >>> layer = GlobalConv1D(3, 8, rngs=nnx.Rngs(0))
        >>> x, order = jax.random.normal(jax.random.key(0), (2, 100, 3)), jax.random.permutation(jax.random.key(1), 100)
        >>> bool(jnp.allclose(layer(x[:, order]), layer(x)[:, order], atol=1e-4))
        True

    Source: Zaheer et al., "Deep sets", NeurIPS 2017 (lemma 3: every linear map that permutes with its input).
    """

    bias: nnx.Param | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        use_bias: bool = True,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        precision: Any = None,
        kernel_init: Initializer = KERNEL,
        bias_init: Initializer = ZEROS,
        rngs: nnx.Rngs,
    ) -> None:
        self.in_features = whole_number("in_features", in_features, 1)
        self.out_features = whole_number("out_features", out_features, 1)
        shape = (self.in_features, self.out_features)
        self.centre = nnx.Param(kernel_init(rngs.params(), shape, param_dtype))
        self.surround = nnx.Param(kernel_init(rngs.params(), shape, param_dtype))
        self.use_bias = yes_or_no("use_bias", use_bias)
        self.bias = nnx.data(None)
        if use_bias:
            self.bias = nnx.Param(bias_init(rngs.params(), shape[1:], param_dtype))
        self.dtype, self.param_dtype, self.precision = dtype, param_dtype, precision

    def __call__(self, inputs: Array, mask: Array | None = None) -> Array:
        """Convolves `(*batch, width, in_features)`; features where `mask` `(*batch, width)` is false are left out."""
        dtype = self.dtype or jnp.result_type(inputs, self.centre[...])
        x, centre, surround = (jnp.asarray(each, dtype) for each in (inputs, self.centre[...], self.surround[...]))
        there = None if mask is None else jnp.asarray(mask, bool)[..., None]
        if there is not None:
            x = jnp.where(there, x, 0)
        wide = jnp.promote_types(x.dtype, jnp.float32)  # sums of many features need more digits than 16 bits have
        total = x.sum(-2, keepdims=True, dtype=wide)
        around = jnp.matmul(total, surround.astype(wide), precision=self.precision).astype(x.dtype)
        answer = jnp.matmul(x, centre - surround, precision=self.precision) + around
        if self.bias is not None:
            answer = answer + self.bias[...].astype(dtype)
        return answer if there is None else jnp.where(there, answer, 0)
