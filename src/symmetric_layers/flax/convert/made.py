"""Layers with orbits out of ordinary ones: the same arguments, and the ordinary layer's own numbers.

A layer becomes one of another class in its place: whatever it was made with, metadata of its variables among it, stays.
"""

from collections.abc import Mapping
from typing import Any

from flax import nnx

from symmetric_layers.flax.channels import plan_of
from symmetric_layers.flax.conv import SymmetricConv, SymmetricConvTranspose
from symmetric_layers.flax.convert.kinds import groups_of
from symmetric_layers.flax.convert.numbers import Numbers, taken
from symmetric_layers.flax.convert.parts import OrbitParam, SymmetricLinear
from symmetric_layers.flax.convert.spied import become
from symmetric_layers.flax.invariant import InvariantConv, InvariantConvTranspose, OrbitLinear
from symmetric_layers.flax.norm import OrbitBatchNorm, OrbitGroupNorm, OrbitInstanceNorm, OrbitLayerNorm
from symmetric_layers.groups import keep_groups_whole
from symmetric_layers.inputs import led_out
from symmetric_layers.letters import LETTERS
from symmetric_layers.orbits import plan

Symmetry = Mapping[str, int | str] | None

NORMS: dict[type, type] = {
    nnx.BatchNorm: OrbitBatchNorm,
    nnx.LayerNorm: OrbitLayerNorm,
    nnx.GroupNorm: OrbitGroupNorm,
    nnx.InstanceNorm: OrbitInstanceNorm,
}


def conv(numbers: Numbers, layer: Any, symmetry: Symmetry, in_symmetry: Symmetry, grid: str) -> None:
    """A convolution that makes orbits; every orbit starts from the filter that its representative was."""
    groups = groups_of(layer)
    bank = plan(symmetry, layer.out_features, len(layer.kernel_size), groups, in_symmetry, layer.in_features)
    transposed = isinstance(layer, nnx.ConvTranspose)
    _stored(numbers, layer, -2 if getattr(layer, "transpose_kernel", False) else -1, bank.firsts)
    numbers.keep(layer.bias, -1, bank.firsts)
    become(layer, SymmetricConvTranspose if transposed else SymmetricConv)
    numbers.then(lambda: layer._remember(bank, True, grid))


def invariant_conv(numbers: Numbers, layer: Any, in_symmetry: Mapping[str, int | str]) -> None:
    """A convolution whose answers are ordinary."""
    transposed = isinstance(layer, nnx.ConvTranspose)
    host = "nnx.ConvTranspose" if transposed else "nnx.Conv"
    inputs, group = led_out(in_symmetry, layer.in_features, len(layer.kernel_size), groups_of(layer), host)
    _stored(numbers, layer, -1 if getattr(layer, "transpose_kernel", False) else -2, group.firsts)
    become(layer, InvariantConvTranspose if transposed else InvariantConv)
    numbers.then(lambda: layer._remember(inputs, group))


def linear(numbers: Numbers, layer: Any, symmetry: Symmetry, in_symmetry: Symmetry) -> None:
    """A linear layer between orbits, or one that leads out of them."""
    if symmetry is None:
        bank = plan_of(in_symmetry, layer.in_features)
        numbers.keep(layer.kernel, -2, bank.firsts)
        become(layer, OrbitLinear)
    else:
        bank = plan(symmetry, layer.out_features, len(LETTERS), 1, in_symmetry, layer.in_features)
        numbers.keep(layer.kernel, -1, bank.firsts)
        numbers.keep(layer.bias, -1, bank.firsts)
        become(layer, SymmetricLinear)
    layer.plan = bank


def orbit_norm(numbers: Numbers, host: type, layer: Any, symmetry: Mapping[str, int]) -> None:
    """A norm for orbits."""
    bank = plan_of(symmetry, sum(symmetry.values()))
    if host is nnx.GroupNorm:
        keep_groups_whole(bank, layer.num_groups)
    for name in ("scale", "bias", "mean", "var"):
        numbers.keep(getattr(layer, name, None), -1, bank.firsts)
    become(layer, NORMS[host])
    layer.plan = bank


def orbit_param(variable: Any, kind: str, dim: int) -> None:
    """A variable with one number for each channel becomes one whose numbers orbits share."""
    channels, dim = variable.get_value().shape[dim], dim - len(variable.get_value().shape)
    variable.set_value(taken(variable.get_value(), plan_of({kind: channels}, channels).firsts, dim))
    become(variable, OrbitParam)
    variable.set_metadata(symmetry=((kind, channels),), channels=channels, dim=dim)


def _stored(numbers: Numbers, layer: Any, axis: int, firsts: tuple[int, ...]) -> None:
    """Keeps the filters, and what masks them, of representatives."""
    numbers.keep(layer.kernel, axis, firsts)
    if layer.mask is not None:
        layer.mask = taken(layer.mask, firsts, axis)
