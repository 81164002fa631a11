"""Layers with orbits out of ordinary ones, with the same arguments, from the ordinary layer's own numbers."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

import symmetric_layers.torch.conv as symmetric
import symmetric_layers.torch.invariant as invariant
import symmetric_layers.torch.norm as norm
import symmetric_layers.torch.sync as sync
from symmetric_layers.letters import axes as positions
from symmetric_layers.orbits import Plan
from symmetric_layers.start import Start
from symmetric_layers.torch.convert.parts import SymmetricLinear
from symmetric_layers.torch.convert.surgery import Numbers, inherit

Symmetry = Mapping[str, int | str] | None

_NORMS: dict[type[nn.Module], Any] = {
    nn.BatchNorm1d: norm.OrbitBatchNorm1d, nn.BatchNorm2d: norm.OrbitBatchNorm2d, nn.BatchNorm3d: norm.OrbitBatchNorm3d,
    nn.InstanceNorm1d: norm.OrbitInstanceNorm1d, nn.InstanceNorm2d: norm.OrbitInstanceNorm2d,
    nn.InstanceNorm3d: norm.OrbitInstanceNorm3d, nn.GroupNorm: norm.OrbitGroupNorm, nn.LayerNorm: norm.OrbitLayerNorm,
    nn.SyncBatchNorm: sync.OrbitSyncBatchNorm,
}  # fmt: skip
NORMS = tuple(_NORMS)


def arguments(conv: Any) -> dict[str, Any]:
    """The arguments that make such a convolution again, without storage."""
    names = ["in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode"]
    names += ["output_padding"] if conv.transposed else []
    values = {name: getattr(conv, name) for name in names}
    return {**values, "bias": conv.bias is not None, "device": "meta", "dtype": conv.weight.dtype}


def symmetric_conv(
    conv: Any, build: Any, symmetry: Symmetry, in_symmetry: Symmetry, grid: str, numbers: Numbers, start: Start
) -> nn.Module:
    """A symmetric convolution for an ordinary one; every orbit starts from the filter that its representative was."""
    given = arguments(conv)
    depthwise = bool(in_symmetry) and conv.groups == conv.in_channels == conv.out_channels
    given["out_channels"] = start.wide(conv.out_channels)
    given["in_channels"] = start.wide(conv.in_channels) if in_symmetry else conv.in_channels
    given["groups"] = start.wide(conv.groups) if depthwise else conv.groups
    fresh = start.is_fresh
    if fresh:
        given["device"] = conv.weight.device
    new = build(**given, symmetry=symmetry, in_symmetry=in_symmetry, grid=grid)
    if fresh:
        weight, bias = new.weight, new.bias
    elif start.average:
        weight = conv.weight
        if in_symmetry and not depthwise:
            weight = first_of_orbits(weight, 0 if conv.transposed else 1, start.size)
        bias = conv.bias
    else:
        weight, bias = own_filters(conv.weight, new._plan, conv.transposed), pick(conv.bias, new.plan)
    numbers.put(new, "weight", conv.weight, weight)
    numbers.put(new, "bias", conv.bias, bias)
    inherit(conv, new)
    return new


def symmetric_form(host: type) -> Any:
    """The symmetric convolution of such a host."""
    return getattr(symmetric, "Symmetric" + host.__name__)


def invariant_form(host: type) -> Any:
    """The invariant one."""
    return getattr(invariant, host.__name__.replace("Conv", "InvariantConv", 1))


def first_of_orbits(weight: Tensor, dim: int, size: int) -> Tensor:
    """Filters that read the first member of each orbit, and nothing of the others."""
    shape = list(weight.shape)
    shape[dim] *= size
    index = torch.arange(0, shape[dim], size, device=weight.device)
    return weight.detach().new_zeros(shape).index_copy(dim, index, weight.detach())


def own_filters(weight: Tensor, plan: Plan, transposed: bool) -> Tensor:
    """The filters that become representatives, in a host's layout."""
    if not plan.orbits:
        return weight
    if transposed and not plan.depthwise:
        first = [filter for filter in representatives(plan) if filter < plan.filters // plan.banks]
        return weight.index_select(1, torch.tensor(first, device=weight.device))
    return weight.index_select(0, torch.tensor(representatives(plan), device=weight.device))


def invariant_conv(
    conv: Any, build: Any, in_symmetry: Symmetry, axes: str, numbers: Numbers, start: Start
) -> nn.Module:
    """An invariant convolution for an ordinary one."""
    given = arguments(conv)
    given["in_channels"] = start.wide(conv.in_channels) if in_symmetry else conv.in_channels
    fresh = start.is_fresh
    if fresh:
        given["device"] = conv.weight.device
    new = build(**given, in_symmetry=in_symmetry, axes=axes)
    how = new.invariance
    weight, bias = conv.weight, conv.bias
    if fresh:
        weight, bias = new.weight, new.bias
    elif start.average:
        for letter in how.palindromic:
            weight = (weight + weight.flip(positions(letter))) / 2
        weight = weight / 2 ** len(how.swapped)
    elif how.swapped:
        channels = [i for i, mirror in enumerate(how.inputs.mirror) if not set(mirror) & set(how.swapped)]
        if not conv.transposed:
            channels = [channel for channel in channels if channel < conv.in_channels // conv.groups]
        index = torch.tensor(channels, device=weight.device)
        weight = weight.index_select(0 if conv.transposed else 1, index)
    for axis, size in enumerate(how.stored_kernel(conv.kernel_size)):
        weight = weight.narrow(2 + axis, 0, size)
    numbers.put(new, "weight", conv.weight, weight)
    numbers.put(new, "bias", conv.bias, bias)
    inherit(conv, new)
    return new


def linear(old: nn.Linear, symmetry: Symmetry, in_symmetry: Symmetry, numbers: Numbers, start: Start) -> nn.Module:
    """A linear layer between orbits for an ordinary one, or without `symmetry` a head that ignores the mirror."""
    fresh = start.is_fresh
    features = start.wide(old.in_features) if in_symmetry else old.in_features
    answers = start.wide(old.out_features) if symmetry else old.out_features
    given: Any = (features, answers, old.bias is not None, old.weight.device if fresh else "meta", old.weight.dtype)
    new: Any
    if symmetry:
        new = SymmetricLinear(*given, symmetry=symmetry, in_symmetry=in_symmetry)
    else:
        new = invariant.OrbitLinear(*given, in_symmetry=in_symmetry)
    weight: Any = old.weight
    bias: Any = old.bias
    if fresh:
        weight, bias = new.weight, new.bias
    elif start.average and symmetry:
        weight = first_of_orbits(weight, 1, start.size) if in_symmetry else weight
    elif start.average:
        weight = weight / start.size
    elif symmetry:
        weight, bias = pick(weight, new.plan), pick(bias, new.plan)
    else:
        weight = pick(weight, new.plan, 1)
    numbers.put(new, "weight", old.weight, weight)
    numbers.put(new, "bias", old.bias, bias)
    inherit(old, new)
    return new


def orbit_norm(old: Any, host: type[nn.Module], symmetry: Symmetry, numbers: Numbers, start: Start) -> nn.Module:
    """A norm for orbits for an ordinary one."""
    weight, bias = old.weight, old.bias
    new: Any
    more: dict[str, Any] = {"eps": old.eps, "device": "meta", "dtype": _dtype(old), "symmetry": symmetry}
    if host is nn.GroupNorm:
        groups = start.wide(old.num_groups) if old.num_groups == old.num_channels else old.num_groups
        new = norm.OrbitGroupNorm(groups, start.wide(old.num_channels), affine=old.affine, **more)
    elif host is nn.LayerNorm:
        affine = old.elementwise_affine
        shape = [start.wide(size) for size in old.normalized_shape]
        new = norm.OrbitLayerNorm(shape, elementwise_affine=affine, bias=bias is not None, **more)
    else:
        more |= {"momentum": old.momentum, "affine": old.affine, "track_running_stats": old.track_running_stats}
        if old.affine and bias is None:
            more["bias"] = False
        more |= {"process_group": old.process_group} if host is nn.SyncBatchNorm else {}
        new = _NORMS[host](start.wide(old.num_features), **more)
    for name, old_values in (("weight", weight), ("bias", bias)):
        numbers.put(new, name, old_values, _chosen(old_values, start))
    for name, buffer in old.named_buffers(recurse=False):
        if name in new._buffers:  # others are handed on as they are
            new._buffers[name] = buffer.clone() if buffer.dim() == 0 else _chosen(buffer, start)
    inherit(old, new)
    return new


def _chosen(values: Tensor | None, start: Start) -> Tensor | None:
    if values is None:
        return None
    return values.detach()[torch.tensor(start.chosen(values.shape[0]), device=values.device)]


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
