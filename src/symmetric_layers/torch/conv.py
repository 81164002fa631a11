"""Convolutions whose filters come in mirror-image orbits: drop-in subclasses of `torch.nn`'s."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.compiler import is_compiling
from torch.fx import Proxy

from symmetric_layers.errors import one_of, yes_or_no
from symmetric_layers.orbits import Plan, plan
from symmetric_layers.torch.kernels import (
    ALGORITHMS,
    TRANSPOSED,
    Job,
    Note,
    Transposed,
    answer,
    asked,
    conv,
    expand_bias,
    expand_weight,
    explain,
    output_padding_for,
    per_axis,
    recall,
)
from symmetric_layers.torch.leaves import noted

if TYPE_CHECKING:
    from torch.nn.modules.conv import _ConvNd as _Host
else:
    _Host = nn.Module

_Sizes = int | Sequence[int]


class _Symmetric(_Host):
    """What all symmetric convolutions share: what is stored, how it starts, and what is derived from it."""

    plan: Plan | None = None  # set before the parameters are made; None only while the host's constructor runs
    _rank: int
    share_bias: bool
    grid: str
    _algorithm = "auto"  # of the class, so that layers stored before there was a choice have it too
    _algorithms = ALGORITHMS

    def _store(self, bank: Plan, share_bias: bool, grid: str, algorithm: str) -> None:
        """Replaces the host's parameters by the stored ones, and initialises them."""
        self.plan, self.share_bias, self.grid, self.algorithm = bank, share_bias, grid, algorithm
        if bank.orbits:
            shape = list(self.weight.shape)
            if self.transposed and not bank.depthwise:
                shape[1] = bank.stored // bank.groups
            else:
                shape[0] = bank.stored
            self.weight = nn.Parameter(self.weight.new_empty(shape))
            if self.bias is not None and share_bias:
                self.bias = nn.Parameter(self.bias.new_empty(bank.stored))
        self.reset_parameters()

    def __setattr__(self, name: str, value: Any) -> None:
        """One number for all axes is written out, as the constructor does, whenever it is set."""
        super().__setattr__(name, per_axis(name, value, self._rank))

    def reset_parameters(self) -> None:
        """Draws what is stored with the variance that the host's layer gives the full bank."""
        if self.plan is None:
            return
        if not self.plan.orbits:
            super().reset_parameters()
            return
        inputs = self.plan.filters // self.plan.groups if self.transposed else self.weight.shape[1]
        fan_in = inputs * math.prod(self.weight.shape[2:])
        if fan_in:
            deviation = nn.init.calculate_gain("leaky_relu", math.sqrt(5)) / math.sqrt(fan_in)
            bound = math.sqrt(3.0) * deviation
            nn.init.uniform_(self.weight, -bound, bound)
            if self.bias is not None:
                bound = 1 / math.sqrt(fan_in)
                nn.init.uniform_(self.bias, -bound, bound)

    def full_weight(self) -> Tensor:
        """All filters, mirrors written out: what the host's layer would hold as its `weight`."""
        return expand_weight(self.weight, self._plan, self.transposed)

    def full_bias(self) -> Tensor | None:
        """One bias per filter, None where the layer has none: what the host's layer would hold as its `bias`."""
        return expand_bias(self.bias, self._plan, self.share_bias)

    @property
    def algorithm(self) -> str:
        """How the answer is made: `'auto'`, or one that is obeyed or refused. It may be changed at any time."""
        return self._algorithm

    @algorithm.setter
    def algorithm(self, algorithm: str) -> None:
        """Refuses what is no algorithm; whether it can answer is seen when the layer is called."""
        self._algorithm = one_of("algorithm", algorithm, self._algorithms)

    def extra_repr(self) -> str:
        """The host's description, and the symmetry with it."""
        text = super().extra_repr()
        if self._plan.orbits:
            text += f", symmetry={self._plan.counts}"
            if not self.share_bias:
                text += ", share_bias=False"
            if self.grid != "shared":
                text += f", grid={self.grid!r}"
        if self._plan.inputs is not None:
            text += f", in_symmetry={self._plan.inputs.counts}"
        if self.algorithm != "auto":
            text += f", algorithm={self.algorithm!r}"
        return text

    @property
    def _plan(self) -> Plan:
        if self.plan is None:
            raise AttributeError(f"{type(self).__name__} has no plan yet: its constructor has not run to its end")
        return self.plan


class _SymmetricConv(_Symmetric):
    _note: Note | None = None  # of the class, until there is one

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
        symmetry: Mapping[str, int | str] | None = None,
        share_bias: bool = True,
        in_symmetry: Mapping[str, int | str] | None = None,
        grid: str = "shared",
        algorithm: str = "auto",
    ) -> None:
        bank = plan(symmetry, out_channels, self._rank, groups, in_symmetry, in_channels)
        share_bias = yes_or_no("share_bias", share_bias)
        grid = one_of("grid", grid, ("shared", "mirrored"))
        algorithm = one_of("algorithm", algorithm, self._algorithms)
        arguments: Any = (
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            bias,
            padding_mode,
            device,
            dtype,
        )
        super().__init__(*arguments)
        self._store(bank, share_bias, grid, algorithm)

    def forward(self, input: Tensor) -> Tensor:
        """Convolves `(N, in_channels, *positions)`, or one picture without N, as the host's layer does."""
        if isinstance(input, Proxy):
            return noted(self, input)
        if is_compiling():  # compilers keep notes of their own
            return answer(self._job(input), self._algorithm)[0]
        stored = self._parameters
        recalled = recall(self._note, input, stored.get("weight"), stored.get("bias"))
        if recalled is not None:
            return recalled
        given, note = answer(self._job(input), self._algorithm)
        self.__dict__["_note"] = None if self._may_change_unseen() else note
        return given

    def _may_change_unseen(self) -> bool:
        """Whether what decides how inputs are answered can be changed in its place."""
        return list in (type(self.stride), type(self.padding), type(self.dilation))

    def __setattr__(self, name: str, value: Any) -> None:
        """What is changed may change how the next input is answered."""
        if name != "training" or value is not self.__dict__.get(name):  # evaluation is asked for again and again
            self.__dict__.pop("_note", None)
        super().__setattr__(name, value)

    def __setstate__(self, state: Any) -> None:
        """What was another layer's is answered anew."""
        super().__setstate__(state)
        self.__dict__.pop("_note", None)

    def __getstate__(self) -> dict[str, Any]:
        """All but the note, which is worth nothing elsewhere."""
        return {name: value for name, value in self.__dict__.items() if name != "_note"}

    def _job(self, input: Tensor) -> Job:
        return asked(
            input, self.weight, self.bias, self._plan, self.share_bias, self.stride, self.padding, self.dilation,
            self.padding_mode, self.grid,
        )  # fmt: skip


class _SymmetricConvTranspose(_Symmetric):
    _algorithms = TRANSPOSED

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
        symmetry: Mapping[str, int | str] | None = None,
        share_bias: bool = True,
        in_symmetry: Mapping[str, int | str] | None = None,
        grid: str = "shared",
        algorithm: str = "auto",
    ) -> None:
        bank = plan(symmetry, out_channels, self._rank, groups, in_symmetry, in_channels)
        share_bias = yes_or_no("share_bias", share_bias)
        grid = one_of("grid", grid, ("shared", "mirrored"))
        algorithm = one_of("algorithm", algorithm, self._algorithms)
        arguments: Any = (
            in_channels, out_channels, kernel_size, stride, padding, output_padding, groups, bias, dilation,
            padding_mode, device, dtype,
        )  # fmt: skip
        super().__init__(*arguments)
        self._store(bank, share_bias, grid, algorithm)

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        """Spreads `(N, in_channels, *positions)` out as the host's layer does, to `output_size` where one is given."""
        if isinstance(input, Proxy):
            return noted(self, input, [output_size])
        return conv(self._job(input, output_size), self._algorithm)

    def _job(self, input: Tensor, output_size: Sequence[int] | None = None) -> Transposed:
        padding: Any = self.padding
        spread = output_padding_for(self, input, output_size)
        how = (self.stride, padding, spread, self.dilation, self.grid)
        return Transposed(input, self.weight, self.bias, self._plan, self.share_bias, *how)


class SymmetricConv1d(_SymmetricConv, nn.Conv1d):
    """`nn.Conv1d` whose filters come in mirror-image orbits; the 1-D form of `SymmetricConv2d`, which explains it."""

    _rank = 1


class SymmetricConv2d(_SymmetricConv, nn.Conv2d):
    """`nn.Conv2d` whose filters come in mirror-image orbits: one filter is stored, its mirrors are derived.

    What looks alike from the left and from the right needs one filter, not two to be learnt apart. Half, a quarter
    or (in 3-D) an eighth of the weights are left, and the answer mirrors when the picture does.

    Equivalent to: an `nn.Conv2d` whose `weight` is `torch.stack([w, w.flip(-1)], 1).flatten(0, 1)` for an `'h'`
    orbit, and likewise `w, w.flip(-1), w.flip(-2), w.flip(-2, -1)` for `'hv'`.

    Law: for every orbit whose kind contains a letter, mirroring the input along that letter mirrors the output and
    exchanges each channel with its mirror (`plan.exchange(letter)`). It holds where biases are shared, the padding
    is the same on both sides, and along each mirrored axis `(n + 2p - d(k-1) - 1) mod s` is 0, for size n, padding
    p, dilation d, kernel k and stride s. With `in_symmetry` the input's channels are exchanged together with the
    mirroring.

    Args:
        symmetry: how many *filters* belong to each kind, as numbers or percentages: `{'h': 2, 'v': '50%', 'hv': 8}`.
            `'h'` mirrors the width, `'v'` the height, in 3-D `'z'` the depth. The rest are ordinary filters. Kinds
            stand in the order h, v, z, hv, hz, vz, hvz, the members of an orbit side by side. None: an ordinary layer.
        share_bias: one bias per orbit (True, what the law needs) or one per filter.
        in_symmetry: how the input channels are arranged: the `symmetry` of the layer before. Mirrors then also
            exchange their input channels. None where the input is an ordinary picture.
        grid: `'shared'`: one ordinary convolution with `full_weight()`. `'mirrored'`: a mirror also samples the
            mirrored grid (flip, convolve with the representative, flip back), so that the law holds at every size;
            where the condition above holds anyway, both are the same.
        algorithm: how the answer is made. `'auto'`: whatever is fastest, `why_not(layer, x)` says why. `'reference'`:
            write the bank out and call the host. `'folded'`: fold pictures and filters, so that a mirrored picture has
            bit for bit the mirrored answer. `'cpu'`, `'triton'`: the same, fused, on processors and on GPUs. Changing
            `layer.algorithm` later is fine; no checkpoint knows of it. Where only numbers are wanted, `'cpu'` keeps the
            filters as it reads them, from the second call on: as much memory again as they take, more where they are
            few or on two grids.
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode, device, dtype:
            as in the host. With groups, every group holds its own bank.

    Attributes:
        weight: the stored filters, `(plan.stored, in_channels / groups, *kernel_size)`.
        bias: `(plan.stored,)` where shared, else `(out_channels,)`, or None.
        plan: which filters are mirrors of which (`print(layer.plan)` draws it).
        algorithm: as above.

    Shape:
        `(N, in_channels, H, W)` or `(in_channels, H, W)`, to what the host gives.

    Raises:
        SymmetryError: for a symmetry that does not fit; one sentence says what would. When called, for an input that
            the chosen algorithm cannot answer exactly.

    Example:
        >>> layer = SymmetricConv2d(1, 16, 3, padding=1, symmetry={'h': 2, 'v': 4, 'hv': 8})
        >>> layer.weight.shape, layer.full_weight().shape
        (torch.Size([7, 1, 3, 3]), torch.Size([16, 1, 3, 3]))
        >>> x = torch.randn(5, 1, 28, 28)
        >>> left, right = layer(x)[:, :2].unbind(1)
        >>> mirrored = layer(x.flip(-1))
        >>> torch.allclose(mirrored[:, 1], left.flip(-1), atol=1e-5)
        True

    Source: Cohen and Welling, "Group equivariant convolutional networks", ICML 2016, for the groups of mirrors.
    """

    _rank = 2


class SymmetricConv3d(_SymmetricConv, nn.Conv3d):
    """`nn.Conv3d` whose filters come in mirror-image orbits; `SymmetricConv2d` explains it. `'z'` mirrors the depth.

    Example:
        >>> SymmetricConv3d(1, 16, 3, symmetry={'h': 2, 'v': 2, 'z': 2, 'hz': 4}).weight.shape
        torch.Size([10, 1, 3, 3, 3])
    """

    _rank = 3


class SymmetricConvTranspose1d(_SymmetricConvTranspose, nn.ConvTranspose1d):
    """`nn.ConvTranspose1d` whose filters come in orbits; the 1-D form of `SymmetricConvTranspose2d`."""

    _rank = 1


class SymmetricConvTranspose2d(_SymmetricConvTranspose, nn.ConvTranspose2d):
    """`nn.ConvTranspose2d` whose filters come in mirror-image orbits, in the order of `SymmetricConv2d`.

    Decoders then keep the orbits of the encoder. The arguments `symmetry`, `share_bias`, `in_symmetry` and `grid`, the
    attributes and the errors are those of `SymmetricConv2d`. `algorithm='cpu'` knows orbits of one kind on both sides.

    Equivalent to: an `nn.ConvTranspose2d` whose `weight`, along its second axis, holds each stored filter and its
    mirrors.

    Law: that of `SymmetricConv2d`; it holds where biases are shared and the output padding is 0 along each mirrored
    axis (output padding is added on one side only).

    Attributes:
        weight: the stored filters, `(in_channels, plan.stored / groups, *kernel_size)`.

    Shape:
        `(N, in_channels, H, W)` or `(in_channels, H, W)`, to what the host gives.

    Example:
        >>> up = SymmetricConvTranspose2d(8, 4, 2, stride=2, symmetry={'h': 4}, in_symmetry={'h': 8})
        >>> up(torch.randn(1, 8, 5, 5)).shape, up.weight.shape
        (torch.Size([1, 4, 10, 10]), torch.Size([8, 2, 2, 2]))
    """

    _rank = 2


class SymmetricConvTranspose3d(_SymmetricConvTranspose, nn.ConvTranspose3d):
    """`nn.ConvTranspose3d` whose filters come in orbits; the 3-D form of `SymmetricConvTranspose2d`."""

    _rank = 3


def why_not(layer: _SymmetricConv | _SymmetricConvTranspose, x: Tensor) -> str:
    """Which algorithm a layer takes for an input, and why not a faster one.

    Only `algorithm='auto'` chooses, by rules that were measured; here it says what it chooses, and for each algorithm
    that could be faster what it cannot do or why it would be slower. Nothing is computed.

    Args:
        layer: a `SymmetricConv*` or `SymmetricConvTranspose*`.
        x: the input.

    Returns:
        One line for what is taken, then one for each that is not.

    Example:
        >>> layer = SymmetricConv2d(1, 2, 3, symmetry={'h': 2}, algorithm='folded')
        >>> print(why_not(layer, torch.randn(1, 1, 28, 28)))
        'folded' is taken, as the layer says.
    """
    return explain(layer._job(x), layer.algorithm)
