"""The fused kernel as operators that PyTorch's compiler, exporter and autograd know.

Answer, gradient of the input and gradient of the weight are the three derivatives of one form that is linear in the
picture, the weight and the gradient. So each one's derivatives are the two others, to any order.

A bank is spoken of in whole numbers, because operators take nothing else: `bank` holds, block by block, the letters of
the kind (1 for h, 2 for v, 4 for z) and the number of orbits; `inputs` says the same of the input channels, and is
empty where they are pictures.
"""

import ctypes
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import grad

from symmetric_layers.letters import LETTERS, mirrors, orbit_size
from symmetric_layers.orbits import Plan, plan
from symmetric_layers.torch.kernels.library import Geometry, new_task, run
from symmetric_layers.torch.kernels.reference import expand_weight


@torch.compiler.assume_constant_result
def spoken(bank: Plan) -> list[int]:
    """The blocks of a bank, in whole numbers."""
    return [number for block in bank.blocks for number in (_bits(block.kind), block.orbits)]


def _bits(kind: str) -> int:
    return sum(1 << LETTERS.index(letter) for letter in kind)


def _kind(bits: int) -> str:
    return "".join(letter for bit, letter in enumerate(LETTERS) if bits >> bit & 1)


@lru_cache(maxsize=256)
def _plan(bank: tuple[int, ...], inputs: tuple[int, ...], channels: int, ndim: int) -> Plan:
    in_symmetry = _counts(inputs) if inputs else None
    filters = sum(orbits * orbit_size(_kind(bits)) for bits, orbits in _pairs(bank))
    return plan(_counts(bank), filters, ndim, 1, in_symmetry, channels)


def _counts(bank: Sequence[int]) -> dict[str, int]:
    return {_kind(bits): orbits * orbit_size(_kind(bits)) for bits, orbits in _pairs(bank) if bits}


def _pairs(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    return zip(numbers[::2], numbers[1::2], strict=True)


class Part(NamedTuple):
    """One block of a bank, as the kernel wants it.

    Attributes:
        kind: the letters of its orbits, in bits.
        members: filters of an orbit.
        orbits: how many.
        channel, stored: of the first filter, of the first representative.
        deep: whether the input channels are exchanged by these letters.
        inputs: input channels of one member.
        in_order, out_order: member after member, the channels that belong together.
    """

    kind: int
    members: int
    orbits: int
    channel: int
    stored: int
    deep: bool
    inputs: int
    in_order: ctypes.Array
    out_order: ctypes.Array


@lru_cache(maxsize=256)
def _parts(bank: tuple[int, ...], inputs: tuple[int, ...], channels: int, ndim: int) -> tuple[Part, ...]:
    whole = _plan(bank, inputs, channels, ndim)
    parts = []
    for block in whole.blocks:
        deep = whole.inputs is not None and bool(block.kind)
        order = _order(whole.inputs, block.kind) if deep and whole.inputs is not None else list(range(channels))
        own = [block.size * orbit + member for member in range(block.size) for orbit in range(block.orbits)]
        members = block.size if deep else 1
        table = (_bits(block.kind), block.size, block.orbits, block.filter, block.representative, deep)
        parts.append(Part(*table, channels // members, _array(order), _array(own)))
    return tuple(parts)


def _order(inputs: Plan, kind: str) -> list[int]:
    """Member after member: input channels that mirrors of this kind exchange."""
    exchanged = [inputs.exchange(letters) if letters else tuple(range(inputs.filters)) for letters in mirrors(kind)]
    first = [channel for channel in range(inputs.filters) if all(seen[channel] >= channel for seen in exchanged)]
    return [seen[channel] for seen in exchanged for channel in first]


def _array(numbers: list[int]) -> ctypes.Array:
    return (ctypes.c_int32 * len(numbers))(*numbers)


def _readable(x: Tensor) -> Tensor:
    """The kernel reads rows of pixels or rows of channels; anything else is copied."""
    return x if x.stride(-1) == 1 or x.stride(1) == 1 else x.contiguous()


def _dense(weight: Tensor) -> Tensor:
    """The kernel reads filters of both memory formats; anything else is copied."""
    formats = (torch.contiguous_format, {4: torch.channels_last, 5: torch.channels_last_3d}.get(weight.dim()))
    known = any(layout is not None and weight.is_contiguous(memory_format=layout) for layout in formats)
    return weight if known and weight[0, 0].numel() > 1 else weight.contiguous()


def _like(x: Tensor, shape: Sequence[int]) -> Tensor:
    """An empty tensor in the memory format of another one, by the host's rules."""
    last = {4: torch.channels_last, 5: torch.channels_last_3d}.get(x.dim())
    if last is not None and x.is_contiguous(memory_format=last) and not x.is_contiguous():
        return torch.empty(tuple(shape), dtype=x.dtype, device=x.device, memory_format=last)
    return x.new_empty(tuple(shape))


def _slice(x: Tensor | None, first: int, count: int, dim: int = 0) -> Tensor | None:
    return None if x is None else x.narrow(dim, first, count)


@torch.library.custom_op("symmetric_layers::answer", mutates_args=(), device_types="cpu")
def answer(
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
    parts = _parts(tuple(bank), tuple(inputs), x.shape[1], x.dim() - 2)
    y = _like(x, (x.shape[0], sum(part.orbits * part.members for part in parts), *geometry.answer))
    if not y.numel():
        return y
    for part in parts:
        own, into = weight.narrow(0, part.stored, part.orbits), y.narrow(1, part.channel, part.orbits * part.members)
        task = new_task(geometry, x, into, own)
        task.mode, task.kind, task.inputs, task.outputs = int(part.deep), part.kind, part.inputs, part.orbits
        biases = _slice(bias, part.stored, part.orbits)
        run("answer", task, (x, own, biases, into), (part.in_order, part.out_order))
    return y


@torch.library.custom_op("symmetric_layers::input_gradient", mutates_args=(), device_types="cpu")
def input_gradient(
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
        whole = _plan(tuple(bank), tuple(inputs), weight.shape[1], len(sizes))
        return _host_gradient(gradient, expand_weight(weight, whole), shape, stride, padding, dilation)
    gradient, weight = _readable(gradient), _dense(weight)
    x = _like(gradient, shape)
    if not x.numel() or not gradient.numel():
        return x.zero_()
    for part in _parts(tuple(bank), tuple(inputs), x.shape[1], len(sizes)):
        own = weight.narrow(0, part.stored, part.orbits)
        seen = gradient.narrow(1, part.channel, part.orbits * part.members)
        task = new_task(geometry.backwards(), seen, x, own)
        task.mode, task.kind, task.inputs, task.outputs = 1 if part.deep else 2, part.kind, part.orbits, part.inputs
        task.transposed, task.add = 1, int(part.channel > 0)
        run("answer", task, (seen, own, None, x), (part.out_order, part.in_order))
    return x


def _host_gradient(
    gradient: Tensor,
    full: Tensor,
    shape: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> Tensor:
    conv: Any = (grad.conv1d_input, grad.conv2d_input, grad.conv3d_input)[len(shape) - 3]
    like = _like(gradient, shape)
    return like.copy_(conv(shape, full, gradient, tuple(stride), tuple(padding), tuple(dilation)))


@torch.library.custom_op("symmetric_layers::weight_gradient", mutates_args=(), device_types="cpu")
def weight_gradient(
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
    parts = _parts(tuple(bank), tuple(inputs), x.shape[1], x.dim() - 2)
    weight = x.new_empty((sum(part.orbits for part in parts), x.shape[1], *kernel_size))
    if not x.numel() or not gradient.numel():
        return weight.zero_()
    for part in parts:
        own = weight.narrow(0, part.stored, part.orbits)
        seen = gradient.narrow(1, part.channel, part.orbits * part.members)
        task = new_task(geometry, x, seen, own)
        task.mode, task.kind, task.inputs, task.outputs = int(part.deep), part.kind, part.inputs, part.orbits
        run("learn", task, (x, seen, own), (part.in_order, part.out_order))
    return weight


@answer.register_fake
def _(x, weight, bias, bank, inputs, stride, padding, dilation):
    filters = sum(orbits * orbit_size(_kind(bits)) for bits, orbits in _pairs(bank))
    geometry = Geometry(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    return _like(x, (x.shape[0], filters, *geometry.answer))


@input_gradient.register_fake
def _(gradient, weight, sizes, bank, inputs, stride, padding, dilation):
    return _like(gradient, (gradient.shape[0], weight.shape[1], *sizes))


@weight_gradient.register_fake
def _(gradient, x, kernel_size, bank, inputs, stride, padding, dilation):
    return x.new_empty((sum(orbits for _, orbits in _pairs(bank)), x.shape[1], *kernel_size))


def _shared_sum(gradient: Tensor, bank: Sequence[int]) -> Tensor:
    """The gradients of shared biases: sums over pictures, positions and the members of an orbit."""
    sums = gradient.sum([0, *range(2, gradient.dim())])
    sizes = [orbits * orbit_size(_kind(bits)) for bits, orbits in _pairs(bank)]
    parts = zip(sums.split(sizes), _pairs(bank), strict=True)
    return torch.cat([part.unflatten(0, (orbits, -1)).sum(1) for part, (_, orbits) in parts])


def _keep(ctx: Any, inputs: Any, output: Any) -> None:
    first, second, third, *ctx.bank = inputs
    ctx.third = third if not isinstance(third, Tensor) else None
    ctx.save_for_backward(first, second)


def _answer_backward(ctx: Any, gradient: Tensor) -> tuple:
    x, weight = ctx.saved_tensors
    bank = ctx.bank
    wanted = ctx.needs_input_grad
    return (
        input_gradient(gradient, weight, x.shape[2:], *bank) if wanted[0] else None,
        weight_gradient(gradient, x, weight.shape[2:], *bank) if wanted[1] else None,
        _shared_sum(gradient, bank[0]) if wanted[2] else None,
        *[None] * len(bank),
    )


def _input_backward(ctx: Any, twice: Tensor) -> tuple:
    gradient, weight = ctx.saved_tensors
    wanted = ctx.needs_input_grad
    return (
        answer(twice, weight, None, *ctx.bank) if wanted[0] else None,
        weight_gradient(gradient, twice, weight.shape[2:], *ctx.bank) if wanted[1] else None,
        None,
        *[None] * len(ctx.bank),
    )


def _weight_backward(ctx: Any, twice: Tensor) -> tuple:
    gradient, x = ctx.saved_tensors
    wanted = ctx.needs_input_grad
    return (
        answer(x, twice, None, *ctx.bank) if wanted[0] else None,
        input_gradient(gradient, twice, x.shape[2:], *ctx.bank) if wanted[1] else None,
        None,
        *[None] * len(ctx.bank),
    )


answer.register_autograd(_answer_backward, setup_context=_keep)
input_gradient.register_autograd(_input_backward, setup_context=_keep)
weight_gradient.register_autograd(_weight_backward, setup_context=_keep)
