"""Symmetric convolutions as ordinary ones: mirrored grids are written out for the sizes of pictures that were seen."""

from typing import Any

import torch
from torch import nn

from symmetric_layers.errors import SymmetryError
from symmetric_layers.letters import LETTERS
from symmetric_layers.orbits import Plan
from symmetric_layers.torch.convert.banks import arguments
from symmetric_layers.torch.convert.grids import Axis, around_zeros, axis_of, dense, lettered, placed
from symmetric_layers.torch.convert.padded import PADDED_BEFORE, SamePaddedConv2d
from symmetric_layers.torch.convert.surgery import HOSTS, Numbers, inherit
from symmetric_layers.torch.kernels.reference import both_sides

Sizes = dict[int, set[tuple[int, ...]]]  # of pictures, by the id of the layer that sees them


def ordinary_conv(name: str, layer: Any, sizes: Sizes | None, numbers: Numbers, sized: list[str]) -> nn.Module:
    """One convolution with all filters, on all grids. `sized` is told where that is right at some sizes only."""
    host = next(host for host in HOSTS if isinstance(layer, host))
    padded = isinstance(layer, (SamePaddedConv2d, *PADDED_BEFORE))
    shared = getattr(layer, "grid", "mirrored") == "shared" and not padded
    axes = [] if shared else _geometry(name, layer, sizes)
    arranged: Plan | None = getattr(layer, "plan", None)
    with torch.no_grad():
        weight = layer.full_weight()
        bias = layer.full_bias() if arranged is not None else layer.bias
        kernel, dilation, padding = list(layer.kernel_size), list(layer.dilation), []
        for axis, found in enumerate(axes):
            padding.append(found.padding)
            if found.offsets != (0, 0):
                weight = dense(weight, axis, dilation[axis])
                weight = placed(weight, axis, found.offsets, arranged, LETTERS[len(axes) - 1 - axis], layer)
                kernel[axis], dilation[axis] = weight.shape[2 + axis], 1
            if isinstance(layer, PADDED_BEFORE) and layer.padded[axis] != (0, 0):  # zeros that the input goes on having
                weight = dense(weight, axis, dilation[axis])
                weight, padding[-1] = around_zeros(weight, axis, padding[-1], layer.padded[axis], layer.stride[axis])
                kernel[axis], dilation[axis] = weight.shape[2 + axis], 1
    if any(not found.lasting for found in axes):
        sized.append(f"{name!r} ({remainders(layer, shapes_seen(name, layer, sizes))})")
    given = arguments(layer)
    if axes:
        given.update(kernel_size=tuple(kernel), dilation=tuple(dilation), padding=tuple(padding))
    if axes and layer.transposed:
        more = zip(axes, layer.output_padding, strict=True)
        given["output_padding"] = tuple(0 if found.offsets != (0, 0) else size for found, size in more)
    new = host(**given)
    numbers.put(new, "weight", layer.weight, weight)
    numbers.put(new, "bias", layer.bias, bias)
    inherit(layer, new)
    for extra in ("plan", "share_bias", "grid", "invariance", "padded"):
        vars(new).pop(extra, None)
    return new


def _geometry(name: str, layer: Any, sizes: Sizes | None) -> list[Axis]:
    """Where the grids of a layer lie, along every axis."""
    rank = len(layer.kernel_size)
    if layer.transposed:
        letters = lettered(layer)
        return [
            Axis(int(p), (0, more if LETTERS[rank - 1 - axis] in letters else 0), True)
            for axis, (p, more) in enumerate(zip(layer.padding, layer.output_padding, strict=True))
        ]
    padded = isinstance(layer, (SamePaddedConv2d, *PADDED_BEFORE))
    around = layer.padded if isinstance(layer, PADDED_BEFORE) else ((0, 0),) * rank
    pads = None if padded else both_sides(layer.padding, layer.kernel_size, layer.dilation)
    unsized = pads is not None and all(stride == 1 for stride in layer.stride)
    shapes = {(0,) * rank} if unsized else shapes_seen(name, layer, sizes)
    found: list[list[Axis]] = []
    for shape in shapes:
        size = [n - low - high for n, (low, high) in zip(shape[-rank:], around, strict=True)]
        here = layer.pads(size) if pads is None else pads
        geometry = zip(size, here, layer.kernel_size, layer.stride, layer.dilation, strict=True)
        rests = [0 if unsized else (n + b + a - d * (k - 1) - 1) % s for n, (b, a), k, s, d in geometry]
        letters = lettered(layer)
        row = [
            axis_of(before, after, rest, LETTERS[rank - 1 - axis] in letters, unsized)
            for axis, ((before, after), rest) in enumerate(zip(here, rests, strict=True))
        ]
        if row not in found:
            found.append(row)
    if len(found) > 1:
        raise SymmetryError(
            f"example: {name!r} sees pictures of sizes that leave different remainders. Expected one ordinary "
            "convolution for all of them. Use an example of another size."
        )
    return found[0]


def remainders(layer: Any, shapes: set[tuple[int, ...]]) -> str:
    """What the sizes of the pictures that a layer sees leave over of its stride, along every axis."""
    shape = min(shapes)
    rank = len(shape) - 2
    stride: Any = getattr(layer, "stride", None) or getattr(layer, "kernel_size", 1)
    strides = list(stride) if isinstance(stride, (tuple, list)) else [stride] * rank
    texts = [f"{n % s} modulo {s}" for n, s in zip(shape[2:], strides, strict=True)]
    return texts[0] if len(set(texts)) == 1 else ", ".join(texts)


def shapes_seen(
    name: str, module: nn.Module, sizes: Sizes | None, what: str = "which has a mirrored grid"
) -> set[tuple[int, ...]]:
    """The sizes that a layer sees in the example; refused where there is none, or it does not reach the layer."""
    if sizes is None:
        raise SymmetryError(
            f"example: None does not say for which sizes {name!r}, {what}, is to be written out. "
            "Expected an input of the model. Pass one of the size that the result is for."
        )
    if id(module) not in sizes:
        raise SymmetryError(
            f"example: {name!r}, {what}, was not reached by it. Expected an input that reaches all "
            "layers. Pass another one, or take the layer out of the model."
        )
    return sizes[id(module)]
