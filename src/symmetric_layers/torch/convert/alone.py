"""Modules without numbers of their own, tried alone: whether they mirror their answer with their picture."""

from typing import Any

import torch
from torch import Tensor, nn

from symmetric_layers.letters import axes
from symmetric_layers.torch.answers import difference, undisturbed
from symmetric_layers.torch.convert.surgery import copy_of
from symmetric_layers.torch.kernels.channels import plan_of
from symmetric_layers.torch.kernels.seen import by_masks
from symmetric_layers.torch.mirrored import Mirrored

_ALLOWED = 1e-10


def might_treat_channel_by_channel(module: nn.Module) -> bool:
    """Whether a module has a `forward` of its own and nothing to learn, as blurs and pools that people write have."""
    written = type(module).__module__.partition(".")[0] != "torch"
    return written and not any(True for _ in module.parameters())


def breaks_alone(module: nn.Module, shape: tuple[int, ...], letters: str) -> bool:
    """Whether a module answers a mirrored picture of this shape, or of one a pixel larger, otherwise than mirrored.

    Each channel is to be answered by itself: what mixes channels cannot be seen in a mirror channel by channel.
    """
    module = copy_of(module).double().cpu().eval()
    larger = (*shape[:2], *(size + 1 for size in shape[2:]))
    generator = torch.Generator().manual_seed(0)
    pictures = [torch.randn(sizes, generator=generator, dtype=torch.float64) for sizes in (shape, larger)]
    with undisturbed(module):  # noise as well, so that pictures are drawn before
        return any(_breaks(module, x, letters) for x in pictures)


def _breaks(module: nn.Module, x: Tensor, letters: str) -> bool:
    try:
        straight = module(x)
        mirrored = [(letter, module(x.flip(axes(letter)))) for letter in letters]
        mixed = any(difference(straight[:, one], _answer(module, x, one))[1] > _ALLOWED for one in {0, x.shape[1] - 1})
    except Exception:  # it is not for pictures of this size
        return False
    return not mixed and any(
        difference(straight.flip(axes(letter)), answer)[1] > _ALLOWED for letter, answer in mirrored
    )


def _answer(module: Any, x: Tensor, channel: int) -> Tensor:
    """The answer of one channel, where the others are other pictures."""
    others = x.roll(1, 0) if x.shape[0] > 1 else x + 1
    others[:, channel] = x[:, channel]
    return module(others)[:, channel]


class MirroredModule(Mirrored):
    """A `Mirrored` whose operator may know how many channels there are: it is given all of them, for every mirror."""

    def forward(self, input: Tensor, *more: Any) -> Tensor:
        """Applies the operator to `(N, C, *positions)`, in the mirror where channels are mirrors."""
        bank = plan_of(self.symmetry, input.shape[1])
        return by_masks(self.operator, bank, "".join(bank.kinds), input, *more)
