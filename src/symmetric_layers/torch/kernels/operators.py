"""The fused kernel for processors as operators: what `native/` is told, block after block of a bank."""

from collections.abc import Sequence

import torch
from torch import Tensor

from symmetric_layers.torch.kernels.bank import parts, whole
from symmetric_layers.torch.kernels.bank import spoken as spoken  # beside the operators that it is spoken to
from symmetric_layers.torch.kernels.geometry import Geometry, empty_like
from symmetric_layers.torch.kernels.library import new_task, run
from symmetric_layers.torch.kernels.reference import expand_weight
from symmetric_layers.torch.kernels.trio import register


def _readable(x: Tensor) -> Tensor:
    """The kernel reads rows of pixels or rows of channels; anything else is copied."""
    return x if x.stride(-1) == 1 or x.stride(1) == 1 else x.contiguous()


def _dense(weight: Tensor) -> Tensor:
    """The kernel reads filters of both memory formats; anything else is copied."""
    formats = (torch.contiguous_format, {4: torch.channels_last, 5: torch.channels_last_3d}.get(weight.dim()))
    known = any(layout is not None and weight.is_contiguous(memory_format=layout) for layout in formats)
    return weight if known and weight[0, 0].numel() > 1 else weight.contiguous()


def _slice(x: Tensor | None, first: int, count: int, dim: int = 0) -> Tensor | None:
    return None if x is None else x.narrow(dim, first, count)


def _answer(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    bank: Sequence[int],
    inputs: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> Tensor:
    """The convolution with the whole bank.

    Args:
        x: pictures, `(N, C, *positions)`, float32.
        weight: the stored filters, `(stored, C, *kernel)`.
        bias: one number per stored filter, or None.
        bank: the blocks of filters; `inputs` those of the input channels.
        stride, padding, dilation: one number per axis.
    """
    geometry = Geometry(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    x, weight = _readable(x), _dense(weight)
    blocks = parts(tuple(bank), tuple(inputs), x.shape[1], x.dim() - 2)
    y = empty_like(x, (x.shape[0], sum(part.filters for part in blocks), *geometry.answer))
    if not y.numel():
        return y
    for part in blocks:
        own, into = weight.narrow(0, part.stored, part.orbits), y.narrow(1, part.channel, part.filters)
        task = new_task(geometry, x, into, own)
        task.mode, task.kind, task.inputs, task.outputs = int(part.deep), part.kind, part.inputs, part.orbits
        biases = _slice(bias, part.stored, part.orbits)
        run("answer", task, (x, own, biases, into), (part.in_order, part.out_order))
    return y


def _input_gradient(
    gradient: Tensor,
    weight: Tensor,
    sizes: Sequence[int],
    bank: Sequence[int],
    inputs: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> Tensor:
    """The gradient of `answer` for its input, whose positions are `sizes`."""
    geometry = Geometry(sizes, weight.shape[2:], stride, padding, dilation)
    shape = (gradient.shape[0], weight.shape[1], *sizes)
    if max(stride) > 1:  # every pixel is reached by some of the taps only: nothing to fold
        plan = whole(tuple(bank), tuple(inputs), weight.shape[1], len(sizes))
        return geometry.host_gradient(gradient, expand_weight(weight, plan))
    gradient, weight = _readable(gradient), _dense(weight)
    x = empty_like(gradient, shape)
    if not x.numel() or not gradient.numel():
        return x.zero_()
    for part in parts(tuple(bank), tuple(inputs), x.shape[1], len(sizes)):
        own = weight.narrow(0, part.stored, part.orbits)
        seen = gradient.narrow(1, part.channel, part.filters)
        task = new_task(geometry.backwards(), seen, x, own)
        task.mode, task.kind, task.inputs, task.outputs = 1 if part.deep else 2, part.kind, part.orbits, part.inputs
        task.transposed, task.add = 1, int(part.channel > 0)
        run("answer", task, (seen, own, None, x), (part.out_order, part.in_order))
    return x


def _weight_gradient(
    gradient: Tensor,
    x: Tensor,
    kernel_size: Sequence[int],
    bank: Sequence[int],
    inputs: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> Tensor:
    """The gradient of `answer` for the stored filters."""
    geometry = Geometry(x.shape[2:], kernel_size, stride, padding, dilation)
    gradient, x = _readable(gradient), _readable(x)
    blocks = parts(tuple(bank), tuple(inputs), x.shape[1], x.dim() - 2)
    weight = x.new_empty((sum(part.orbits for part in blocks), x.shape[1], *kernel_size))
    if not x.numel() or not gradient.numel():
        return weight.zero_()
    for part in blocks:
        own = weight.narrow(0, part.stored, part.orbits)
        seen = gradient.narrow(1, part.channel, part.filters)
        task = new_task(geometry, x, seen, own)
        task.mode, task.kind, task.inputs, task.outputs = int(part.deep), part.kind, part.inputs, part.orbits
        run("learn", task, (x, seen, own), (part.in_order, part.out_order))
    return weight


answer, input_gradient, weight_gradient = register(
    "symmetric_layers::", _answer, _input_gradient, _weight_gradient, "cpu"
)
