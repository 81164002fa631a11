"""Convolutions whose filters come in mirror-image orbits: drop-in subclasses of those in `tf.keras.layers`."""

from __future__ import annotations

import tensorflow as tf

from symmetric_layers.errors import yes_or_no
from symmetric_layers.orbits import plan
from symmetric_layers.tf1.autograph import as_written
from symmetric_layers.tf1.channels import expand_bias, expand_kernel, frozen, thawed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Callable

    from tensorflow.keras.layers import Conv2D as _Host

    from symmetric_layers.orbits import Plan
else:
    _Host = object


class _Symmetric(_Host):
    """What all symmetric convolutions share: what is stored, how it starts, and what is derived from it."""

    plan: Plan
    share_bias: bool
    _rank: int
    _transposed = False

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        *arguments: Any,
        symmetry: Mapping[str, int | str] | None = None,
        share_bias: bool = True,
        in_symmetry: Mapping[str, int | str] | None = None,
        **options: Any,
    ) -> None:
        bank = plan(symmetry, filters, self._rank)
        share_bias = yes_or_no("share_bias", share_bias)
        asked = frozen("symmetry", symmetry, self._rank), frozen("in_symmetry", in_symmetry, self._rank)
        super().__init__(filters, kernel_size, *arguments, **options)
        self.plan, self.share_bias = bank, share_bias
        self._symmetry, self._in_symmetry = asked

    def build(self, input_shape: Any) -> None:
        """Makes the stored weights for inputs of this shape, by the host's own `build`."""
        channels = tf.TensorShape(input_shape).as_list()[1 if self.data_format == "channels_first" else -1]
        if self._in_symmetry and channels is not None:
            self.plan = plan(
                self.plan.counts, self.filters, self._rank, in_symmetry=thawed(self._in_symmetry), in_channels=channels
            )
        super().build(input_shape)

    def add_weight(self, name: Any = None, shape: Any = None, dtype: Any = None, initializer: Any = None, **options):
        """What the host asks for; of its `kernel` and `bias` only what is stored."""
        axis = None
        if self.plan.orbits and name == "kernel":
            axis = len(shape) - (2 if self._transposed else 1)
        elif self.plan.orbits and name == "bias" and self.share_bias:
            axis = 0
        if axis is not None:
            full = list(shape)
            initializer = self._first_of_each(initializer, full, axis)
            shape = full[:axis] + [self.plan.stored] + full[axis + 1 :]
        return super().add_weight(name=name, shape=shape, dtype=dtype, initializer=initializer, **options)

    def _first_of_each(self, initializer: Any, full: list[int], axis: int) -> Callable:
        """Draws the whole bank, as the host would, and keeps the representatives: so its variance is the host's."""
        initializer = tf.keras.initializers.get(initializer) or tf.keras.initializers.glorot_uniform()
        if isinstance(initializer, type):
            initializer = initializer()
        kept = list(self.plan.firsts)

        def draw(shape: Any, dtype: Any = None, partition_info: Any = None) -> tf.Tensor:
            return tf.gather(initializer(full, dtype=dtype), kept, axis=axis)

        return draw

    @as_written
    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Convolves `inputs` as the host's layer does."""
        if not self.plan.orbits:
            return super().call(inputs)
        # The host's own `call` runs, on a second self that differs in one thing: its bank is written out. Nothing of
        # the layer is changed, not even for a moment, so threads (distribution strategies) cannot meet here.
        written = object.__new__(type(self))
        written.__dict__.update(self.__dict__, kernel=self.full_kernel(), bias=self.full_bias())
        return super(_Symmetric, written).call(inputs)

    def full_kernel(self) -> tf.Tensor:
        """All filters, mirrors written out: what the host's layer would hold as its `kernel`."""
        return expand_kernel(self.kernel, self.plan, self._transposed)

    def full_bias(self) -> tf.Tensor | None:
        """One bias per filter, None where the layer has none: what the host's layer would hold as its `bias`."""
        if self.bias is None:
            return None
        return expand_bias(self.bias, self.plan) if self.share_bias else tf.convert_to_tensor(self.bias)

    def get_config(self) -> dict[str, Any]:
        """The host's config, and the symmetry with it."""
        symmetry = {
            "symmetry": thawed(self._symmetry),
            "share_bias": self.share_bias,
            "in_symmetry": thawed(self._in_symmetry),
        }
        return dict(super().get_config(), **symmetry)


class SymmetricConv1D(_Symmetric, tf.keras.layers.Conv1D):
    """`tf.keras.layers.Conv1D` whose filters come in mirror-image orbits; `SymmetricConv2D` explains it.

    Law: as there, with `'h'` for the steps. Causal padding is all on one side: with it the law holds nowhere (but for
    kernels of one tap).
    """

    _rank = 1


class SymmetricConv2D(_Symmetric, tf.keras.layers.Conv2D):
    """`tf.keras.layers.Conv2D` whose filters come in mirror-image orbits: one is stored, its mirrors are derived.

    What looks alike from the left and from the right needs one filter, not two to be learnt apart. Half, a quarter
    or (in 3-D) an eighth of the weights are left, and the answer mirrors when the picture does.

    Equivalent to: a `Conv2D` whose `kernel` (height, width, channels, filters) holds `w[:, ::-1]` behind every filter
    `w` of an `'h'` orbit, and likewise `w, w[:, ::-1], w[::-1], w[::-1, ::-1]` for `'hv'`.

    Law: for every orbit whose kind contains a letter, mirroring the input along that letter mirrors the output and
    exchanges each channel with its mirror (`plan.exchange(letter)`). It holds where biases are shared, the padding
    is the same on both sides, and along each mirrored axis `(n + 2p - d(k-1) - 1) mod s` is 0, for size n, padding
    p, dilation d, kernel k and stride s. `'valid'` has p = 0. `'same'` pads `(ceil(n/s) - 1) s + d(k-1) + 1 - n` in
    all, the odd one after, and nothing where that is negative: the law holds where this number is even and not
    negative. So it is lost to lopsided padding by even kernels with stride 1, and by a kernel of 3 with stride 2 on an
    even size (224, say; 225 keeps it). With `in_symmetry` the input's channels are exchanged together with the
    mirroring.

    Args:
        symmetry: how many *filters* belong to each kind, as numbers or percentages: `{'h': 2, 'v': '50%', 'hv': 8}`.
            `'h'` mirrors the width, `'v'` the height, in 3-D `'z'` the depth. The rest are ordinary filters. Kinds
            stand in the order h, v, z, hv, hz, vz, hvz, the members of an orbit side by side. None: an ordinary layer.
        share_bias: one bias per orbit (True, what the law needs) or one per filter.
        in_symmetry: how the input channels are arranged: the `symmetry` of the layer before. Mirrors then also
            exchange their input channels. None where the input is an ordinary picture.
        filters, kernel_size and all others: as in the host. Initializers draw the whole bank, of which the
            representatives are kept; regularizers and constraints see what is stored.

    Attributes:
        kernel: the stored filters, `(*kernel_size, channels, plan.stored)`.
        bias: `(plan.stored,)` where shared, else `(filters,)`, or None.
        plan: which filters are mirrors of which (`print(layer.plan)` draws it).

    Shape:
        `(batch, height, width, channels)` to what the host gives.

    Raises:
        SymmetryError: for a symmetry that does not fit; one sentence says what would. For numbers in `in_symmetry`
            that do not fit the channels it comes when the layer is built, which is when they are known.

    Example:
        >>> layer = SymmetricConv2D(16, 3, padding='same', symmetry={'h': 2, 'v': 4, 'hv': 8})
        >>> layer(tf.zeros([5, 28, 28, 1])).shape.as_list()
        [5, 28, 28, 16]
        >>> layer.kernel.shape.as_list(), layer.full_kernel().shape.as_list()
        ([3, 3, 1, 7], [3, 3, 1, 16])

    Source: Cohen and Welling, "Group equivariant convolutional networks", ICML 2016, for the groups of mirrors.
    """

    _rank = 2


class SymmetricConv3D(_Symmetric, tf.keras.layers.Conv3D):
    """`tf.keras.layers.Conv3D` whose filters come in orbits; `SymmetricConv2D` explains it. `'z'` mirrors the depth.

    Example:
        >>> layer = SymmetricConv3D(16, 3, symmetry={'h': 2, 'v': 2, 'z': 2, 'hz': 4})
        >>> layer.build([None, 8, 8, 8, 1])
        >>> layer.kernel.shape.as_list()
        [3, 3, 3, 1, 10]
    """

    _rank = 3


class SymmetricConv2DTranspose(_Symmetric, tf.keras.layers.Conv2DTranspose):
    """`tf.keras.layers.Conv2DTranspose` whose filters come in mirror-image orbits, in the order of `SymmetricConv2D`.

    Decoders then keep the orbits of the encoder. The arguments `symmetry`, `share_bias` and `in_symmetry`, the
    attributes and the errors are those of `SymmetricConv2D`.

    Equivalent to: a `Conv2DTranspose` whose `kernel` (height, width, filters, channels) holds, along its third axis,
    each stored filter and its mirrors.

    Law: that of `SymmetricConv2D`; it holds where biases are shared and, along each mirrored axis, the host cuts the
    same off on both sides. Without output padding: `'valid'` cuts nothing, and the law holds for kernels at least as
    wide as the stride; `'same'` cuts `k - s` in all (kernel k, stride s), the odd one after, and the law holds where
    that is even and not negative (2 or 4 with stride 2, 3 with stride 1; a kernel of 3 with stride 2 is lopsided).

    Attributes:
        kernel: the stored filters, `(*kernel_size, plan.stored, channels)`.

    Shape:
        `(batch, height, width, channels)` to what the host gives.

    Example:
        >>> up = SymmetricConv2DTranspose(4, 2, strides=2, symmetry={'h': 4}, in_symmetry={'h': 8})
        >>> up(tf.zeros([1, 5, 5, 8])).shape.as_list(), up.kernel.shape.as_list()
        ([1, 10, 10, 4], [2, 2, 2, 8])
    """

    _rank = 2
    _transposed = True


class SymmetricConv3DTranspose(_Symmetric, tf.keras.layers.Conv3DTranspose):
    """`tf.keras.layers.Conv3DTranspose` with orbits of filters; the 3-D form of `SymmetricConv2DTranspose`."""

    _rank = 3
    _transposed = True
