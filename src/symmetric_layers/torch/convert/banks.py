"""Layers with orbits out of ordinary ones, with the same arguments, from the ordinary layer's own numbers."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

import symmetric_layers.torch.conv as symmetric
import symmetric_layers.torch.invariant as invariant
import symmetric_layers.torch.norm as norm
from symmetric_layers.orbits import Plan
from symmetric_layers.torch.convert.parts import SamePaddedConv2d, SymmetricLinear
from symmetric_layers.torch.convert.surgery import Numbers, inherit

Symmetry = Mapping[str, int | str] | None

_NORMS: dict[type[nn.Module], Any] = {
    nn.BatchNorm1d: norm.OrbitBatchNorm1d, nn.BatchNorm2d: norm.OrbitBatchNorm2d, nn.BatchNorm3d: norm.OrbitBatchNorm3d,
    nn.InstanceNorm1d: norm.OrbitInstanceNorm1d, nn.InstanceNorm2d: norm.OrbitInstanceNorm2d,
    nn.InstanceNorm3d: norm.OrbitInstanceNorm3d, nn.GroupNorm: norm.OrbitGroupNorm, nn.LayerNorm: norm.OrbitLayerNorm,
}  # fmt: skip
NORMS = tuple(_NORMS)


def arguments(conv: Any) -> dict[str, Any]:
    """The arguments that make such a convolution again, without storage."""
    names = ["in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode"]
    names += ["output_padding"] if conv.transposed else []
    values = {name: getattr(conv, name) for name in names}
    return {**values, "bias": conv.bias is not None, "device": "meta", "dtype": conv.weight.dtype}


def symmetric_conv(
    conv: Any, host: type, symmetry: Symmetry, in_symmetry: Symmetry, grid: str, numbers: Numbers, padded: bool = False
) -> nn.Module:
    """A symmetric convolution for an ordinary one; every orbit starts from the filter that its representative was."""
    build: Any = SamePaddedConv2d if padded else getattr(symmetric, "Symmetric" + host.__name__)
    new = build(**arguments(conv), symmetry=symmetry, in_symmetry=in_symmetry, grid=grid)
    numbers.put(new, "weight", conv.weight, own_filters(conv.weight, new._plan, conv.transposed))
    numbers.put(new, "bias", conv.bias, pick(conv.bias, new.plan))
    inherit(conv, new)
    return new


def own_filters(weight: Tensor, plan: Plan, transposed: bool) -> Tensor:
    """The filters that become representatives, in a host's layout."""
    if not plan.orbits:
        return weight
    if transposed and not plan.depthwise:
        first = [filter for filter in representatives(plan) if filter < plan.filters // plan.banks]
        return weight.index_select(1, torch.tensor(first, device=weight.device))
    return weight.index_select(0, torch.tensor(representatives(plan), device=weight.device))


def invariant_conv(conv: Any, host: type, in_symmetry: Symmetry, axes: str, numbers: Numbers) -> nn.Module:
    """An invariant convolution for an ordinary one."""
    build = getattr(invariant, host.__name__.replace("Conv", "InvariantConv", 1))
    new = build(**arguments(conv), in_symmetry=in_symmetry, axes=axes)
    how = new.invariance
    channels = [i for i, mirror in enumerate(how.inputs.mirror) if not set(mirror) & set(how.swapped)]
    dim = 0 if conv.transposed else 1
    if not conv.transposed:
        channels = [channel for channel in channels if channel < conv.in_channels // conv.groups]
    weight = conv.weight.index_select(dim, torch.tensor(channels, device=conv.weight.device))
    for axis, size in enumerate(how.stored_kernel(conv.kernel_size)):
        weight = weight.narrow(2 + axis, 0, size)
    numbers.put(new, "weight", conv.weight, weight)
    numbers.put(new, "bias", conv.bias, conv.bias)
    inherit(conv, new)
    return new


def orbit_linear(linear: nn.Linear, in_symmetry: Symmetry, numbers: Numbers) -> nn.Module:
    """A linear head that ignores the mirror for an ordinary one."""
    given: Any = (linear.in_features, linear.out_features, linear.bias is not None, "meta", linear.weight.dtype)
    new = invariant.OrbitLinear(*given, in_symmetry=in_symmetry)
    numbers.put(new, "weight", linear.weight, pick(linear.weight, new.plan, 1))
    numbers.put(new, "bias", linear.bias, linear.bias)
    inherit(linear, new)
    return new


def symmetric_linear(linear: nn.Linear, symmetry: Symmetry, in_symmetry: Symmetry, numbers: Numbers) -> nn.Module:
    """A linear layer between orbits for an ordinary one."""
    given: Any = (linear.in_features, linear.out_features, linear.bias is not None, "meta", linear.weight.dtype)
    new = SymmetricLinear(*given, symmetry=symmetry, in_symmetry=in_symmetry)
    numbers.put(new, "weight", linear.weight, pick(linear.weight, new.plan))
    numbers.put(new, "bias", linear.bias, pick(linear.bias, new.plan))
    inherit(linear, new)
    return new


def orbit_norm(old: Any, host: type[nn.Module], symmetry: Symmetry, numbers: Numbers) -> nn.Module:
    """A norm for orbits for an ordinary one."""
    weight, bias = old.weight, old.bias
    new: Any
    more: dict[str, Any] = {"eps": old.eps, "device": "meta", "dtype": _dtype(old), "symmetry": symmetry}
    if host is nn.GroupNorm:
        new = norm.OrbitGroupNorm(old.num_groups, old.num_channels, affine=old.affine, **more)
    elif host is nn.LayerNorm:
        affine = old.elementwise_affine
        new = norm.OrbitLayerNorm(old.normalized_shape, elementwise_affine=affine, bias=bias is not None, **more)
    else:
        more |= {"momentum": old.momentum, "affine": old.affine, "track_running_stats": old.track_running_stats}
        if old.affine and bias is None:
            more["bias"] = False
        new = _NORMS[host](old.num_features, **more)
    for name, old_values in (("weight", weight), ("bias", bias)):
        numbers.put(new, name, old_values, pick(old_values, new.plan))
    for name, buffer in old.named_buffers(recurse=False):
        new._buffers[name] = buffer.clone() if buffer.dim() == 0 else pick(buffer, new.plan)
    inherit(old, new)
    return new


def pick(values: Tensor | None, plan: Plan | None, dim: int = 0) -> Tensor | None:
    """The entries of the representatives."""
    if values is None or plan is None or not plan.orbits:
        return values
    return values.detach().index_select(dim, torch.tensor(representatives(plan), device=values.device))


def representatives(plan: Plan) -> list[int]:
    """The filters that are stored, in the order in which they are stored."""
    return [filter for filter, mirror in enumerate(plan.mirror) if not mirror]


def _dtype(module: nn.Module) -> torch.dtype | None:
    tensors = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    return next((tensor.dtype for tensor in tensors if tensor.is_floating_point()), None)
