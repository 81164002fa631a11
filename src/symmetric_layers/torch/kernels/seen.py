"""Any operator that treats every channel by itself, seen in the mirror by the channels that are mirrors."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from symmetric_layers.letters import axes
from symmetric_layers.orbits import Plan
from symmetric_layers.torch.kernels.channels import turned
from symmetric_layers.torch.kernels.geometry import are_channels_last
from symmetric_layers.torch.kernels.grid import by_mirror


def in_mirrors(operator: Callable[..., Tensor], bank: Plan, crooked: str, input: Tensor, *more: Any) -> Tensor:
    """By mirroring, calling the operator and mirroring back.

    Args:
        operator: of `(N, C, *positions)`, and of what else it is given.
        bank: how the channels are arranged.
        crooked: the letters along which the operator does not obey by itself.
        input: pictures.
    """
    if not torch.jit.is_tracing() and are_channels_last(input.shape, input.stride()):
        return by_masks(operator, bank, crooked, input, *more)

    def answer(mirrored: str, index: Tensor) -> Tensor:
        return _seen(operator, input.index_select(1, index), list(axes(mirrored)), *more)

    return by_mirror(answer, bank, crooked, 1, input.device)


def by_masks(operator: Callable[..., Tensor], bank: Plan, crooked: str, input: Tensor, *more: Any) -> Tensor:
    """The same by masks: picking channels would leave the memory format, in which operators are slower."""
    places = ["".join(letter for letter in mirror if letter in crooked) for mirror in bank.mirror]
    answer = operator(input, *more)
    for letters in sorted({*places} - {""}):
        other = _seen(operator, input, list(axes(letters)), *more)
        here = torch.tensor([place == letters for place in places], device=input.device)
        answer = torch.where(here.view(-1, *[1] * (answer.dim() - 2)), other, answer)
    return answer


def with_places(
    operator: Callable[..., Any], bank: Plan, crooked: str, input: Tensor, *more: Any
) -> tuple[Tensor, Tensor]:
    """The same of a pool that says where its largest numbers are: in the picture, not in its mirror image."""
    sizes, found = input.shape[2:], {}
    places = torch.arange(math.prod(sizes), device=input.device).view(sizes)

    def answer(mirrored: str, index: Tensor) -> Tensor:
        flipped = list(axes(mirrored))
        largest, where = operator(turned(input.index_select(1, index), flipped), *more)
        found[mirrored] = turned(turned(places, flipped).flatten()[where], flipped)
        return turned(largest, flipped)

    largest = by_mirror(answer, bank, crooked, 1, input.device)
    return largest, by_mirror(lambda mirrored, _: found[mirrored], bank, crooked, 1, input.device)


def _seen(operator: Callable[..., Tensor], input: Tensor, flipped: list[int], *more: Any) -> Tensor:
    """The operator seen in the mirror; where it takes all positions together, nothing can be mirrored back."""
    answer = operator(turned(input, flipped), *more)
    return turned(answer, flipped) if answer.dim() == input.dim() else answer
