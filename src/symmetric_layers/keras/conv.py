"""Convolutions whose filters come in mirror-image orbits: drop-in subclasses of those of `keras.layers`."""

from collections.abc import Sequence
from typing import Any

import keras

from symmetric_layers.errors import one_of, yes_or_no
from symmetric_layers.keras.channels import plain
from symmetric_layers.keras.running import Convolving, Spreading
from symmetric_layers.keras.stored import Symmetric, Symmetry
from symmetric_layers.orbits import Plan, plan

_Sizes = int | Sequence[int]


def _first_plan(symmetry: Symmetry, filters: int, rank: int, groups: int, in_symmetry: Symmetry) -> Plan:
    """The plan before the input channels are known; with a group per filter there are as many, or none would fit."""
    if symmetry and in_symmetry and groups == filters and groups != 1:
        return plan(symmetry, filters, rank, groups, in_symmetry, filters)
    return plan(symmetry, filters, rank, groups)


class _SymmetricConv(Symmetric, Convolving):
    _rank: int

    def __init__(
        self,
        filters: int,
        kernel_size: _Sizes,
        strides: _Sizes = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: _Sizes = 1,
        groups: int = 1,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        *,
        symmetry: Symmetry = None,
        share_bias: bool = True,
        in_symmetry: Symmetry = None,
        grid: str = "shared",
        **kwargs: Any,
    ) -> None:
        bank = _first_plan(symmetry, filters, self._rank, groups, in_symmetry)
        asked = (
            plain("symmetry", symmetry),
            yes_or_no("share_bias", share_bias),
            plain("in_symmetry", in_symmetry),
            one_of("grid", grid, ("shared", "mirrored")),
        )
        super().__init__(
            filters=filters,
            kernel_size=kernel_size,
            strides=strides,
            padding=padding,
            data_format=data_format,
            dilation_rate=dilation_rate,
            groups=groups,
            activation=activation,
            use_bias=use_bias,
            kernel_initializer=kernel_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            bias_regularizer=bias_regularizer,
            activity_regularizer=activity_regularizer,
            kernel_constraint=kernel_constraint,
            bias_constraint=bias_constraint,
            **kwargs,
        )
        self._remember(bank, *asked)


class _SymmetricConvTranspose(Symmetric, Spreading):
    _rank: int

    def __init__(
        self,
        filters: int,
        kernel_size: _Sizes,
        strides: _Sizes = 1,
        padding: str = "valid",
        output_padding: _Sizes | None = None,
        data_format: str | None = None,
        dilation_rate: _Sizes = 1,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        *,
        symmetry: Symmetry = None,
        share_bias: bool = True,
        in_symmetry: Symmetry = None,
        grid: str = "shared",
        **kwargs: Any,
    ) -> None:
        bank = plan(symmetry, filters, self._rank)
        asked = (
            plain("symmetry", symmetry),
            yes_or_no("share_bias", share_bias),
            plain("in_symmetry", in_symmetry),
            one_of("grid", grid, ("shared", "mirrored")),
        )
        super().__init__(
            filters=filters,
            kernel_size=kernel_size,
            strides=strides,
            padding=padding,
            output_padding=output_padding,
            data_format=data_format,
            dilation_rate=dilation_rate,
            activation=activation,
            use_bias=use_bias,
            kernel_initializer=kernel_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            bias_regularizer=bias_regularizer,
            activity_regularizer=activity_regularizer,
            kernel_constraint=kernel_constraint,
            bias_constraint=bias_constraint,
            **kwargs,
        )
        self._remember(bank, *asked)


@keras.saving.register_keras_serializable(package="symmetric_layers")
class SymmetricConv1D(_SymmetricConv, keras.layers.Conv1D):
    """`Conv1D` whose filters come in mirror-image orbits; the 1-D form of `SymmetricConv2D`, which explains it.

    With `padding='causal'` the padding is on one side, so the law needs a kernel of size 1.
    """

    _rank = 1


@keras.saving.register_keras_serializable(package="symmetric_layers")
class SymmetricConv2D(_SymmetricConv, keras.layers.Conv2D):
    """`Conv2D` whose filters come in mirror-image orbits: one filter is stored, its mirrors are derived.

    What looks alike from the left and from the right needs one filter, not two to be learnt apart. Half, a quarter
    or (in 3-D) an eighth of the weights are left, and the answer mirrors when the picture does.

    Equivalent to: a `Conv2D` whose `kernel` is `ops.reshape(ops.stack([w, ops.flip(w, 1)], -1), (*w.shape[:-1], -1))`
    for `'h'` orbits, and likewise `w, flip(w, 1), flip(w, 0), flip(w, (0, 1))` for `'hv'`.

    Law: for every orbit whose kind contains a letter, mirroring the input along that letter mirrors the output and
    exchanges each channel with its mirror (`plan.exchange(letter)`). It holds where biases are shared, the padding
    is the same on both sides, and along each mirrored axis `(n + 2p - d(k-1) - 1) mod s` is 0, for size n, padding
    p, dilation d, kernel k and stride s. `padding='same'` adds `max((ceil(n/s) - 1)s + d(k-1) + 1 - n, 0)` in all,
    and the odd one after: that breaks the law for even (undilated) kernels at stride 1, and for odd kernels at stride 2
    on an even size (224, say; 225 obeys). With `in_symmetry` the input's channels are exchanged together
    with the mirroring. With `grid='mirrored'` it holds at every size.

    Args:
        symmetry: how many *filters* belong to each kind, as numbers or percentages: `{'h': 2, 'v': '50%', 'hv': 8}`.
            `'h'` mirrors the width, `'v'` the height, in 3-D `'z'` the depth. The rest are ordinary filters. Kinds
            stand in the order h, v, z, hv, hz, vz, hvz, the members of an orbit side by side. None: an ordinary layer.
        share_bias: one bias per orbit (True, what the law needs) or one per filter.
        in_symmetry: how the input channels are arranged: the `symmetry` of the layer before. Mirrors then also
            exchange their input channels. None where the input is an ordinary picture.
        grid: `'shared'`: always one ordinary convolution with `full_kernel()`. `'mirrored'`: mirrors sample the
            mirrored grid, and the law holds at every size and padding; where the geometry fits both are the same.
        others: as in the host. With groups, every group holds its own bank. Initializers draw the full bank, of
            which the representatives are kept; regularizers and constraints see what is stored. LoRA adapts what is
            stored, so its mirrors follow; the host has no quantization, nor has this layer.

    Attributes:
        kernel: the stored filters, `(*kernel_size, in_channels / groups, plan.stored)`.
        bias: `(plan.stored,)` where shared, else `(filters,)`, or None.
        plan: which filters are mirrors of which (`print(layer.plan)` draws it).

    Shape:
        `(batch, height, width, channels)`, or `(batch, channels, height, width)`, to what the host gives.

    Raises:
        SymmetryError: for a symmetry that does not fit; one sentence says what would. What depends on the number of
            input channels is refused when the layer is built.

    Example:
        >>> layer = SymmetricConv2D(16, 3, padding='same', symmetry={'h': 2, 'v': 4, 'hv': 8})
        >>> x = keras.random.normal((5, 28, 28, 1))
        >>> tuple(layer(x).shape), tuple(layer.kernel.shape), tuple(layer.full_kernel().shape)
        ((5, 28, 28, 16), (3, 3, 1, 7), (3, 3, 1, 16))
        >>> left, mirrored = layer(x)[..., 0], layer(keras.ops.flip(x, 2))[..., 1]
        >>> bool(keras.ops.all(keras.ops.isclose(mirrored, keras.ops.flip(left, 2), atol=1e-5)))
        True

    Source: Cohen and Welling, "Group equivariant convolutional networks", ICML 2016, for the groups of mirrors.
    """

    _rank = 2


@keras.saving.register_keras_serializable(package="symmetric_layers")
class SymmetricConv3D(_SymmetricConv, keras.layers.Conv3D):
    """`Conv3D` whose filters come in mirror-image orbits; `SymmetricConv2D` explains it. `'z'` mirrors the depth.

    Example:
        >>> layer = SymmetricConv3D(16, 3, symmetry={'h': 2, 'v': 2, 'z': 2, 'hz': 4})
        >>> layer.build((None, 8, 8, 8, 1))
        >>> tuple(layer.kernel.shape)
        (3, 3, 3, 1, 10)
    """

    _rank = 3


@keras.saving.register_keras_serializable(package="symmetric_layers")
class SymmetricConv1DTranspose(_SymmetricConvTranspose, keras.layers.Conv1DTranspose):
    """`Conv1DTranspose` whose filters come in orbits; the 1-D form of `SymmetricConv2DTranspose`."""

    _rank = 1


@keras.saving.register_keras_serializable(package="symmetric_layers")
class SymmetricConv2DTranspose(_SymmetricConvTranspose, keras.layers.Conv2DTranspose):
    """`Conv2DTranspose` whose filters come in mirror-image orbits, in the order of `SymmetricConv2D`.

    Decoders then keep the orbits of the encoder. The arguments `symmetry`, `share_bias` and `in_symmetry`, the
    attributes and the errors are those of `SymmetricConv2D`.

    Equivalent to: a `Conv2DTranspose` whose `kernel`, along its last axis but one, holds each stored filter and its
    mirrors.

    Law: that of `SymmetricConv2D`. It holds where biases are shared and as much is cut off (or added) before as
    after: for a kernel k (dilated: `d(k-1) + 1`) and stride s, with `'valid'` where k is at least s and no output
    padding is asked for, with `'same'` where `k - s` is even and not negative. A 3x3 kernel at stride 2 with `'same'`
    is lopsided; 2x2 and 4x4 obey.

    Attributes:
        kernel: the stored filters, `(*kernel_size, plan.stored, in_channels)`.

    Shape:
        `(batch, height, width, channels)`, or `(batch, channels, height, width)`, to what the host gives.

    Example:
        >>> up = SymmetricConv2DTranspose(4, 2, strides=2, symmetry={'h': 4}, in_symmetry={'h': 8})
        >>> tuple(up(keras.random.normal((1, 5, 5, 8))).shape), tuple(up.kernel.shape)
        ((1, 10, 10, 4), (2, 2, 2, 8))
    """

    _rank = 2


@keras.saving.register_keras_serializable(package="symmetric_layers")
class SymmetricConv3DTranspose(_SymmetricConvTranspose, keras.layers.Conv3DTranspose):
    """`Conv3DTranspose` whose filters come in orbits; the 3-D form of `SymmetricConv2DTranspose`.

    As in the host, and only in 3-D, `data_format` stands before `output_padding`.
    """

    _rank = 3

    def __init__(
        self,
        filters: int,
        kernel_size: _Sizes,
        strides: _Sizes = 1,
        padding: str = "valid",
        data_format: str | None = None,
        output_padding: _Sizes | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        super().__init__(filters, kernel_size, strides, padding, output_padding, data_format, *args, **kwargs)
