"""Normalisation that treats the members of an orbit as one channel seen several times."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx import Proxy

from symmetric_layers.errors import SymmetryError, one_of
from symmetric_layers.groups import keep_groups_whole
from symmetric_layers.letters import LETTERS
from symmetric_layers.orbits import Plan, plan
from symmetric_layers.torch.batch_statistics import at_once, is_plain, per_channel, per_orbit, way_for
from symmetric_layers.torch.kernels.channels import per_block
from symmetric_layers.torch.leaves import is_part, noted

if TYPE_CHECKING:
    from torch.nn.modules.batchnorm import _BatchNorm as _Host
else:
    _Host = nn.Module


class _OrbitBatchNorm(_Host):
    _letters: int  # how many letters kinds may have
    _dims: tuple[int, ...]  # how many dimensions inputs may have
    _may_stay = True  # whether statistics are those of this process alone

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
        symmetry: Mapping[str, int | str] | None = None,
    ) -> None:
        bank = plan(symmetry, num_features, self._letters)
        newer: Any = {} if bias else {"bias": False}  # only newer hosts know this argument
        newer.update(device=device, dtype=dtype)
        super().__init__(bank.stored, eps, momentum, affine, track_running_stats, **newer)
        self.num_features = bank.filters
        self.plan: Plan = bank

    def forward(self, input: Tensor) -> Tensor:
        """Normalises `(N, num_features, *positions)` with the statistics of each orbit."""
        if isinstance(input, Proxy):
            return noted(self, input)
        if not self.plan.orbits:
            return super().forward(input)
        self._check(input)
        known = self._known()
        if not self.training and "running_mean" in known:
            return self._as_tracked(input, known)
        rate = self._count_batch()
        way = way_for(input, known) if self._may_stay else None
        if way is not None:
            return way(input, self.plan, known, rate, self.eps)

        def move(orbits: Tensor, here: slice) -> Tensor:
            return self._normalised(orbits, {name: values[here] for name, values in known.items()}, rate)

        return per_orbit(input, self.plan, move)

    def _known(self) -> dict[str, Tensor]:
        """What is stored and of use in this mode; refused in the host's words where there is too much or too little."""
        names = ["weight", "bias"]
        if not self.training or self.track_running_stats:
            names += ["running_mean", "running_var"]
        stored = {name: getattr(self, name) for name in names}
        known = {name: values for name, values in stored.items() if values is not None}
        for name, values in known.items():
            if values.numel() != self.plan.stored:
                raise RuntimeError(f"{name} should contain {self.plan.stored} elements not {values.numel()}")
        return known

    def _as_tracked(self, input: Tensor, known: dict[str, Tensor]) -> Tensor:
        """Normalises with the running statistics."""
        each = at_once if is_plain((input, *known.values())) else per_channel
        mean, var = each(self.plan, known["running_mean"], known["running_var"])
        weight, bias = each(self.plan, known.get("weight"), known.get("bias"))  # apart: these are differentiated
        return F.batch_norm(input, mean, var, weight, bias, False, 0.0, self.eps)

    def _normalised(self, orbits: Tensor, stored: dict[str, Tensor], rate: float) -> Tensor:
        """Normalises one run of orbits with the batch's own statistics."""
        mean, var = stored.get("running_mean"), stored.get("running_var")
        return F.batch_norm(orbits, mean, var, stored.get("weight"), stored.get("bias"), True, rate, self.eps)

    def extra_repr(self) -> str:
        """The host's description, and the symmetry with it."""
        return super().extra_repr() + _symmetry_of(self.plan)

    def _check(self, input: Tensor) -> None:
        """Refuses what the host refuses, in its words."""
        if input.dim() not in self._dims:
            expected = " or ".join(f"{dim}D" for dim in self._dims)
            raise ValueError(f"expected {expected} input (got {input.dim()}D input)")
        self._check_channels(input)

    def _check_channels(self, input: Tensor) -> None:
        if input.shape[1] != self.num_features:
            raise RuntimeError(f"running_mean should contain {input.shape[1]} elements not {self.num_features}")

    def _count_batch(self) -> float:
        """Counts a training batch, and says how much of it goes into the running statistics."""
        if self.training and self.track_running_stats and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if self.momentum is None:
                return 1.0 / float(self.num_batches_tracked)
        return 0.0 if self.momentum is None else self.momentum


class OrbitBatchNorm1d(_OrbitBatchNorm, nn.BatchNorm1d):
    """`nn.BatchNorm1d` for channels that are orbits: `OrbitBatchNorm2d` for `(N, C)` and `(N, C, L)`.

    Vectors `(N, C)` may come from any dimension, so every kind is allowed.
    """

    _letters = 3
    _dims = (2, 3)


class OrbitBatchNorm2d(_OrbitBatchNorm, nn.BatchNorm2d):
    """`nn.BatchNorm2d` for channels that are orbits: statistics and affine terms are shared within each orbit.

    An ordinary batch norm gives a filter and its mirror different scales, and the answer no longer mirrors. Here an
    orbit is one channel that is seen several times.

    Equivalent to: where all channels are `'h'` orbits, `nn.BatchNorm2d(C // 2)` on `x.unflatten(1, (-1, 2))` with the
    two members of each orbit laid side by side as further positions.

    Law: exchanging channels with their mirrors, before or after, is the same; so it keeps the law of the layer before.

    Args:
        symmetry: how the channels are arranged: the `symmetry` of the layer before. None: an ordinary batch norm.
        num_features, eps, momentum, affine, track_running_stats, device, dtype, bias: as in the host.

    Attributes:
        weight, bias, running_mean, running_var: one entry per orbit and free channel, `(plan.stored,)`.

    Shape:
        `(N, C, H, W)` to the same.

    Raises:
        SymmetryError: for a symmetry that does not fit; one sentence says what would.

    Example:
        >>> norm = OrbitBatchNorm2d(16, symmetry={'h': 8})
        >>> norm(torch.randn(5, 16, 28, 28)).shape, norm.weight.shape
        (torch.Size([5, 16, 28, 28]), torch.Size([12]))
    """

    _letters = 2
    _dims = (4,)


class OrbitBatchNorm3d(_OrbitBatchNorm, nn.BatchNorm3d):
    """`nn.BatchNorm3d` for channels that are orbits; the 3-D form of `OrbitBatchNorm2d`."""

    _letters = 3
    _dims = (5,)


class OrbitGroupNorm(nn.GroupNorm):
    """`nn.GroupNorm` for channels that are orbits: affine terms are shared within each orbit.

    Statistics are taken over groups of channels as in the host; mirroring must carry whole groups onto whole groups,
    so a group holds whole orbits, or a part of one that its mirrors keep together.

    Equivalent to: `nn.GroupNorm` whose `weight` and `bias` are equal within each orbit.

    Law: exchanging channels with their mirrors, before or after, is the same.

    Args:
        symmetry: how the channels are arranged: the `symmetry` of the layer before.
        num_groups, num_channels, eps, affine, device, dtype: as in the host.

    Attributes:
        weight, bias: one entry per orbit and free channel.

    Raises:
        SymmetryError: for a symmetry that does not fit, or groups that mirroring would tear apart.

    Example:
        >>> OrbitGroupNorm(4, 16, symmetry={'hv': 16}).weight.shape
        torch.Size([4])
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        symmetry: Mapping[str, int | str] | None = None,
    ) -> None:
        bank = plan(symmetry, num_channels, len(LETTERS))
        super().__init__(num_groups, num_channels, eps, affine, device, dtype)
        self.plan = bank
        keep_groups_whole(bank, num_groups)
        _share_affine(self, bank)

    def forward(self, input: Tensor) -> Tensor:
        """Normalises `(N, num_channels, *positions)`."""
        if isinstance(input, Proxy) and is_part(self, input):
            return noted(self, input)
        weight, bias = per_channel(self.plan, self.weight, self.bias)
        return F.group_norm(input, self.num_groups, weight, bias, self.eps)

    def extra_repr(self) -> str:
        """The host's description, and the symmetry with it."""
        return super().extra_repr() + _symmetry_of(self.plan)


class _OrbitInstanceNorm(nn.Module if not TYPE_CHECKING else nn.InstanceNorm1d):  # type: ignore[misc]
    _letters: int

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        symmetry: Mapping[str, int | str] | None = None,
    ) -> None:
        bank = plan(symmetry, num_features, self._letters)
        super().__init__(bank.stored, eps, momentum, affine, track_running_stats, device, dtype)
        self.num_features = bank.filters
        self.plan = bank

    def forward(self, input: Tensor) -> Tensor:
        """Normalises `(N, num_features, *positions)`, or one picture without N, each channel by itself."""
        if isinstance(input, Proxy):
            return noted(self, input)
        if not self.plan.orbits:
            return super().forward(input)
        channels = input.dim() - self._letters - 1
        if channels not in (0, 1):
            fewest = self._letters + 1
            raise ValueError(f"expected {fewest}D or {fewest + 1}D input (got {input.dim()}D input)")
        if input.shape[channels] != self.num_features:
            raise ValueError(
                f"expected input's size at dim={channels} to match num_features ({self.num_features}), "
                f"but got: {input.shape[channels]}."
            )
        batch = input.unsqueeze(0) if channels == 0 else input
        mean, var, weight, bias = per_channel(self.plan, self.running_mean, self.running_var, self.weight, self.bias)
        own = self.training or not self.track_running_stats
        rate = 0.0 if self.momentum is None else self.momentum  # as the host does
        normal = F.instance_norm(batch, mean, var, weight, bias, own, rate, self.eps)
        if self.training and mean is not None and var is not None:
            self.running_mean.copy_(_orbit_means(mean, self.plan))
            self.running_var.copy_(_orbit_means(var, self.plan))
        return normal[0] if channels == 0 else normal

    def extra_repr(self) -> str:
        """The host's description, and the symmetry with it."""
        return super().extra_repr() + _symmetry_of(self.plan)


class OrbitInstanceNorm1d(_OrbitInstanceNorm, nn.InstanceNorm1d):
    """`nn.InstanceNorm1d` for channels that are orbits; the 1-D form of `OrbitInstanceNorm2d`."""

    _letters = 1


class OrbitInstanceNorm2d(_OrbitInstanceNorm, nn.InstanceNorm2d):
    """`nn.InstanceNorm2d` for channels that are orbits: affine terms and running statistics are shared within orbits.

    A picture's own statistics go where its channels go and need no sharing; what is remembered and learnt does.

    Equivalent to: `nn.InstanceNorm2d` whose `weight`, `bias`, `running_mean` and `running_var` are equal within orbits.

    Law: exchanging channels with their mirrors, before or after, is the same.

    Args:
        symmetry: how the channels are arranged: the `symmetry` of the layer before.
        num_features, eps, momentum, affine, track_running_stats, device, dtype: as in the host.

    Attributes:
        weight, bias, running_mean, running_var: one entry per orbit and free channel, where there are any.

    Shape:
        `(N, C, H, W)` or `(C, H, W)` to the same.

    Raises:
        SymmetryError: for a symmetry that does not fit.

    Example:
        >>> OrbitInstanceNorm2d(16, affine=True, symmetry={'hv': 16}).weight.shape
        torch.Size([4])
    """

    _letters = 2


class OrbitInstanceNorm3d(_OrbitInstanceNorm, nn.InstanceNorm3d):
    """`nn.InstanceNorm3d` for channels that are orbits; the 3-D form of `OrbitInstanceNorm2d`."""

    _letters = 3


class OrbitLayerNorm(nn.LayerNorm):
    """`nn.LayerNorm` over channels that are orbits: affine terms are shared within each orbit.

    Statistics over all channels do not notice an exchange; the affine terms of a ConvNeXt or a transformer would.

    Equivalent to: `nn.LayerNorm(channels)` whose `weight` and `bias` are equal within each orbit.

    Law: exchanging channels with their mirrors, before or after, is the same.

    Args:
        normalized_shape: the number of channels. Positions cannot be normalised together with affine terms of their
            own: these would tell left from right.
        symmetry: how the channels are arranged: the `symmetry` of the layer before.
        data_format: `'channels_last'`: `(N, *positions, C)`, as in the host. `'channels_first'`: `(N, C, *positions)`.
        eps, elementwise_affine, bias, device, dtype: as in the host.

    Attributes:
        weight, bias: one entry per orbit and free channel.

    Raises:
        SymmetryError: for a symmetry that does not fit, and for a shape of more than the channels.

    Example:
        >>> norm = OrbitLayerNorm(16, symmetry={'hv': 16}, data_format='channels_first')
        >>> norm.weight.shape, norm(torch.randn(2, 16, 5, 5)).shape
        (torch.Size([4]), torch.Size([2, 16, 5, 5]))
    """

    def __init__(
        self,
        normalized_shape: int | list[int] | tuple[int, ...],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        symmetry: Mapping[str, int | str] | None = None,
        data_format: str = "channels_last",
    ) -> None:
        shape = [normalized_shape] if isinstance(normalized_shape, int) else list(normalized_shape)
        if len(shape) != 1:
            raise SymmetryError(
                f"normalized_shape: {normalized_shape!r} holds positions as well as channels. "
                "Expected the number of channels. Use OrbitLayerNorm(channels), which any size of picture fits."
            )
        bank = plan(symmetry, shape[0], len(LETTERS))
        super().__init__(shape, eps, elementwise_affine, bias, device, dtype)
        self.plan = bank
        self.data_format = one_of("data_format", data_format, ("channels_last", "channels_first"))
        _share_affine(self, bank)

    def forward(self, input: Tensor) -> Tensor:
        """Normalises over the channels."""
        if isinstance(input, Proxy) and is_part(self, input):
            return noted(self, input)
        first = self.data_format == "channels_first"
        weight, bias = per_channel(self.plan, self.weight, self.bias)
        normal = F.layer_norm(input.movedim(1, -1) if first else input, self.normalized_shape, weight, bias, self.eps)
        return normal.movedim(-1, 1) if first else normal

    def extra_repr(self) -> str:
        """The host's description, and the symmetry with it."""
        return super().extra_repr() + _symmetry_of(self.plan)


def _symmetry_of(bank: Plan) -> str:
    return f", symmetry={bank.counts}" if bank.orbits else ""


def _share_affine(layer: nn.GroupNorm | nn.LayerNorm, bank: Plan) -> None:
    """Keeps one affine term per orbit; the host has drawn nothing at random."""
    for name in ("weight", "bias"):
        values = getattr(layer, name)
        if values is not None:
            setattr(layer, name, nn.Parameter(values.detach()[: bank.stored].clone()))


def _orbit_means(values: Tensor, bank: Plan) -> Tensor:
    return per_block(values, bank, -1, lambda run, block: run.unflatten(0, (block.orbits, block.size)).mean(1))
