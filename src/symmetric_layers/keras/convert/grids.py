"""Mirrored grids as one convolution: kernels wider by what is left over, filters and mirrors at its two ends."""

from typing import Any, NamedTuple

from keras import ops

from symmetric_layers.letters import LETTERS


class Axis(NamedTuple):
    """How one ordinary convolution covers both grids along one axis.

    Attributes:
        before, after: how many pixels are added to a picture; cut off the answer of a transposed convolution.
        offsets: where in the wider kernel the filters stand, and where their mirrors.
        simple: whether that is what the layer itself does.
    """

    before: int
    after: int
    offsets: tuple[int, int]
    simple: bool


def axis_of(layer: Any, index: int, size: int | None, pad: tuple[int, int], mirrored: bool) -> Axis:
    """Covers the grid of a convolution along one axis of so many pixels, and its mirror image."""
    reach, stride = _reach(layer, index), layer.strides[index]
    here = size or reach  # of stride 1, all sizes are alike
    total = max((-(-here // stride) - 1) * stride + reach - here, 0) if layer.padding == "same" else 0
    before, after = pad[0] + total // 2, pad[1] + total - total // 2
    if layer.padding == "causal":
        before += reach - 1
    if not mirrored:
        return Axis(before, after, (0, 0), True)
    rest = (here + before + after - reach) % stride
    shift = before - after + rest  # from the first window to the first one that is seen in the mirror
    offsets = (max(0, -shift), max(0, shift))
    return Axis(before + offsets[0], max(after - rest + offsets[1], 0), offsets, False)


def axis_of_transposed(layer: Any, index: int, mirrored: bool) -> Axis:
    """What is cut off the answer of a transposed convolution along one axis, and of its mirror image."""
    reach, stride, size = _reach(layer, index), layer.strides[index], 8
    before, length = _cut_before(layer, index, size)
    after = (size - 1) * stride + reach - length - before
    cut = max(before, after) if mirrored else before
    offsets = (cut - before, cut - after) if mirrored else (0, 0)
    wider = size * stride + max(reach + max(offsets) - stride, 0)
    return Axis(cut, wider - cut - length, offsets, not mirrored)


def _cut_before(layer: Any, index: int, size: int) -> tuple[int, int]:
    """How much the host cuts off in front, and how long its answer is: seen on one pixel, for hosts differ in this."""
    taps, stride, dilation = layer.kernel_size[index], layer.strides[index], layer.dilation_rate[index]
    middle, more = size // 2, layer.output_padding
    answer = ops.conv_transpose(
        ops.reshape(ops.one_hot(middle, size, dtype="float32"), [1, size, 1]),
        ops.reshape(ops.arange(1, taps + 1, dtype="float32"), [taps, 1, 1]),
        strides=stride,
        padding=layer.padding,
        output_padding=more if more is None or isinstance(more, int) else more[index],
        dilation_rate=dilation,
        data_format="channels_last",
    )
    seen = ops.convert_to_numpy(answer).ravel().round()
    first = int(seen.nonzero()[0][0])
    return int((seen[first] - 1) * dilation + middle * stride - first), len(seen)


def placed(kernel: Any, layer: Any, index: int, axis: Axis) -> Any:
    """The filters without dilation, at one end of a wider kernel, those that are mirrored at its other end."""
    rank = len(layer.kernel_size)
    kernel = _dense(kernel, index, layer.dilation_rate[index])
    if axis.offsets == (0, 0):
        return kernel
    low, high = (_at(kernel, index, offset, max(axis.offsets)) for offset in axis.offsets)
    if hasattr(layer, "inputs"):  # an invariant convolution is the mean over both
        return (low + high) / 2
    letter = LETTERS[rank - 1 - index]
    chosen = ops.convert_to_tensor([letter in mirror for mirror in layer.plan.mirror], "bool")
    return ops.where(ops.expand_dims(chosen, -1) if layer._transposed else chosen, high, low)


def _reach(layer: Any, index: int) -> int:
    return int(layer.dilation_rate[index] * (layer.kernel_size[index] - 1) + 1)


def _dense(kernel: Any, index: int, dilation: int) -> Any:
    """The same filters without dilation: zeros between their rows."""
    taps = kernel.shape[index]
    if dilation == 1 or taps == 1:
        return kernel
    nothing = ops.zeros_like(kernel)
    stacked = ops.stack([kernel, *[nothing] * (dilation - 1)], axis=index + 1)
    spread = ops.reshape(stacked, [*kernel.shape[:index], taps * dilation, *kernel.shape[index + 1 :]])
    return ops.take(spread, list(range(dilation * (taps - 1) + 1)), axis=index)


def _at(kernel: Any, index: int, offset: int, room: int) -> Any:
    pads = [(0, 0)] * len(kernel.shape)
    pads[index] = (offset, room - offset)
    return ops.pad(kernel, pads)
