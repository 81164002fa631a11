"""Mirrored pools and pads as ordinary modules: a shift of the mirrored channels, and the pool or the pad itself."""

from typing import Any

import torch
from torch import nn

from symmetric_layers.errors import SymmetryError
from symmetric_layers.letters import LETTERS
from symmetric_layers.orbits import plan
from symmetric_layers.torch.convert.operators import is_lopsided_pad
from symmetric_layers.torch.mirrored import Mirrored, obeys
from symmetric_layers.torch.pool import OrbitPool

_CONV: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_REPEAT: dict[int, Any] = {1: nn.ReplicationPad1d, 2: nn.ReplicationPad2d, 3: nn.ReplicationPad3d}
_ZEROS: dict[int, Any] = {1: nn.ZeroPad1d, 2: nn.ZeroPad2d, 3: nn.ZeroPad3d}
_MAX = {nn.MaxPool1d: 1, nn.MaxPool2d: 2, nn.MaxPool3d: 3}
_MEAN = {nn.AvgPool1d: 1, nn.AvgPool2d: 2, nn.AvgPool3d: 3}
_MAX_OF: dict[int, Any] = {rank: sort for sort, rank in _MAX.items()}
_MEAN_OF: dict[int, Any] = {rank: sort for sort, rank in _MEAN.items()}


def ordinary_operator(mirrored: Mirrored, shapes: set[tuple[int, ...]] | None) -> Any:
    """The operator itself where it obeys at all these shapes, else one that shifts first.

    Without shapes: the operator where it obeys at every size, else None.
    """
    operator = mirrored.operator
    if shapes is None:
        letters = sorted({letter for kind in mirrored.symmetry or {} for letter in kind})
        always = all(obeys(operator, (1, 1, n, n + 1, n + 2), letter) for letter in letters for n in range(64, 76))
        return operator if always and isinstance(operator, nn.Module) else None
    made = [_for_shape(mirrored, shape) for shape in sorted(shapes)]
    if any(repr(other) != repr(made[0]) for other in made[1:]):
        raise SymmetryError(
            f"example: {type(operator).__name__} sees pictures of sizes that leave different remainders. Expected one "
            "ordinary pool for all of them. Use an example of another size."
        )
    return made[0]


def _for_shape(mirrored: Mirrored, shape: tuple[int, ...]) -> nn.Module:
    operator: Any = mirrored.operator
    rank, channels = len(shape) - 2, shape[1]
    arranged = plan(mirrored.symmetry, channels, len(LETTERS))
    known = "".join(letter for letter in LETTERS[:rank] if any(letter in kind for kind in arranged.kinds))
    crooked = "".join(letter for letter in known if not obeys(operator, shape, letter))
    if not crooked and isinstance(operator, nn.Module):
        return operator
    if is_lopsided_pad(operator):
        return _both_sides(operator, arranged, rank, shape)
    mean = type(operator) in _MEAN
    if not (mean or type(operator) in _MAX) or getattr(operator, "return_indices", False):
        raise _no_form(operator, shape)
    numbers = {name: _each(getattr(operator, name, 1), rank) for name in ("kernel_size", "padding", "dilation")}
    numbers["stride"] = _each(operator.stride if operator.stride is not None else operator.kernel_size, rank)
    columns = [numbers[name] for name in ("kernel_size", "stride", "padding", "dilation")]
    geometry = zip(shape[2:], *columns, strict=True)
    rests = [_rest(n, k, s, p, d, operator.ceil_mode) for n, k, s, p, d in geometry]
    rests = [r if r < 0 or LETTERS[rank - 1 - axis] in crooked else 0 for axis, r in enumerate(rests)]
    padding = [p + max(-rest, 0) for p, rest in zip(numbers["padding"], rests, strict=True)]
    hidden = any(p and d > 1 for p, d in zip(padding, numbers["dilation"], strict=True))  # no edge in the window
    if hidden or (mean and (min(rests) < 0 or (any(padding) and not operator.count_include_pad))):
        raise _no_form(operator, shape)
    steps: list[nn.Module] = []
    if any(padding):
        sides = tuple(p for p in reversed(padding) for _ in range(2))
        steps.append((_ZEROS if mean else _REPEAT)[rank](sides))  # a repeated edge never changes a maximum
    steps.append(shifted(arranged, rank, rests))
    given: dict[str, Any] = {"kernel_size": tuple(numbers["kernel_size"]), "stride": tuple(numbers["stride"])}
    if not mean:
        given["dilation"] = tuple(numbers["dilation"])
    elif getattr(operator, "divisor_override", None):
        given["divisor_override"] = operator.divisor_override
    if rank == 1:
        given = {name: value[0] if isinstance(value, tuple) else value for name, value in given.items()}
    return nn.Sequential(*steps, type(operator)(**given)).train(operator.training)


def _rest(n: int, k: int, s: int, p: int, d: int, ceil_mode: bool) -> int:
    """How many columns a pool leaves over; negative: how many it goes beyond the padding, where it rounds up."""
    rest = (n + 2 * p - d * (k - 1) - 1) % s
    outputs = (n + 2 * p - d * (k - 1) - 1) // s + 1
    return rest - s if ceil_mode and rest and outputs * s < n + p else rest  # no window starts beyond the picture


def _both_sides(operator: Any, arranged: Any, rank: int, shape: tuple[int, ...]) -> nn.Module:
    """Padding that is larger on one side: as large on both, of which each channel keeps what is its own."""
    sides = list(zip(operator.padding[::2], operator.padding[1::2], strict=True))  # the last axis first
    if min(operator.padding) < 0:
        raise _no_form(operator, shape)
    most = tuple(max(pair) for pair in sides for _ in range(2))
    more = {"value": operator.value} if hasattr(operator, "value") and "Constant" in type(operator).__name__ else {}
    kept = shifted(arranged, rank, [before - after for before, after in reversed(sides)])
    return nn.Sequential(type(operator)(most, **more), kept).train(operator.training)


def ordinary_orbit_pool(pool: OrbitPool, shapes: set[tuple[int, ...]]) -> nn.Module:
    """A pool over the members of orbits: an ordinary one over neighbouring channels, as if these were positions."""
    kinds = {(shape[1], shape[5 - 2 :] if len(shape) == 5 else (), len(shape)) for shape in shapes}
    if len(kinds) > 1:
        raise SymmetryError(
            "example: OrbitPool sees pictures of different sizes. Expected one ordinary pool for all of them. Use an "
            "example of another size."
        )
    ((channels, planes, dims),) = kinds
    arranged = plan(pool.symmetry, channels, len(LETTERS))
    size = max(block.size for block in arranged.blocks)
    steps: list[nn.Module] = []
    if len(arranged.blocks) > 1:  # orbits of fewer members, and free channels, are repeated until all have as many
        steps.append(_repeated(arranged, size, dims - 2))
    steps += [nn.Flatten(3)] if dims == 5 else []
    steps.append(nn.Unflatten(1, (1, arranged.stored * size)))
    rank = min(dims - 1, 3)
    over: Any = (size, *[1] * (rank - 1)) if rank > 1 else size
    steps += [(_MAX_OF if pool.reduce == "max" else _MEAN_OF)[rank](over), nn.Flatten(1, 2)]
    steps += [nn.Unflatten(3, planes)] if dims == 5 else []
    return nn.Sequential(*steps).train(pool.training)


def _repeated(arranged: Any, size: int, rank: int) -> nn.Module:
    """Every orbit with so many members, each as often as it takes."""
    rows: list[int] = []
    for block in arranged.blocks:
        for first in range(block.filter, block.filter + block.filters, block.size):
            rows += [first + member % block.size for member in range(size)]
    weight = torch.zeros(len(rows), arranged.filters, *[1] * rank)
    weight[range(len(rows)), rows] = 1
    given = (arranged.filters, len(rows))
    layer = _CONV[rank](*given, 1, bias=False) if rank else nn.Linear(*given, bias=False)
    layer.weight = nn.Parameter(weight, requires_grad=False)
    return layer


def ordinary_pixels(layer: Any, shapes: set[tuple[int, ...]]) -> nn.Sequential:
    """A layer of pixels as the host's, with a 1x1 convolution that puts the channels where that has them."""
    (channels,) = {shape[-3] for shape in shapes}
    shuffles = isinstance(layer, nn.PixelShuffle)
    factor = layer.upscale_factor if shuffles else layer.downscale_factor
    order = layer.order(channels)
    conv = nn.Conv2d(len(order), len(order), 1, bias=False)
    weight = torch.zeros_like(conv.weight)
    weight[range(len(order)), order] = 1
    conv.weight = nn.Parameter(weight, requires_grad=False)
    return nn.Sequential(conv, nn.PixelShuffle(factor)) if shuffles else nn.Sequential(nn.PixelUnshuffle(factor), conv)


def padded_after(fit: Mirrored, added: tuple[int, ...]) -> nn.Sequential:
    """Padding by one on the side where each channel has its end; `added` says along which axes (after two others)."""
    rank = len(added) - 2
    arranged = plan(fit.symmetry, added[1], len(LETTERS))
    sides = tuple(more for more in reversed(added[2:]) for _ in range(2))
    return nn.Sequential(_REPEAT[rank](sides), shifted(arranged, rank, [-more for more in added[2:]]))


def shifted(arranged: Any, rank: int, rests: list[int]) -> nn.Module:
    """A depthwise convolution that keeps the first columns, of mirrored channels the last; negative: the reverse."""
    size = [abs(rest) + 1 for rest in rests]
    channels = arranged.filters
    conv = _CONV[rank](channels, channels, tuple(size), groups=channels, bias=False)
    weight = torch.zeros_like(conv.weight)
    for channel, mirror in enumerate(arranged.mirror):
        last = [(LETTERS[rank - 1 - axis] in mirror) is (rest > 0) for axis, rest in enumerate(rests)]
        place = [abs(rest) if there else 0 for rest, there in zip(rests, last, strict=True)]
        weight[(channel, 0, *place)] = 1
    conv.weight = nn.Parameter(weight, requires_grad=False)
    return conv


def _each(value: Any, rank: int) -> list[int]:
    return list(value) if isinstance(value, (tuple, list)) else [value] * rank


def _no_form(operator: Any, shape: tuple[int, ...]) -> SymmetryError:
    return SymmetryError(
        f"example: {type(operator).__name__} on a mirrored grid has no ordinary form for pictures of {shape[2:]}. "
        "Expected padding, max pooling, or mean pooling that counts its padding, without ceil_mode. "
        "Use an example of a size that fits its stride."
    )
