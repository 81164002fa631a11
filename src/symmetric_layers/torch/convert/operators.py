"""Modules that treat channel by channel, but not every position alike."""

from typing import Any

from torch import nn

OPERATORS = (
    nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.LPPool1d, nn.LPPool2d,
    nn.LPPool3d, nn.Upsample,
)  # fmt: skip
PIXELS = (nn.PixelShuffle, nn.PixelUnshuffle)  # layers that make other channels of what they read, without weighing
_PADS = tuple(
    getattr(nn, f"{sort}Pad{rank}d")
    for sort in ("Constant", "Zero", "Replication", "Reflection", "Circular")
    for rank in (1, 2, 3)
)
_CONSTANT = (nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d)  # those with zeros among them


def is_lopsided_pad(module: Any) -> bool:
    """Whether a padding module pads one side more than the other."""
    if not isinstance(module, _PADS):
        return False
    return any(b != a for b, a in zip(module.padding[::2], module.padding[1::2], strict=True))


def zeros_before_and_after(module: Any) -> tuple[tuple[int, int], ...] | None:
    """How many zeros a lopsided padding module adds, per axis of positions; None where it adds anything else."""
    if not isinstance(module, _CONSTANT) or module.value != 0 or not is_lopsided_pad(module):
        return None
    pairs = tuple(zip(module.padding[::2], module.padding[1::2], strict=True))[::-1]
    return pairs if min(min(pair) for pair in pairs) >= 0 else None


def is_operator(module: Any) -> bool:
    """Whether a module treats channel by channel, but not every position alike."""
    return isinstance(module, OPERATORS) or is_lopsided_pad(module)
