"""The way out of the orbits: convolutions and linear heads whose answers are ordinary again."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx import Proxy

from symmetric_layers.errors import SymmetryError
from symmetric_layers.letters import LETTERS, canonical_kind
from symmetric_layers.orbits import Plan, plan
from symmetric_layers.torch.kernels import Transposed, asked, conv, output_padding_for, per_axis, spread
from symmetric_layers.torch.kernels.grid import lopsided, one_sided
from symmetric_layers.torch.kernels.invariant import Invariance, averaged_over_grids, expand_invariant
from symmetric_layers.torch.kernels.job import both_sides
from symmetric_layers.torch.leaves import is_part, noted

if TYPE_CHECKING:
    from torch.nn.modules.conv import _ConvNd as _Host
else:
    _Host = nn.Module

_Sizes = int | Sequence[int]


@torch.compiler.assume_constant_result
def _without_orbits(filters: int, rank: int, groups: int) -> Plan:
    """The plan of free filters; compilers look it up."""
    return plan(None, filters, rank, groups)


class _Invariant(_Host):
    """What all invariant convolutions share."""

    invariance: Invariance | None = None  # set before the parameters are made
    _rank: int

    def _arrange(self, out_channels: int, groups: int, in_symmetry: Any, in_channels: int, letters: str | None) -> Any:
        """How the filters are arranged; refused where input channels would need kernels of different shapes."""
        inputs = plan(None, out_channels, self._rank, groups, in_symmetry, in_channels).inputs
        if inputs is None or inputs.groups != groups:
            inputs = plan(None, in_channels, self._rank, groups)
        known = "".join(letter for letter in LETTERS if any(letter in kind for kind in inputs.kinds))
        letters = letters if letters is not None else known or LETTERS[: self._rank]
        wanted = canonical_kind(letters, self._rank, "axes")
        kinds = [block.kind for block in inputs.blocks]
        swapped = {"".join(letter for letter in wanted if letter in kind) for kind in kinds}
        if len(swapped) > 1:
            raise SymmetryError(
                f"in_symmetry: {inputs.counts!r} of {in_channels} input channels holds channels that {wanted!r} "
                f"exchanges and channels that it does not. Expected one sort. Use a layer for each and add the answers."
            )
        moved = swapped.pop() if swapped else ""
        return Invariance(inputs, moved, "".join(letter for letter in wanted if letter not in moved))

    def __setattr__(self, name: str, value: Any) -> None:
        """One number for all axes is written out, as the constructor does, whenever it is set."""
        super().__setattr__(name, per_axis(name, value, self._rank))

    def _store(self, how: Invariance) -> None:
        self.invariance = how
        shape = list(self.weight.shape)
        channels = how.stored_channels if self.transposed else how.stored_channels // how.inputs.groups
        shape[0 if self.transposed else 1] = channels
        shape[2:] = how.stored_kernel(self.kernel_size)
        self.weight = nn.Parameter(self.weight.new_empty(shape))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws what is stored with the variance that the host's layer gives the full filters."""
        if self.invariance is None:
            return
        channels = self.out_channels if self.transposed else self.in_channels
        fan_in = channels // self.groups * math.prod(self.kernel_size)
        bound = 1 / math.sqrt(fan_in) if fan_in else 0.0
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -bound, bound)

    def full_weight(self) -> Tensor:
        """The filters with every number written out: what the host's layer would hold as its `weight`."""
        return expand_invariant(self.weight, self._how, self.kernel_size, self.transposed)

    def extra_repr(self) -> str:
        """The host's description, and the symmetry with it."""
        text = super().extra_repr() + f", axes={''.join(sorted(self._how.swapped + self._how.palindromic))!r}"
        return text + (f", in_symmetry={self._how.inputs.counts}" if self._how.inputs.orbits else "")

    @property
    def _how(self) -> Invariance:
        if self.invariance is None:
            raise AttributeError(f"{type(self).__name__} is not ready: its constructor has not run to its end")
        return self.invariance

    @property
    def _ordinary(self) -> Plan:
        return _without_orbits(self.out_channels, self._rank, self.groups)


class _InvariantConv(_Invariant):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: _Sizes,
        stride: _Sizes = 1,
        padding: str | _Sizes = 0,
        dilation: _Sizes = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
        *,
        in_symmetry: Mapping[str, int | str] | None = None,
        axes: str | None = None,
    ) -> None:
        how = self._arrange(out_channels, groups, in_symmetry, in_channels, axes)
        more: Any = {"padding_mode": padding_mode, "device": device, "dtype": dtype}
        arguments: Any = (in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias)
        super().__init__(*arguments, **more)
        self._store(how)

    def forward(self, input: Tensor) -> Tensor:
        """Convolves `(N, in_channels, *positions)`, or one picture without N, as the host's layer does."""
        if isinstance(input, Proxy):
            return noted(self, input)
        weight = self.full_weight()
        pads = both_sides(self.padding, self.kernel_size, self.dilation)
        letters = lopsided(input.shape[-self._rank :], pads, self.kernel_size, self.stride, self.dilation)

        def run(x: Tensor) -> Tensor:
            job = asked(
                x, weight, self.bias, self._ordinary, False, self.stride, self.padding, self.dilation,
                self.padding_mode, "shared",
            )  # fmt: skip
            return conv(job)

        return averaged_over_grids(run, input, self._how, letters)


class _InvariantConvTranspose(_Invariant):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: _Sizes,
        stride: _Sizes = 1,
        padding: _Sizes = 0,
        output_padding: _Sizes = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: _Sizes = 1,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
        *,
        in_symmetry: Mapping[str, int | str] | None = None,
        axes: str | None = None,
    ) -> None:
        how = self._arrange(out_channels, groups, in_symmetry, in_channels, axes)
        more: Any = {"groups": groups, "bias": bias, "dilation": dilation, "padding_mode": padding_mode}
        more.update(device=device, dtype=dtype)
        arguments: Any = (in_channels, out_channels, kernel_size, stride, padding, output_padding)
        super().__init__(*arguments, **more)
        self._store(how)

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        """Spreads `(N, in_channels, *positions)` out as the host's layer does, to `output_size` where one is given."""
        if isinstance(input, Proxy):
            return noted(self, input, [output_size])
        weight = self.full_weight()
        output_padding = output_padding_for(self, input, output_size)
        padding: Any = self.padding

        def run(x: Tensor) -> Tensor:
            how = (self.stride, padding, output_padding, self.dilation, "shared")
            return conv(Transposed(x, weight, self.bias, self._ordinary, False, *how))

        return averaged_over_grids(run, input, self._how, one_sided(output_padding))


class InvariantConv1d(_InvariantConv, nn.Conv1d):
    """`nn.Conv1d` from orbits to ordinary maps; the 1-D form of `InvariantConv2d`, which explains it."""

    _rank = 1


class InvariantConv2d(_InvariantConv, nn.Conv2d):
    """`nn.Conv2d` whose answer is an ordinary map that mirrors with the picture: the way out of the orbits.

    The last layer of a network gives logits or a restored picture, no orbits. Its filters see a channel and its mirror
    alike, so only distinct numbers are stored.

    Equivalent to: an `nn.Conv2d` whose `weight` is `torch.stack([w, w.flip(-1)], 2).flatten(1, 2)` for input channels
    that are `'h'` orbits; the mean of that over both grids where stride and size do not fit together.

    Law: mirroring the input along a letter of `axes`, and exchanging its channels with their mirrors, mirrors the
    output. It holds at every size.

    Args:
        in_symmetry: how the input channels are arranged: the `symmetry` of the layer before. None: ordinary pictures;
            then each filter is its own mirror image.
        axes: the letters along which the answer mirrors. None: all that `in_symmetry` knows, or all there are.
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode, device, dtype:
            as in the host.

    Attributes:
        weight: the distinct numbers: one filter per input orbit, or the first half of a filter that is its own mirror.

    Shape:
        As in the host.

    Raises:
        SymmetryError: for an `in_symmetry` that does not fit, or that mixes orbits and ordinary channels.

    Example:
        >>> head = InvariantConv2d(16, 3, 1, in_symmetry={'hv': 16})
        >>> head.weight.shape, head(torch.randn(2, 16, 8, 8)).shape
        (torch.Size([3, 4, 1, 1]), torch.Size([2, 3, 8, 8]))

    Source: Cohen and Welling, "Steerable CNNs", ICLR 2017 (maps from a regular to a trivial representation).
    """

    _rank = 2


class InvariantConv3d(_InvariantConv, nn.Conv3d):
    """`nn.Conv3d` from orbits to ordinary maps; the 3-D form of `InvariantConv2d`."""

    _rank = 3


class InvariantConvTranspose1d(_InvariantConvTranspose, nn.ConvTranspose1d):
    """`nn.ConvTranspose1d` from orbits to ordinary maps; see `InvariantConv2d`."""

    _rank = 1


class InvariantConvTranspose2d(_InvariantConvTranspose, nn.ConvTranspose2d):
    """`nn.ConvTranspose2d` from orbits to ordinary maps; see `InvariantConv2d`."""

    _rank = 2


class InvariantConvTranspose3d(_InvariantConvTranspose, nn.ConvTranspose3d):
    """`nn.ConvTranspose3d` from orbits to ordinary maps; see `InvariantConv2d`."""

    _rank = 3


class OrbitLinear(nn.Linear):
    """A linear head whose answer ignores the mirror: every channel of an orbit has the same weight.

    After a mean over all positions an orbit holds the same numbers for a picture and its mirror, in another order.
    One weight per orbit is all that an indifferent answer can have.

    Equivalent to: `nn.Linear` on the means over each orbit, times the size of the orbit.

    Law: exchanging the input channels with their mirrors changes nothing.

    Args:
        in_symmetry: how the input features are arranged: the `symmetry` of the layer before. None: an ordinary layer.
        in_features, out_features, bias, device, dtype: as in the host.

    Attributes:
        weight: one weight per orbit and free feature, `(out_features, stored)`.

    Shape:
        `(..., in_features)` to `(..., out_features)`.

    Raises:
        SymmetryError: for an `in_symmetry` that does not fit.

    Example:
        >>> head = OrbitLinear(16, 10, in_symmetry={'hv': 16})
        >>> head.weight.shape, head(torch.randn(2, 16)).shape
        (torch.Size([10, 4]), torch.Size([2, 10]))
    """

    plan: Plan | None = None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        in_symmetry: Mapping[str, int | str] | None = None,
    ) -> None:
        inputs = plan(None, 1, len(LETTERS), 1, in_symmetry, in_features).inputs or plan(
            None, in_features, len(LETTERS)
        )
        super().__init__(in_features, out_features, bias, device, dtype)
        self.plan = inputs
        self.weight = nn.Parameter(self.weight.new_empty(out_features, inputs.stored))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws what is stored with the variance that the host's layer gives the full weight."""
        if self.plan is None:
            return
        bound = 1 / math.sqrt(self.in_features) if self.in_features else 0.0
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -bound, bound)

    def full_weight(self) -> Tensor:
        """One weight per feature: what the host's layer would hold as its `weight`."""
        return self.weight if self.plan is None else spread(self.weight, self.plan)

    def forward(self, input: Tensor) -> Tensor:
        """Weighs `(..., in_features)`."""
        if isinstance(input, Proxy) and is_part(self, input):
            return noted(self, input)
        return F.linear(input, self.full_weight(), self.bias)

    def extra_repr(self) -> str:
        """The host's description, and the symmetry with it."""
        counts = self.plan.counts if self.plan is not None else {}
        return super().extra_repr() + (f", in_symmetry={counts}" if counts else "")
