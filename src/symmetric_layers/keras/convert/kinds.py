"""Which layers of the host do what with channels."""

from typing import Any

from keras import Model, layers

from symmetric_layers.keras.channels import channel_axis

CONVS: tuple[type, ...] = (
    layers.Conv1D, layers.Conv2D, layers.Conv3D, layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose,
)  # fmt: skip
DEPTHWISE: tuple[type, ...] = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)
SEPARABLE: tuple[type, ...] = (layers.SeparableConv1D, layers.SeparableConv2D)
NORMS: tuple[type, ...] = (layers.BatchNormalization, layers.LayerNormalization, layers.GroupNormalization)
SEES: tuple[type, ...] = (
    *CONVS,
    *DEPTHWISE,
    *SEPARABLE,
)  # layers that see around a position
WEIGHS: tuple[type, ...] = (*CONVS, *SEPARABLE, layers.Dense)  # layers that make channels of their own

PADS: tuple[type, ...] = (layers.ZeroPadding1D, layers.ZeroPadding2D, layers.ZeroPadding3D)

# channel by channel, position by position: seen in the mirror, they obey
OPERATORS: tuple[type, ...] = (
    layers.MaxPooling1D, layers.MaxPooling2D, layers.MaxPooling3D, layers.AveragePooling1D, layers.AveragePooling2D,
    layers.AveragePooling3D, layers.ZeroPadding1D, layers.ZeroPadding2D, layers.ZeroPadding3D, layers.Cropping1D,
    layers.Cropping2D, layers.Cropping3D, layers.UpSampling1D, layers.UpSampling2D, layers.UpSampling3D,
    layers.Resizing, layers.CenterCrop,
)  # fmt: skip
LOOKS_UP: tuple[type, ...] = (layers.Embedding,)
SUMS: tuple[type, ...] = (layers.EinsumDense,)
ATTENDS: tuple[type, ...] = (layers.MultiHeadAttention,)
MERGES: tuple[type, ...] = (
    layers.Add, layers.Subtract, layers.Multiply, layers.Average, layers.Maximum, layers.Minimum,
)  # fmt: skip
MOVES: tuple[type, ...] = (layers.Reshape, layers.Permute, layers.Flatten, layers.RepeatVector)
GLOBAL_POOLS: tuple[type, ...] = (
    layers.GlobalAveragePooling1D, layers.GlobalAveragePooling2D, layers.GlobalAveragePooling3D,
    layers.GlobalMaxPooling1D, layers.GlobalMaxPooling2D, layers.GlobalMaxPooling3D,
)  # fmt: skip
KNOWN: tuple[type, ...] = (*WEIGHS, *DEPTHWISE, *NORMS, layers.PReLU)  # what has weights, and a form for orbits

# operations of `keras.ops` in a graph, by the names of their classes
MOVING = {
    "Reshape", "Transpose", "Swapaxes", "Moveaxis", "Squeeze", "ExpandDims", "GetItem", "Flip", "Roll", "Ravel", "Tile",
    "Repeat", "BroadcastTo", "Take", "Split", "ArraySplit",
}  # fmt: skip
PICKING = {"GetItem", "Take", "Split", "ArraySplit"}  # of these, what may take some channels and leave others
REDUCING = {
    "Mean", "Sum", "Max", "Min", "Amax", "Amin", "Var", "Std", "Prod", "Norm", "Logsumexp", "Median", "Any", "All",
}  # fmt: skip


def each_of(layer: Any) -> Any:
    """The layer that a `TimeDistributed` calls for each moment; any other layer is itself."""
    wraps = kind_of(layer, (layers.TimeDistributed,)) and not isinstance(layer.layer, Model)
    return layer.layer if wraps else layer


def kind_of(layer: Any, kinds: tuple[type, ...]) -> bool:
    """Whether a layer is one of these kinds, and no class of somebody's own."""
    return type(layer) in kinds


def is_depthwise(layer: Any) -> bool:
    """Whether every filter of an ordinary convolution reads one channel."""
    groups = getattr(layer, "groups", 1)
    return bool(groups > 1 and groups == layer.filters and layer.kernel.shape[-2] == 1)


def pads_of(layer: Any) -> tuple[tuple[int, int], ...]:
    """What a layer of zero padding adds before and after, along every axis."""
    return (tuple(layer.padding),) if isinstance(layer.padding[0], int) else tuple(map(tuple, layer.padding))


def is_vector(shape: Any, channels: int) -> bool:
    """Whether a weight holds one number for each channel, or one for all."""
    return [size for size in shape if size != 1] in ([channels], [])


def axis_of(layer: Any, rank: int) -> int:
    """Which axis of a tensor with so many axes holds the channels of a layer."""
    if each_of(layer) is not layer:
        return axis_of(layer.layer, rank - 1) + 1
    if isinstance(layer, layers.Dense):
        return rank - 1
    if isinstance(layer, layers.PReLU):
        return next((axis for axis in range(rank - 1, 0, -1) if layer.alpha.shape[axis - 1] > 1), rank - 1)
    axis = layer.axis if kind_of(layer, NORMS) else None
    if axis is not None:
        return int(axis if isinstance(axis, int) else axis[-1]) % rank
    data_format = getattr(layer, "data_format", None)
    return channel_axis(data_format or "channels_last") % rank
