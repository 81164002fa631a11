"""Mirrored pools as ordinary modules: a shift of the mirrored channels, then the pool itself."""

from typing import Any

import torch
from torch import nn

from symmetric_layers.errors import SymmetryError
from symmetric_layers.letters import LETTERS
from symmetric_layers.orbits import plan
from symmetric_layers.torch.mirrored import Mirrored, obeys

_CONV: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_REPEAT: dict[int, Any] = {1: nn.ReplicationPad1d, 2: nn.ReplicationPad2d, 3: nn.ReplicationPad3d}
_ZEROS: dict[int, Any] = {1: nn.ZeroPad1d, 2: nn.ZeroPad2d, 3: nn.ZeroPad3d}
_MAX = {nn.MaxPool1d: 1, nn.MaxPool2d: 2, nn.MaxPool3d: 3}
_MEAN = {nn.AvgPool1d: 1, nn.AvgPool2d: 2, nn.AvgPool3d: 3}


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
    mean = type(operator) in _MEAN
    if not (mean or type(operator) in _MAX) or operator.ceil_mode or getattr(operator, "return_indices", False):
        raise _no_form(operator, shape)
    numbers = {name: _each(getattr(operator, name, 1), rank) for name in ("kernel_size", "padding", "dilation")}
    numbers["stride"] = _each(operator.stride if operator.stride is not None else operator.kernel_size, rank)
    padding = numbers["padding"]
    hidden = any(p and d > 1 for p, d in zip(padding, numbers["dilation"], strict=True))  # no edge in the window
    if hidden or (mean and any(padding) and not operator.count_include_pad):
        raise _no_form(operator, shape)
    columns = [numbers[name] for name in ("kernel_size", "stride", "padding", "dilation")]
    geometry = zip(shape[2:], *columns, strict=True)
    rests = [(n + 2 * p - d * (k - 1) - 1) % s for n, k, s, p, d in geometry]
    rests = [rest if LETTERS[rank - 1 - axis] in crooked else 0 for axis, rest in enumerate(rests)]
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


def padded_after(fit: Mirrored, added: tuple[int, ...]) -> nn.Sequential:
    """Padding by one on the side where each channel has its end; `added` says along which axes (after two others)."""
    rank = len(added) - 2
    arranged = plan(fit.symmetry, added[1], len(LETTERS))
    sides = tuple(more for more in reversed(added[2:]) for _ in range(2))
    return nn.Sequential(_REPEAT[rank](sides), shifted(arranged, rank, list(added[2:]), first=False))


def shifted(arranged: Any, rank: int, rests: list[int], first: bool = True) -> nn.Module:
    """A depthwise convolution that keeps the first columns, or of mirrored channels the last (or the reverse)."""
    size = [rest + 1 for rest in rests]
    channels = arranged.filters
    conv = _CONV[rank](channels, channels, tuple(size), groups=channels, bias=False)
    weight = torch.zeros_like(conv.weight)
    for channel, mirror in enumerate(arranged.mirror):
        place = [rest if (LETTERS[rank - 1 - axis] in mirror) is first else 0 for axis, rest in enumerate(rests)]
        weight[(channel, 0, *place)] = 1
    conv.weight = nn.Parameter(weight, requires_grad=False)
    return conv


def _each(value: Any, rank: int) -> list[int]:
    return list(value) if isinstance(value, (tuple, list)) else [value] * rank


def _no_form(operator: Any, shape: tuple[int, ...]) -> SymmetryError:
    return SymmetryError(
        f"example: {type(operator).__name__} on a mirrored grid has no ordinary form for pictures of {shape[2:]}. "
        "Expected max pooling, or mean pooling that counts its padding, without ceil_mode. "
        "Use an example of a size that fits its stride."
    )
