"""Convolutions with a `forward` of their own (standardised filters, made-up padding), given mirrored banks."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.fx import Proxy

from symmetric_layers.letters import axes
from symmetric_layers.orbits import Plan, plan
from symmetric_layers.torch.convert.banks import Symmetry, own_filters, pick
from symmetric_layers.torch.convert.surgery import Numbers, copy_of
from symmetric_layers.torch.kernels import expand_weight, spread
from symmetric_layers.torch.kernels.channels import turned
from symmetric_layers.torch.kernels.grid import alike
from symmetric_layers.torch.kernels.seen import by_masks
from symmetric_layers.torch.leaves import noted


class OwnConv(nn.Module):
    """A convolution of a class of its own, which stores one filter for every orbit and is shown all of them.

    Equivalent to: the class's own `forward` with mirrors written out; with strides `flip . forward . flip` for mirrors.

    Law: that of a symmetric convolution on the mirrored grid, where the `forward` treats every filter by itself.

    Args:
        conv: the layer, which keeps its class; what it knows of every filter is stored once for each orbit.
        arranged: which filters are mirrors of which.

    Shape:
        What the layer's own `forward` takes and gives.
    """

    def __init__(self, conv: Any, arranged: Plan, numbers: Numbers) -> None:
        super().__init__()
        self.conv, self.plan = _twin_of(conv), arranged
        self.per_filter = sorted(_per_filter(conv))  # the names of what has one number for every filter
        for name in ("weight", *self.per_filter):
            old = getattr(conv, name)
            stored = own_filters(old, arranged, False) if name == "weight" else pick(old, arranged)
            if name in conv._buffers:
                self.conv._buffers[name] = stored
            else:
                numbers.put(self.conv, name, old, stored)

    @property
    def is_strided(self) -> bool:
        """Whether its grid may lie otherwise in the mirror."""
        return any(step != 1 for step in self.conv.stride)

    def full(self) -> dict[str, Tensor]:
        """What the layer would hold with all filters, by name."""
        stored = {name: getattr(self.conv, name) for name in self.per_filter}
        found = {name: spread(values, self.plan, -values.dim()) for name, values in stored.items()}
        return {"weight": expand_weight(self.conv.weight, self.plan), **found}

    def forward(self, input: Tensor) -> Any:
        """Has the layer answer `(N, in_channels, *positions)`."""
        if isinstance(input, Proxy):
            return noted(self, input)
        full = self.full()
        answer = self._in_mirrors(full, input) if self.is_strided else functional_call(self.conv, full, (input,))
        if self.training:
            self._gather(full)
        return answer

    def _in_mirrors(self, full: dict[str, Tensor], input: Tensor) -> Tensor:
        """Every filter as its representative lies, seen in its own mirror; all at once, as a layer may count them."""
        upright = {**full, "weight": self._upright(full["weight"])}
        gathered: list[dict[str, Tensor]] = []

        def run(seen: Tensor) -> Tensor:
            gathered.append({name: full[name].clone() for name in self.per_filter if name in self.conv._buffers})
            return functional_call(self.conv, {**upright, **gathered[-1]}, (seen,))

        answer = by_masks(run, self.plan, "".join(self.plan.kinds), input)
        classes = alike(self.plan, "".join(self.plan.kinds))
        for letters, found in zip(["", *sorted({*classes} - {""})], gathered, strict=True):
            index = torch.tensor(classes[letters], device=input.device)
            for name, values in found.items():  # of every filter what was gathered in its own mirror
                full[name].index_copy_(0, index, values.index_select(0, index))
        return answer

    def _upright(self, weight: Tensor) -> Tensor:
        for letters, index in alike(self.plan, "".join(self.plan.kinds)).items():
            chosen = torch.zeros(len(weight), dtype=torch.bool, device=weight.device)
            chosen[index] = True
            weight = torch.where(chosen.view(-1, *[1] * (weight.dim() - 1)), turned(weight, axes(letters)), weight)
        return weight

    def _gather(self, full: dict[str, Tensor]) -> None:
        """Keeps what the layer has gathered in buffers, as the mean over every orbit."""
        for name in self.per_filter:
            if name in self.conv._buffers:
                stored = self.conv._buffers[name]
                with torch.no_grad():
                    stored.copy_(full[name].unflatten(0, (stored.shape[0], -1)).mean(1))


def own_conv(conv: Any, symmetry: Symmetry, in_symmetry: Symmetry, numbers: Numbers) -> OwnConv:
    """Such a layer for a convolution of a class of its own."""
    rank = len(conv.kernel_size)
    arranged = plan(symmetry, conv.out_channels, rank, conv.groups, in_symmetry, conv.in_channels)
    return OwnConv(conv, arranged, numbers).train(conv.training)


def as_it_was(layer: OwnConv, numbers: Numbers) -> nn.Module:
    """The way back, for layers whose mirrors see the grid that the others see, as all do that have no strides."""
    conv = _twin_of(layer.conv)
    with torch.no_grad():
        for name, values in layer.full().items():
            if name in conv._buffers:
                conv._buffers[name] = values.detach().clone()
            else:
                numbers.put(conv, name, getattr(layer.conv, name), values)
    return conv


def answers_alike(layer: OwnConv, plain: nn.Module, shape: tuple[int, ...]) -> bool:
    """Whether an ordinary layer answers pictures of some size as this one does: grids that differ differ in all."""
    one, other = (copy_of(each).eval() for each in (layer, plain))
    dtype, rank = layer.conv.weight.dtype, layer.plan.ndim
    sizes = (1, *shape[1:]) if len(shape) == rank + 2 else shape
    x = torch.randn(sizes, generator=torch.Generator().manual_seed(0)).to(layer.conv.weight)
    with torch.no_grad():
        expected, answer = one(x), other(x)
    error = (expected - answer).abs().max()
    return bool(error <= torch.finfo(dtype).eps ** 0.5 * expected.abs().max())


def _twin_of(conv: Any) -> Any:
    """The same layer with the same numbers, of which some may be exchanged without touching the other."""
    twin = copy.copy(conv)
    twin._parameters, twin._buffers = dict(conv._parameters), dict(conv._buffers)
    return twin


def _per_filter(conv: Any) -> list[str]:
    """What a layer knows of every filter beside its numbers: biases, gains, shifts."""
    shapes = {
        name: values.shape
        for name, values in [*conv._parameters.items(), *conv._buffers.items()]
        if values is not None and name != "weight"
    }
    filters = conv.out_channels
    return [name for name, shape in shapes.items() if shape[:1] == (filters,) and shape.numel() == filters]
