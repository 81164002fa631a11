"""Convolutions with a `forward` of their own (standardised filters, made-up padding), given mirrored banks."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from symmetric_layers.letters import axes
from symmetric_layers.orbits import Plan, plan
from symmetric_layers.torch.convert.banks import Symmetry, own_filters, pick
from symmetric_layers.torch.convert.surgery import Numbers
from symmetric_layers.torch.kernels import expand_weight, spread
from symmetric_layers.torch.kernels.channels import turned
from symmetric_layers.torch.kernels.grid import by_mirror
from symmetric_layers.torch.kernels.seen import by_masks


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
        self.conv, self.plan = conv, arranged
        self.per_filter = sorted(_per_filter(conv))  # the names of what has one number for every filter
        for name in ("weight", *self.per_filter):
            old = getattr(conv, name)
            stored = own_filters(old, arranged, False) if name == "weight" else pick(old, arranged)
            if name in conv._buffers:
                conv._buffers[name] = stored
            else:
                numbers.put(conv, name, old, stored)

    @property
    def is_strided(self) -> bool:
        """Whether its grid may lie otherwise in the mirror."""
        return any(step != 1 for step in self.conv.stride)

    def full(self) -> dict[str, Tensor]:
        """What the layer would hold with all filters, by name."""
        stored = {name: getattr(self.conv, name) for name in self.per_filter}
        found = {name: spread(values, self.plan, -values.dim()) for name, values in stored.items()}
        return {"weight": expand_weight(self.conv.weight, self.plan), **found}

    def forward(self, input: Tensor) -> Tensor:
        """Has the layer answer `(N, in_channels, *positions)`."""
        full = self.full()
        if self.plan.depthwise and self.is_strided:
            own = {**full, "weight": spread(self.conv.weight, self.plan, -self.conv.weight.dim())}
            run = partial(self._with, own)  # each channel is seen in its own mirror by its orbit's one filter
            return by_masks(run, self.plan, "".join(self.plan.kinds), input)

        def answer(mirrored: str, index: Tensor) -> Tensor:
            flipped = list(axes(mirrored))
            given = {name: values.index_select(0, index) for name, values in full.items()}
            given["weight"] = turned(given["weight"], flipped)
            return turned(self._with(given, turned(input, flipped)), flipped)

        letters = "".join(self.plan.kinds) if self.is_strided else ""
        return by_mirror(answer, self.plan, letters, -self.plan.ndim - 1, input.device)

    def _with(self, given: dict[str, Tensor], input: Tensor) -> Tensor:
        return functional_call(self.conv, given, (input,))


def own_conv(conv: Any, symmetry: Symmetry, in_symmetry: Symmetry, numbers: Numbers) -> OwnConv:
    """Such a layer for a convolution of a class of its own."""
    rank = len(conv.kernel_size)
    arranged = plan(symmetry, conv.out_channels, rank, conv.groups, in_symmetry, conv.in_channels)
    return OwnConv(conv, arranged, numbers).train(conv.training)


def as_it_was(layer: OwnConv, numbers: Numbers) -> nn.Module:
    """The way back, for layers without strides."""
    conv: Any = layer.conv
    with torch.no_grad():
        for name, values in layer.full().items():
            if name in conv._buffers:
                conv._buffers[name] = values.detach().clone()
            else:
                numbers.put(conv, name, getattr(conv, name), values)
    return conv


def _per_filter(conv: Any) -> list[str]:
    """What a layer knows of every filter beside its numbers: biases, gains, shifts."""
    shapes = {
        name: values.shape
        for name, values in [*conv._parameters.items(), *conv._buffers.items()]
        if values is not None and name != "weight"
    }
    filters = conv.out_channels
    return [name for name, shape in shapes.items() if shape[:1] == (filters,) and shape.numel() == filters]
