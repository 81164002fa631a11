"""Batch normalisation that treats the members of an orbit as one channel seen several times."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch.nn.functional as F
from torch import Tensor, nn

from symmetric_layers.orbits import Block, Plan, plan
from symmetric_layers.torch.kernels.channels import per_block, spread

if TYPE_CHECKING:
    from torch.nn.modules.batchnorm import _BatchNorm as _Host
else:
    _Host = nn.Module


class _OrbitBatchNorm(_Host):
    _letters: int  # how many letters kinds may have
    _dims: tuple[int, ...]  # how many dimensions inputs may have

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
        newer = {} if bias else {"bias": False}  # only newer hosts know this argument
        super().__init__(bank.stored, eps, momentum, affine, track_running_stats, device, dtype, **newer)
        self.num_features = bank.filters
        self.plan: Plan = bank

    def forward(self, input: Tensor) -> Tensor:
        """Normalises `(N, num_features, *positions)` with the statistics of each orbit."""
        if not self.plan.orbits:
            return super().forward(input)
        self._check(input)
        if not self.training and self.running_mean is not None:
            mean, var, weight, bias = self._per_channel()
            return F.batch_norm(input, mean, var, weight, bias, False, 0.0, self.eps)
        rate = self._count_batch()
        tracked = not self.training or self.track_running_stats

        def normalise(channels: Tensor, block: Block) -> Tensor:
            def stored(values: Tensor | None) -> Tensor | None:
                return None if values is None else values[block.representative : block.representative + block.orbits]

            orbits = channels.reshape(channels.shape[0], block.orbits, -1)
            mean, var = (self.running_mean, self.running_var) if tracked else (None, None)
            normal = F.batch_norm(
                orbits, stored(mean), stored(var), stored(self.weight), stored(self.bias), True, rate, self.eps
            )
            return normal.reshape(channels.shape)

        return per_block(input, self.plan, 1, normalise)

    def extra_repr(self) -> str:
        """The host's description, and the symmetry with it."""
        text = super().extra_repr()
        return text + (f", symmetry={self.plan.counts}" if self.plan.orbits else "")

    def _check(self, input: Tensor) -> None:
        """Refuses what the host refuses, in its words."""
        if input.dim() not in self._dims:
            expected = " or ".join(f"{dim}D" for dim in self._dims)
            raise ValueError(f"expected {expected} input (got {input.dim()}D input)")
        if input.shape[1] != self.num_features:
            raise RuntimeError(f"running_mean should contain {input.shape[1]} elements not {self.num_features}")

    def _per_channel(self) -> list[Tensor | None]:
        stored = (self.running_mean, self.running_var, self.weight, self.bias)
        return [None if values is None else spread(values, self.plan) for values in stored]

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
