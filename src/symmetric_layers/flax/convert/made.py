"""Layers with orbits out of ordinary ones: the same arguments, and the ordinary layer's own numbers.

A layer becomes one of another class in its place: whatever it was made with, metadata of its variables among it, stays.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from flax import nnx

from symmetric_layers.errors import SymmetryError
from symmetric_layers.flax.channels import plan_of
from symmetric_layers.flax.conv import SymmetricConv, SymmetricConvTranspose
from symmetric_layers.flax.convert.depthwise import MultipliedConv, PalindromeConv
from symmetric_layers.flax.convert.einsum import Dense, OrbitEinsum, SymmetricEinsum
from symmetric_layers.flax.convert.embed import OrbitEmbed
from symmetric_layers.flax.convert.flat import FlatLinear
from symmetric_layers.flax.convert.general import OrbitLinearGeneral, SymmetricLinearGeneral
from symmetric_layers.flax.convert.kinds import groups_of, is_depthwise, kernel_axes, sides_of
from symmetric_layers.flax.convert.numbers import Numbers, taken
from symmetric_layers.flax.convert.parts import OrbitParam, SymmetricLinear
from symmetric_layers.flax.convert.spied import become
from symmetric_layers.flax.invariant import InvariantConv, InvariantConvTranspose, OrbitLinear
from symmetric_layers.flax.norm import OrbitBatchNorm, OrbitGroupNorm, OrbitInstanceNorm, OrbitLayerNorm
from symmetric_layers.groups import keep_groups_whole
from symmetric_layers.inputs import led_out
from symmetric_layers.letters import LETTERS
from symmetric_layers.orbits import Plan, plan
from symmetric_layers.start import Start

Symmetry = Mapping[str, int | str] | None

NORMS: dict[type, type] = {
    nnx.BatchNorm: OrbitBatchNorm,
    nnx.LayerNorm: OrbitLayerNorm,
    nnx.GroupNorm: OrbitGroupNorm,
    nnx.InstanceNorm: OrbitInstanceNorm,
}

_LINEARS: dict[type, tuple[type, type]] = {  # out of orbits, and into them
    nnx.Linear: (OrbitLinear, SymmetricLinear),
    nnx.LinearGeneral: (OrbitLinearGeneral, SymmetricLinearGeneral),
    nnx.Einsum: (OrbitEinsum, SymmetricEinsum),
}


def conv(numbers: Numbers, layer: Any, symmetry: Symmetry, in_symmetry: Symmetry, grid: str, start: Start) -> None:
    """A convolution that makes orbits; every orbit starts from the filter that its representative was."""
    alone = in_symmetry is not None and is_depthwise(layer)
    times = layer.out_features // groups_of(layer) if alone else 1
    _widen(layer, start, bool(in_symmetry), True, alone)
    if times > 1:  # a filter reads a copy of its channel
        layer.in_features = layer.feature_group_count = layer.out_features
    groups, rank = groups_of(layer), len(layer.kernel_size)
    bank = plan(symmetry, layer.out_features, rank, groups, in_symmetry, layer.in_features)
    transposed = isinstance(layer, nnx.ConvTranspose)
    out, into = (-2, -1) if getattr(layer, "transpose_kernel", False) else (-1, -2)
    if start.average and in_symmetry and not alone:
        numbers.lead(layer.kernel, into, start.size)
    elif start.is_fresh:
        _draw(numbers, layer, out, bank.stored, layer.in_features // groups, bank.stored)
    elif not start.average:
        firsts = bank.firsts if times == 1 else _firsts_of_channels(bank, times)
        _stored(numbers, layer, out, firsts)
        numbers.keep(layer.bias, -1, firsts)
    ours = SymmetricConvTranspose if transposed else SymmetricConv
    become(layer, ours if times == 1 else MultipliedConv)
    if times > 1:
        layer.times = times
    numbers.then(lambda: layer._remember(bank, True, grid))


def _firsts_of_channels(bank: Plan, times: int) -> tuple[int, ...]:
    """Where the filters of the first channel of each orbit stand, in a layer with so many filters for each channel."""
    size = bank.blocks[0].size
    return tuple(first + filter for first in range(0, bank.filters, size * times) for filter in range(times))


def palindrome_conv(layer: Any, kind: str) -> None:
    """A depthwise convolution between ordinary channels."""
    become(layer, PalindromeConv)
    layer.kind = kind


def invariant_conv(numbers: Numbers, layer: Any, in_symmetry: Mapping[str, int | str], start: Start) -> None:
    """A convolution whose answers are ordinary."""
    transposed = isinstance(layer, nnx.ConvTranspose)
    host = "nnx.ConvTranspose" if transposed else "nnx.Conv"
    _widen(layer, start, True, False, False)
    inputs, group = led_out(in_symmetry, layer.in_features, len(layer.kernel_size), groups_of(layer), host)
    out, into = (-2, -1) if getattr(layer, "transpose_kernel", False) else (-1, -2)
    if start.average:
        numbers.share(layer.kernel, start.size)
    elif start.is_fresh:
        _draw(numbers, layer, out, layer.out_features, group.stored, layer.out_features, start.size)
    else:
        _stored(numbers, layer, into, group.firsts)
    become(layer, InvariantConvTranspose if transposed else InvariantConv)
    numbers.then(lambda: layer._remember(inputs, group))


def linear(numbers: Numbers, layer: Any, symmetry: Symmetry, in_symmetry: Symmetry, start: Start) -> None:
    """A linear layer between orbits, or one that leads out of them; of several heads each holds whole orbits."""
    ins, outs = sides_of(layer)
    ins = (*ins[:-1], start.wide(ins[-1])) if in_symmetry else ins
    outs = (*outs[:-1], start.wide(outs[-1])) if symmetry else outs
    axes = kernel_axes(layer)
    _resize(layer, ins, outs, axes)
    read, made = math.prod(ins), math.prod(outs)
    into, out = (side[-1] - len(ins) - len(outs) for side in axes)
    bank = plan(symmetry, made, len(LETTERS), 1, in_symmetry, read) if symmetry else plan_of(in_symmetry, read)
    firsts = tuple(first for first in bank.firsts if first < (outs if symmetry else ins)[-1])  # those of one head
    if start.is_fresh:
        ends = (*outs[:-1], len(firsts)) if symmetry else outs
        shape, flat = (*ins, *ends) if symmetry else (*ins[:-1], len(firsts), *ends), (bank.stored, made)
        flat = (read, bank.stored) if symmetry else flat
        numbers.draw(layer.kernel, _arranged(shape, axes), -1, 1 if symmetry else start.size, flat)
        numbers.draw(layer.bias, ends)
    elif start.average and not symmetry:
        numbers.share(layer.kernel, start.size)
    elif start.average and in_symmetry:
        numbers.lead(layer.kernel, into, start.size)
    elif not start.average:
        numbers.keep(layer.kernel, out if symmetry else into, firsts)
        numbers.keep(layer.bias if symmetry else None, -1, firsts)
    host = next(host for host in _LINEARS if isinstance(layer, host))
    become(layer, _LINEARS[host][bool(symmetry)])
    layer.plan = bank
    if host is nnx.Einsum:
        layer.dense = axes


def _resize(layer: Any, ins: tuple[int, ...], outs: tuple[int, ...], axes: Dense) -> None:
    """Tells a linear layer how many features it has."""
    if isinstance(layer, nnx.Einsum):
        layer.kernel_shape = _arranged((*ins, *outs), axes)
        layer.bias_shape = None if layer.bias_shape is None else outs
    elif isinstance(layer, nnx.LinearGeneral):
        layer.in_features, layer.out_features = ins, outs
    else:
        (layer.in_features,), (layer.out_features,) = ins, outs


def _arranged(shape: Sequence[int], axes: Dense) -> tuple[int, ...]:
    """The shape of a kernel out of what it reads, and then makes."""
    sizes = dict(zip((*axes.read, *axes.made), shape, strict=True))
    return tuple(sizes[axis] for axis in sorted(sizes))


def flat_linear(
    numbers: Numbers, layer: Any, shape: Sequence[int], symmetry: Symmetry, in_symmetry: Symmetry, start: Start
) -> None:
    """A linear layer that reads a whole map, of this shape, in a row."""
    *sizes, channels = shape
    channels = start.wide(channels) if in_symmetry else channels
    layer.in_features = math.prod(sizes) * channels
    layer.out_features = start.wide(layer.out_features) if symmetry else layer.out_features
    filters = layer.out_features if symmetry else channels
    bank = plan(symmetry or in_symmetry, filters, len(sizes), 1, *(in_symmetry, channels) if symmetry else ())
    rows = [position * channels + first for position in range(math.prod(sizes)) for first in bank.firsts]
    if start.is_fresh:
        ends = (layer.in_features, bank.stored) if symmetry else (len(rows), layer.out_features)
        numbers.draw(layer.kernel, ends, -1, 1 if symmetry else start.size)
        numbers.draw(layer.bias, ends[-1:])
    elif start.average and not symmetry:
        numbers.share(layer.kernel, start.size)
    elif start.average and in_symmetry:
        numbers.lead(layer.kernel, -2, start.size)
    elif not start.average:
        numbers.keep(layer.kernel, -1 if symmetry else -2, bank.firsts if symmetry else rows)
        numbers.keep(layer.bias if symmetry else None, -1, bank.firsts)
    become(layer, FlatLinear)
    layer.plan, layer.sizes, layer.leads_out = bank, tuple(sizes), not symmetry


def orbit_norm(numbers: Numbers, host: type, layer: Any, symmetry: Mapping[str, int], start: Start) -> None:
    """A norm for orbits."""
    (channels,) = symmetry.values()
    bank = plan_of({kind: start.wide(channels) for kind in symmetry}, start.wide(channels))
    if host is nnx.GroupNorm:
        if layer.num_groups == channels:  # every channel by itself
            layer.num_groups = bank.filters
        if bank.filters % layer.num_groups:
            raise SymmetryError(
                f"num_groups: {layer.num_groups} groups do not divide {bank.filters} channels. Expected a divisor. "
                "Use such a number."
            )
        keep_groups_whole(bank, layer.num_groups)
        layer.group_size = bank.filters // layer.num_groups
    if hasattr(layer, "num_features"):
        layer.num_features = bank.filters
    for name in ("scale", "bias", "mean", "var"):
        numbers.keep(getattr(layer, name, None), -1, start.chosen(channels))
    become(layer, NORMS[host])
    layer.plan = bank


def orbit_embed(numbers: Numbers, layer: Any, symmetry: Mapping[str, int], start: Start) -> None:
    """A lookup whose answers are orbits."""
    numbers.keep(layer.embedding, -1, start.chosen(layer.features))
    layer.features = start.wide(layer.features)
    become(layer, OrbitEmbed)
    layer.plan = plan_of(symmetry, layer.features)


def orbit_param(variable: Any, kind: str, dim: int, start: Start) -> None:
    """A variable with one number for each channel becomes one whose numbers orbits share."""
    channels, dim = variable.get_value().shape[dim], dim - len(variable.get_value().shape)
    variable.set_value(taken(variable.get_value(), start.chosen(channels), dim))
    channels = start.wide(channels)
    become(variable, OrbitParam)
    variable.set_metadata(symmetry=((kind, channels),), channels=channels, dim=dim)


def _stored(numbers: Numbers, layer: Any, axis: int, firsts: tuple[int, ...]) -> None:
    """Keeps the filters, and what masks them, of representatives."""
    numbers.keep(layer.kernel, axis, firsts)
    if layer.mask is not None:
        layer.mask = taken(layer.mask, firsts, axis)


def _widen(layer: Any, start: Start, inputs: bool, outputs: bool, alone: bool) -> None:
    """Gives a convolution as many channels as there are now; `alone`: and groups."""
    if start.width != 1 and layer.mask is not None:
        raise SymmetryError(
            f"width: {float(start.width):.3g} makes other filters than those that are masked. Expected none that are. "
            "Use width=1."
        )
    layer.in_features = start.wide(layer.in_features) if inputs else layer.in_features
    layer.out_features = start.wide(layer.out_features) if outputs else layer.out_features
    if alone:
        layer.feature_group_count = layer.in_features


def _draw(numbers: Numbers, layer: Any, out: int, filters: int, inputs: int, biases: int, members: int = 1) -> None:
    """Draws the filters of a convolution anew."""
    ends = (filters, inputs) if out == -2 else (inputs, filters)
    numbers.draw(layer.kernel, (*layer.kernel_size, *ends), out, members)
    numbers.draw(layer.bias, (biases,))
