"""Batch norms for orbits that take their statistics over several processes, and the way from the host's converter."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.module import register_module_module_registration_hook

from symmetric_layers.torch.norm import _OrbitBatchNorm


class OrbitSyncBatchNorm(_OrbitBatchNorm, nn.SyncBatchNorm):
    """`nn.SyncBatchNorm` for channels that are orbits: statistics are shared within orbits and over all processes.

    Where every process sees few pictures, each orbit is one channel that is seen several times in each of them.
    `nn.SyncBatchNorm.convert_sync_batchnorm(model)` makes these out of the `OrbitBatchNorm`s of a model.

    Equivalent to: `OrbitBatchNorm2d` on the joined batch of all processes. Training among several processes runs
    where the host's runs, which is on accelerators; evaluation runs everywhere.

    Law: exchanging channels with their mirrors, before or after, is the same.

    Args:
        symmetry: how the channels are arranged: the `symmetry` of the layer before. None: the host's norm.
        num_features, eps, momentum, affine, track_running_stats, process_group, device, dtype, bias: as in the host.

    Attributes:
        weight, bias, running_mean, running_var: one entry per orbit and free channel, `(plan.stored,)`.

    Shape:
        `(N, C, *positions)` to the same.

    Raises:
        SymmetryError: for a symmetry that does not fit; one sentence says what would.

    Example:
        >>> model = nn.Sequential(OrbitBatchNorm2d(16, symmetry={'h': 8}))
        >>> type(nn.SyncBatchNorm.convert_sync_batchnorm(model)[0]).__name__
        'OrbitSyncBatchNorm'
    """

    _letters = 3
    _may_stay = False

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        process_group: Any = None,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
        symmetry: Mapping[str, int | str] | None = None,
    ) -> None:
        more: Any = {"bias": bias, "symmetry": symmetry}
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, **more)
        self.process_group = process_group

    @classmethod
    def convert_sync_batchnorm(cls, module: nn.Module, process_group: Any = None) -> nn.Module:
        """The host's converter, which here converts a norm too that is no part of another module."""
        return nn.SyncBatchNorm.convert_sync_batchnorm(nn.ModuleList([module]), process_group)[0]

    def _check(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected at least 2D input (got {input.dim()}D input)")
        self._check_channels(input)

    def _normalised(self, orbits: Tensor, stored: dict[str, Tensor], rate: float) -> Tensor:
        alone = not (torch.distributed.is_available() and torch.distributed.is_initialized())
        if alone or not self.training:
            return super()._normalised(orbits, stored, rate)
        affine, tracked = "weight" in stored, "running_mean" in stored
        more: Any = {"process_group": self.process_group, "device": "meta"}
        more.update({"bias": False} if affine and "bias" not in stored else {})  # only newer hosts know this argument
        host = nn.SyncBatchNorm(orbits.shape[1], self.eps, rate, affine, tracked, **more)
        counted = {"num_batches_tracked": torch.zeros((), dtype=torch.long)} if tracked else {}
        return functional_call(host, {**stored, **counted}, (orbits,))


def _in_its_place(parent: nn.Module, name: str, new: nn.Module | None) -> nn.Module | None:
    """Makes the norm that the host's converter puts in the place of one for orbits one for orbits too.

    The converter builds `nn.SyncBatchNorm` for whatever is a batch norm, and hands the numbers on. Whoever puts a
    module in its place can be asked for another one; that is the only door it leaves.
    """
    if type(new) is not nn.SyncBatchNorm:
        return None
    old = parent._modules.get(name)
    if not isinstance(old, _OrbitBatchNorm) or not old.plan.orbits:
        return None
    if new.weight is not old.weight or new.running_mean is not old.running_mean:
        return None
    more: Any = {"process_group": new.process_group, "device": "meta", "bias": new.bias is not None}
    more.update(symmetry=old.plan.counts)
    made = OrbitSyncBatchNorm(new.num_features, new.eps, new.momentum, new.affine, new.track_running_stats, **more)
    made._parameters.update(new._parameters)
    made._buffers.update(new._buffers)
    return made.train(new.training)


_door: Any = register_module_module_registration_hook
_door(_in_its_place)
