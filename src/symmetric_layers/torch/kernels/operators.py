"""The fused kernel for processors as operators: what `native/` is told, block after block of a bank."""

import ctypes
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain, zip_longest
from typing import NamedTuple

import torch
from torch import Tensor

from symmetric_layers.torch.kernels.bank import parts, whole
from symmetric_layers.torch.kernels.geometry import CHANNELS_LAST, Geometry, empty_like
from symmetric_layers.torch.kernels.library import Task, array, new_task, room_for, run, space
from symmetric_layers.torch.kernels.opaque import for_any_size
from symmetric_layers.torch.kernels.phases import are_covered, phases
from symmetric_layers.torch.kernels.reference import expand_weight
from symmetric_layers.torch.kernels.trio import register

_Numbers = tuple[int, ...]
Lies = tuple[_Numbers, _Numbers]  # how a tensor lies in memory: shape and strides


class Call(NamedTuple):
    """One call of the kernel, for one block of a bank: everything but where the numbers are.

    Attributes:
        verb: of the kernel.
        task: what it has to do.
        offsets: where in every tensor its part begins, in bytes.
        orders: member after member, the channels of input and output that belong together.
    """

    verb: str
    task: Task
    offsets: tuple[int, ...]
    orders: tuple[ctypes.Array, ...]

    def __call__(self, *tensors: Tensor | None, room: Tensor | None = None) -> None:
        """Has the kernel do it; where a room is given, the filters of an answer stay packed in it."""
        places = [None if one is None else one.data_ptr() + at for one, at in zip(tensors, self.offsets, strict=True)]
        if self.verb == "answer":
            places.append(None if room is None else room.data_ptr())
        run(self.verb, self.task, places, self.orders)

    def new_room(self) -> Tensor:
        """Such a room, with nothing in it."""
        return torch.zeros(room_for(self.task, self.orders), dtype=torch.float32, device="cpu")


class Prepared(NamedTuple):
    """What one call of an operator does, worked out once for all tensors that lie in memory alike.

    Attributes:
        answer: shape and strides of what is asked for.
        calls: of the kernel.
        zeros: whether they leave places out, where there are zeros.
    """

    answer: Lies
    calls: tuple[Call, ...]
    zeros: bool = False

    def __call__(self, *given: Tensor | None, rooms: Sequence[Tensor] = ()) -> Tensor:
        """Does it, and gives what is asked for; `rooms`: none, or one for every call."""
        answer = torch.empty_strided(*self.answer, dtype=torch.float32)
        if self.zeros or not self.calls:
            answer.zero_()
        for call, room in zip_longest(self.calls, rooms):
            call(*given, answer, room=room)
        return answer


def _lies(x: Tensor) -> Lies:
    return x.shape, x.stride()


def _shadow(lies: Lies) -> Tensor:
    return torch.empty_strided(*lies, dtype=torch.float32, device="meta")


def _call(verb: str, task: Task, tensors: Sequence[Tensor | None], orders: tuple[_Numbers, _Numbers]) -> Call:
    offsets = [0 if one is None else int(one.storage_offset()) * one.element_size() for one in tensors]
    return Call(verb, task, tuple(offsets), tuple(map(array, orders)))


def _readable(x: Tensor) -> Tensor:
    """The kernel reads rows of pixels or rows of channels; anything else is copied."""
    x = x.resolve_neg()
    return x if x.stride(-1) == 1 or x.stride(1) == 1 else x.contiguous()


def _dense(weight: Tensor) -> Tensor:
    """The kernel reads filters of both memory formats; anything else is copied."""
    weight = weight.resolve_neg()
    if weight.is_contiguous():
        return weight
    last = CHANNELS_LAST.get(weight.dim())
    known = last is not None and weight.is_contiguous(memory_format=last) and weight.shape[2:].numel() > 1
    return weight if known else weight.contiguous()


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
    x, weight = _readable(x), _dense(weight)
    bias = None if bias is None else bias.resolve_neg().contiguous()
    case = (tuple(bank), tuple(inputs), tuple(stride), tuple(padding), tuple(dilation), torch.get_num_threads())
    return _answering(_lies(x), _lies(weight), *case)(x, weight, bias)


def answering(pictures: Lies, filters: Lies, *case: _Numbers, threads: int, wider: _Numbers) -> Prepared | None:
    """What `answer` does for tensors that lie in memory like this; None where it would copy them.

    Args:
        pictures, filters: shapes and strides.
        case: `bank, inputs, stride, padding, dilation`, as `answer` is told.
        threads: how many.
        wider: by how many zeros filters are wider than what is stored of them, as `F.pad` is told; empty for none.
    """
    x, weight = _shadow(pictures), _shadow(filters)
    is_fine = _readable(x) is x and _dense(weight) is weight
    return _answering(pictures, filters, *case, threads, wider) if is_fine else None


@lru_cache(maxsize=1024)
def _answering(
    pictures: Lies,
    filters: Lies,
    bank: _Numbers,
    inputs: _Numbers,
    stride: _Numbers,
    padding: _Numbers,
    dilation: _Numbers,
    threads: int,
    wider: _Numbers = (),
) -> Prepared:
    x, weight = _shadow(pictures), _shadow(filters)
    before, after = wider[-2::-2], wider[::-2]
    kernel = [sum(sizes) for sizes in zip(weight.shape[2:], before, after, strict=True)] if wider else weight.shape[2:]
    geometry = Geometry(x.shape[2:], kernel, stride, padding, dilation)
    blocks = parts(bank, inputs, x.shape[1], x.dim() - 2)
    y = empty_like(x, (x.shape[0], sum(part.filters for part in blocks), *geometry.answer))
    calls = []
    for part in blocks if y.numel() else ():
        own, into = weight.narrow(0, part.stored, part.orbits), y.narrow(1, part.channel, part.filters)
        task = new_task(geometry, x, into, own, threads, before)
        task.mode, task.kind, task.inputs, task.outputs = int(part.deep), part.kind, part.inputs, part.orbits
        biases = torch.empty(weight.shape[0], device="meta").narrow(0, part.stored, part.orbits)
        calls.append(_call("answer", task, (x, own, biases, into), (part.in_order, part.out_order)))
    return Prepared(_lies(y), tuple(calls))


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
    gradient, weight = _readable(gradient), _dense(weight)
    case = (sizes, bank, inputs, stride, padding, dilation)
    how = _going_back(_lies(gradient), _lies(weight), *map(tuple, case), torch.get_num_threads())
    if how is not None:
        return how(gradient, weight, None)
    plan = whole(tuple(bank), tuple(inputs), weight.shape[1], len(sizes))
    geometry = Geometry(sizes, weight.shape[2:], stride, padding, dilation)
    return geometry.host_gradient(gradient, expand_weight(weight, plan))


@lru_cache(maxsize=1024)
def _going_back(
    gradients: Lies,
    filters: Lies,
    sizes: _Numbers,
    bank: _Numbers,
    inputs: _Numbers,
    stride: _Numbers,
    padding: _Numbers,
    dilation: _Numbers,
    threads: int,
) -> Prepared | None:
    gradient, weight = _shadow(gradients), _shadow(filters)
    geometry = Geometry(sizes, weight.shape[2:], stride, padding, dilation)
    x = empty_like(gradient, (gradient.shape[0], weight.shape[1], *sizes))
    blocks = parts(bank, inputs, x.shape[1], len(sizes)) if x.numel() and gradient.numel() else ()
    found = phases(geometry, blocks)
    if found is None:
        return None
    calls = []
    for part, phase in ((part, phase) for part, some in zip(blocks, found, strict=True) for phase in some):
        own = weight.narrow(0, part.stored, part.orbits)
        seen = gradient.narrow(1, part.channel, part.filters)
        task = new_task(phase.geometry, seen, x, own, threads)
        task.mode, task.kind = 1 if phase.deep else 2, part.kind
        task.inputs, task.outputs = part.orbits, phase.outputs
        task.transposed, task.add = 1, int(part.channel > 0)
        space(task, stride, phase.first, phase.margin, sizes)
        calls.append(_call("answer", task, (seen, own, None, x), (part.out_order, tuple(chain(*phase.channels)))))
    return Prepared(_lies(x), tuple(calls), zeros=not are_covered(geometry))


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
    gradient, x = _readable(gradient), _readable(x)
    geometry = (tuple(kernel_size), tuple(stride), tuple(padding), tuple(dilation))
    how = _learning(_lies(gradient), _lies(x), tuple(bank), tuple(inputs), *geometry, torch.get_num_threads())
    return how(x, gradient)


@lru_cache(maxsize=1024)
def _learning(
    gradients: Lies,
    pictures: Lies,
    bank: _Numbers,
    inputs: _Numbers,
    kernel_size: _Numbers,
    stride: _Numbers,
    padding: _Numbers,
    dilation: _Numbers,
    threads: int,
) -> Prepared:
    gradient, x = _shadow(gradients), _shadow(pictures)
    geometry = Geometry(x.shape[2:], kernel_size, stride, padding, dilation)
    blocks = parts(bank, inputs, x.shape[1], x.dim() - 2)
    weight = x.new_empty((sum(part.orbits for part in blocks), x.shape[1], *kernel_size))
    calls = []
    for part in blocks if x.numel() and gradient.numel() else ():
        own = weight.narrow(0, part.stored, part.orbits)
        seen = gradient.narrow(1, part.channel, part.filters)
        task = new_task(geometry, x, seen, own, threads)
        task.mode, task.kind, task.inputs, task.outputs = int(part.deep), part.kind, part.inputs, part.orbits
        calls.append(_call("learn", task, (x, seen, own), (part.in_order, part.out_order)))
    return Prepared(_lies(weight), tuple(calls))


TRIO = register("symmetric_layers::", _answer, _input_gradient, _weight_gradient, "cpu")
FOR_ANY_SIZE = for_any_size("symmetric_layers::cpu_grids_", TRIO, "cpu")
answer, input_gradient, weight_gradient = TRIO
