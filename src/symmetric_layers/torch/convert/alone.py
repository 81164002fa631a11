"""Modules without numbers of their own, tried alone: whether they mirror their answer with their picture."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Proxy

from symmetric_layers.torch.convert.operators import is_operator
from symmetric_layers.torch.convert.surgery import copy_of, exchange_modules
from symmetric_layers.torch.kernels.channels import plan_of
from symmetric_layers.torch.kernels.seen import by_masks
from symmetric_layers.torch.law import compared
from symmetric_layers.torch.leaves import noted
from symmetric_layers.torch.mirrored import Mirrored

_ALLOWED = 1e-10
_SMALL = 16  # remainders of all usual strides are those of the picture


def might_treat_channel_by_channel(module: nn.Module) -> bool:
    """Whether a module has a `forward` of its own and nothing to learn, as blurs and pools that people write have."""
    written = type(module).__module__.partition(".")[0] != "torch"
    return written and not any(True for _ in module.parameters())


def breaks_alone(module: nn.Module, shape: tuple[int, ...], kind: str) -> bool:
    """Whether a module does not mirror a picture of orbits, of this shape or a pixel larger, and could if seen whole.

    What it is made of is seen in the mirror by itself. What mixes channels, or treats some otherwise than others, is
    not helped by a mirror. Large pictures are tried by small ones that leave the same over.
    """
    whole = copy_of(module).double().cpu().eval()
    parts = copy_of(whole)
    inner = {id(part): Mirrored(part, {kind: "100%"}) for part in parts.modules() if is_operator(part)}
    parts = exchange_modules(parts, inner)
    sizes = [size if size < 2 * _SMALL else _SMALL + size % _SMALL for size in shape[2:]]
    generator = torch.Generator().manual_seed(0)
    pictures = [
        torch.randn(2, shape[1], *(size + more for size in sizes), generator=generator, dtype=torch.float64)
        for more in (0, 1)
    ]
    seen_whole = MirroredModule(whole, {kind: "100%"})
    return any(_breaks(parts, x, kind) and not _breaks(seen_whole, x, kind) for x in pictures)


def _breaks(module: nn.Module, x: Tensor, kind: str) -> bool:
    arranged = {kind: "100%"}
    try:
        rows = compared(module, x, kind, arranged, arranged)[1]
    except Exception:  # it is not for pictures of this size
        return False
    return any(row.relative > _ALLOWED for row in rows)


class MirroredModule(Mirrored):
    """A `Mirrored` whose operator may know how many channels there are: it is given all of them, for every mirror."""

    def forward(self, input: Tensor, *more: Any) -> Any:
        """Applies the operator to `(N, C, *positions)`, in the mirror where channels are mirrors."""
        if isinstance(input, Proxy):
            return noted(self, input, more)
        bank = plan_of(self.symmetry, input.shape[1])
        return by_masks(self.operator, bank, "".join(bank.kinds), input, *more)
