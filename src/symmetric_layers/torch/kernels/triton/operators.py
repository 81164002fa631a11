"""The kernels for GPUs as operators: block after block of a bank, and what the host does better."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import grad

from symmetric_layers.torch.kernels.bank import parts, whole
from symmetric_layers.torch.kernels.geometry import Geometry, empty_like
from symmetric_layers.torch.kernels.opaque import for_any_size
from symmetric_layers.torch.kernels.phases import phases
from symmetric_layers.torch.kernels.reference import CONV, expand_weight
from symmetric_layers.torch.kernels.trio import register
from symmetric_layers.torch.kernels.triton.calls import to_answers, to_filters, to_orbits, to_pictures
from symmetric_layers.torch.kernels.triton.strided import to_phases


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
    geometry = Geometry(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    blocks = parts(tuple(bank), tuple(inputs), x.shape[1], x.dim() - 2)
    y = empty_like(x, (x.shape[0], sum(part.filters for part in blocks), *geometry.answer))
    for part in blocks if y.numel() else ():
        own, into = weight.narrow(0, part.stored, part.orbits), y.narrow(1, part.channel, part.filters)
        biases = None if bias is None else bias.narrow(0, part.stored, part.orbits)
        if part.kind:
            to_answers(x, own, biases, into, geometry, part)
        else:
            into.copy_(CONV[x.dim() - 2](x, own, biases, list(stride), list(padding), list(dilation)))
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
    geometry = Geometry(sizes, weight.shape[2:], stride, padding, dilation)
    x = empty_like(gradient, (gradient.shape[0], weight.shape[1], *sizes))
    if not x.numel() or not gradient.numel():
        return x.zero_()
    blocks = parts(tuple(bank), tuple(inputs), x.shape[1], len(sizes))
    found = phases(geometry, blocks)
    if found is None:
        plan = whole(tuple(bank), tuple(inputs), weight.shape[1], len(sizes))
        return geometry.host_gradient(gradient, expand_weight(weight, plan))
    for part, some in zip(blocks, found, strict=True):
        own = weight.narrow(0, part.stored, part.orbits)
        seen = gradient.narrow(1, part.channel, part.filters)
        target = torch.empty_like(x) if part.channel else x
        if not part.kind:
            target.copy_(geometry.host_gradient(seen, own))
        elif max(stride) > 1:
            to_phases(seen, own, target, geometry, part, some)
        else:
            make = to_orbits if part.deep else to_pictures
            make(seen, own, target, some[0].geometry, part)
        if part.channel:
            x += target
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
    geometry = Geometry(x.shape[2:], kernel_size, stride, padding, dilation)
    blocks = parts(tuple(bank), tuple(inputs), x.shape[1], x.dim() - 2)
    weight = x.new_empty((sum(part.orbits for part in blocks), x.shape[1], *kernel_size))
    if not x.numel() or not gradient.numel():
        return weight.zero_()
    for part in blocks:
        own = weight.narrow(0, part.stored, part.orbits)
        seen = gradient.narrow(1, part.channel, part.filters)
        if part.kind:
            to_filters(seen, x, own, geometry, part)
        else:
            conv: Any = (grad.conv1d_weight, grad.conv2d_weight, grad.conv3d_weight)[x.dim() - 3]
            own.copy_(conv(x, own.shape, seen, list(stride), list(padding), list(dilation)))
    return weight


TRIO = register("symmetric_layers::triton_", _answer, _input_gradient, _weight_gradient, ("cuda", "cpu"))
FOR_ANY_SIZE = for_any_size("symmetric_layers::triton_grids_", TRIO, ("cuda", "cpu"))
