"""Any channelwise operator, made to obey the mirror law on orbits of channels at every size."""

import operator as op
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from symmetric_layers.counts import readable
from symmetric_layers.letters import LETTERS, axes
from symmetric_layers.torch.kernels import opaque_pools
from symmetric_layers.torch.kernels.channels import plan_of
from symmetric_layers.torch.kernels.grid import is_open
from symmetric_layers.torch.kernels.pools import pooled
from symmetric_layers.torch.kernels.seen import in_mirrors


class Mirrored(nn.Module):
    """An operator that treats every channel by itself, seen in the mirror by the mirrors of an orbit.

    Max pooling with stride 2 pairs columns 0 and 1, 2 and 3, ...: on a picture of odd width its mirror image pairs
    others, and the law is lost. Here the mirrors of an orbit are pooled in the mirror.

    Equivalent to: `flip . operator . flip` on the channels that are mirrored, the operator on the others.

    Law: where the channels of the input are orbits, mirroring the input and exchanging its channels mirrors the output
    and exchanges its channels; at every size.

    Args:
        operator: a module (or function) that maps `(N, C, *positions)` to `(N, C, *new positions)`, channel by channel:
            pooling, interpolation, blurring.
        symmetry: how the channels are arranged: the `symmetry` of the layer before.

    Shape:
        What the operator gives.

    Raises:
        SymmetryError: for a symmetry that cannot be read, or (when called) that the channels do not fit.

    Example:
        >>> pool = Mirrored(nn.MaxPool2d(2), {'h': 4})
        >>> x = torch.randn(1, 4, 7, 7)
        >>> torch.equal(pool(x[:, [1, 0, 3, 2]].flip(-1)), pool(x)[:, [1, 0, 3, 2]].flip(-1))
        True
    """

    def __init__(self, operator: Callable[..., Tensor], symmetry: Mapping[str, int | str] | None) -> None:
        super().__init__()
        self.operator = operator
        self.symmetry = readable(symmetry, len(LETTERS))

    def forward(self, input: Tensor, *more: Any) -> Tensor:
        """Applies the operator to `(N, C, *positions)`, in the mirror where channels are mirrors."""
        channels = op.index(input.shape[1])
        bank, letters = plan_of(self.symmetry, channels), _letters(self.symmetry, channels, input.dim() - 2)
        at_any_size = None if more else opaque_pools.at_any_size(self.operator, input, self.symmetry, letters)
        if at_any_size is not None:
            return at_any_size
        crooked = "".join(letter for letter in letters if not obeys(self.operator, input.shape, letter))
        if not crooked:
            return self.operator(input, *more)
        slowly = partial(in_mirrors, self.operator, bank, crooked)
        at_once = None if more else pooled(self.operator, input, bank, crooked, slowly)
        return slowly(input, *more) if at_once is None else at_once

    def extra_repr(self) -> str:
        """The symmetry."""
        return f"symmetry={self.symmetry}"


@torch.compiler.assume_constant_result
def _letters(symmetry: Mapping[str, int | str] | None, channels: int, rank: int) -> str:
    """The letters that so many channels know of the axes there are; compilers look the answer up, as with plans."""
    kinds = plan_of(symmetry, channels).kinds
    return "".join(letter for letter in LETTERS[:rank] if any(letter in kind for kind in kinds))


_POOLS = (
    nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.LPPool1d, nn.LPPool2d,
    nn.LPPool3d,
)  # fmt: skip
_ADAPTIVE = (
    nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d,
    nn.AdaptiveMaxPool3d, nn.Identity,
)  # fmt: skip


def obeys(operator: Callable[..., Tensor], shape: tuple[int, ...], letter: str) -> bool:
    """Whether an operator is known to mirror its answer, for pictures of this shape; what is unknown is not."""
    if isinstance(operator, _ADAPTIVE):
        return True
    (axis,) = axes(letter)
    if isinstance(operator, _POOLS):
        kernel, stride, padding, dilation = (
            _along(getattr(operator, name, usual), axis)
            for name, usual in (("kernel_size", 1), ("stride", None), ("padding", 0), ("dilation", 1))
        )
        stride = stride or kernel
        if stride != 1 and is_open(shape[axis]):
            return False
        return (shape[axis] + 2 * padding - dilation * (kernel - 1) - 1) % stride == 0
    if isinstance(operator, nn.Upsample):
        return (operator.mode != "nearest" and operator.size is not None) or _whole(operator, shape, axis)
    return False


def _along(value: Any, axis: int) -> Any:
    return value[axis] if isinstance(value, (tuple, list)) else value


def _whole(upsample: nn.Upsample, shape: tuple[int, ...], axis: int) -> bool:
    """Whether every pixel becomes a whole number of pixels."""
    if upsample.size is not None:
        if is_open(shape[axis]):
            return False
        return _along(upsample.size, axis) % shape[axis] == 0
    return float(_along(upsample.scale_factor, axis)).is_integer()
