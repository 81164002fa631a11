"""Batch norms over the batches of several processes, where the host's `nn.SyncBatchNorm` does not train: processors."""

from typing import Any

import torch
from torch import Tensor, distributed, nn

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class _Joined(torch.autograd.Function):
    """The batches of all processes, one after the other; the gradient of a part is the sum over all processes."""

    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        """The joined batch."""
        part = part.contiguous()
        parts = [torch.empty_like(part) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, part)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """The gradient of this process's part."""
        gradient = gradients[0].clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(gradient)
        return _own(gradient)


def _own(batch: Tensor) -> Tensor:
    return batch.chunk(distributed.get_world_size())[distributed.get_rank()]


def join_norms(net: nn.Module) -> None:
    """Makes each batch norm of a network, of orbits or not, see the batches of all processes while it is trained.

    Equivalent to: `nn.SyncBatchNorm.convert_sync_batchnorm(net)`, which needs accelerators.
    """

    def gather(norm: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (_Joined.apply(inputs[0]), *inputs[1:]) if norm.training else inputs

    def take(norm: nn.Module, inputs: tuple[Tensor, ...], answer: Tensor) -> Tensor:
        return _own(answer) if norm.training else answer

    for module in net.modules():
        if isinstance(module, _NORMS):
            module.register_forward_pre_hook(gather)
            module.register_forward_hook(take)
