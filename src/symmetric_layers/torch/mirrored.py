"""Any channelwise operator, made to obey the mirror law on orbits of channels at every size."""

import operator as op
from collections.abc import Callable, Mapping
from functools import partial
from math import gcd
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Proxy

from symmetric_layers.counts import readable
from symmetric_layers.letters import LETTERS, axes
from symmetric_layers.torch.kernels import opaque_pools
from symmetric_layers.torch.kernels.channels import plan_of
from symmetric_layers.torch.kernels.grid import is_open
from symmetric_layers.torch.kernels.pools import pooled
from symmetric_layers.torch.kernels.seen import in_mirrors, with_places
from symmetric_layers.torch.leaves import noted

# operators whose names say how many axes of positions they take: they take one picture without N, too
_SORTS = (
    "MaxPool", "AvgPool", "LPPool", "FractionalMaxPool", "AdaptiveAvgPool", "AdaptiveMaxPool", "ConstantPad", "ZeroPad",
    "ReplicationPad", "ReflectionPad", "CircularPad",
)  # fmt: skip
_OF_RANK: dict[int, tuple[Any, ...]] = {
    rank: tuple(getattr(nn, f"{sort}{rank}d") for sort in _SORTS if hasattr(nn, f"{sort}{rank}d")) for rank in (1, 2, 3)
}


class Mirrored(nn.Module):
    """An operator that treats every channel by itself, seen in the mirror by the mirrors of an orbit.

    Max pooling with stride 2 pairs columns 0 and 1, 2 and 3, ...: on a picture of odd width its mirror image pairs
    others, and the law is lost. Here the mirrors of an orbit are pooled in the mirror.

    Equivalent to: `flip . operator . flip` on the channels that are mirrored, the operator on the others.

    Law: where the channels of the input are orbits, mirroring the input and exchanging its channels mirrors the output
    and exchanges its channels; at every size.

    Args:
        operator: a module (or function) that maps `(N, C, *positions)` to `(N, C, *new positions)`, channel by channel:
            pooling, interpolation, blurring. A pool that also says where its largest numbers are
            (`return_indices=True`) says it in the places of the picture that it is given.
        symmetry: how the channels are arranged: the `symmetry` of the layer before.

    Shape:
        What the operator gives. One picture without N is taken by PyTorch's pools and pads, which say how many axes of
        positions they know; whatever does not (a function, `nn.Upsample`) is given `(N, C, *positions)`.

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
        if isinstance(input, Proxy):
            return noted(self, input, more)
        if _takes_one_picture(self.operator, input.dim()):
            return _only(self._applied(input.unsqueeze(0), *more))
        return self._applied(input, *more)

    def _applied(self, input: Tensor, *more: Any) -> Any:
        channels = op.index(input.shape[1])
        bank, letters = plan_of(self.symmetry, channels), _letters(self.symmetry, channels, input.dim() - 2)
        at_any_size = None if more else opaque_pools.at_any_size(self.operator, input, self.symmetry, letters)
        if at_any_size is not None:
            return at_any_size
        crooked = "".join(letter for letter in letters if not obeys(self.operator, input.shape, letter))
        if not crooked:
            return self.operator(input, *more)
        if getattr(self.operator, "return_indices", False):
            return with_places(self.operator, bank, crooked, input, *more)
        slowly = partial(in_mirrors, self.operator, bank, crooked)
        at_once = None if more else pooled(self.operator, input, bank, crooked, slowly)
        return slowly(input, *more) if at_once is None else at_once

    def extra_repr(self) -> str:
        """The symmetry."""
        return f"symmetry={self.symmetry}"


def _takes_one_picture(operator: Callable[..., Tensor], dim: int) -> bool:
    """Whether an operator reads an input of so many axes as one picture without N."""
    if isinstance(operator, nn.Sequential):
        return any(_takes_one_picture(part, dim) for part in operator)
    return isinstance(operator, _OF_RANK.get(dim - 1, ()))


def _only(answer: Any) -> Any:
    """The answer for the only picture there is, and its places."""
    return tuple(one.squeeze(0) for one in answer) if isinstance(answer, tuple) else answer.squeeze(0)


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
    return isinstance(operator, nn.Upsample) and _resizes_alike(operator, shape, axis)


def _along(value: Any, axis: int) -> Any:
    return value[axis] if isinstance(value, (tuple, list)) else value


def _resizes_alike(upsample: nn.Upsample, shape: tuple[int, ...], axis: int) -> bool:
    """Whether what becomes of the first pixels becomes of the last ones, in the mirror."""
    if upsample.size is None:  # then the scale says where pixels are read, and what is left over lies at the end
        return float(_along(upsample.scale_factor, axis)).is_integer()
    size = _along(upsample.size, axis)
    if upsample.mode.startswith("nearest"):
        return not is_open(shape[axis]) and _picks_alike(upsample.mode, shape[axis], size)
    return not (upsample.align_corners and size == 1)  # a single pixel is read in the first corner


def _picks_alike(mode: str, before: int, after: int) -> bool:
    """Whether no pixel is picked out of two that are as near."""
    if after % before == 0:
        return True
    return mode == "nearest-exact" and before // gcd(before, after) % 2 == 1
