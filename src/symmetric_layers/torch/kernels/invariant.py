"""Filters that see a picture and its mirror image alike: from orbits of channels back to ordinary maps."""

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import NamedTuple

import torch
from torch import Tensor

from symmetric_layers.letters import LETTERS, axes, mirrors
from symmetric_layers.orbits import Plan
from symmetric_layers.torch.kernels.channels import cut, exchange_channels, join


class Invariance(NamedTuple):
    """How a filter has to be arranged so that its answer mirrors as an ordinary map does.

    Attributes:
        inputs: the arrangement of the input channels.
        swapped: the letters under which every input channel is exchanged with another one; filters of a channel are
            stored once and mirrored for the others.
        palindromic: the letters under which input channels stay in place; along them a filter is its own mirror, and
            its first half is stored.
    """

    inputs: Plan
    swapped: str
    palindromic: str

    @property
    def stored_channels(self) -> int:
        """How many input channels have filters of their own."""
        return self.inputs.filters // 2 ** len(self.swapped)

    def stored_kernel(self, kernel_size: Sequence[int]) -> list[int]:
        """How much of a kernel is stored: the first half along the palindromic axes."""
        sizes = list(kernel_size)
        for axis in axes(self.palindromic):
            sizes[axis] = (sizes[axis] + 1) // 2
        return sizes


def expand_invariant(weight: Tensor, how: Invariance, kernel_size: Sequence[int], transposed: bool) -> Tensor:
    """All numbers of the filters, in the host's layout, from the distinct ones."""
    for axis in axes(how.palindromic):
        first_half = weight.narrow(axis, 0, kernel_size[axis] // 2)
        weight = torch.cat([weight, first_half.flip(axis)], axis)
    if not how.swapped:
        return weight
    banks = how.inputs.groups
    channels = -how.inputs.ndim - 1
    if transposed:  # (groups * channels, filters of one group, *kernel)
        weight = weight.unflatten(0, (banks, -1)).transpose(1, 2)
    sizes = [block.filters // 2 ** len(how.swapped) for block in how.inputs.blocks]
    parts = [
        _orbit(part, block.kind, how.swapped, channels)
        for block, part in zip(how.inputs.blocks, cut(weight, sizes, channels), strict=True)
    ]
    full = join(parts, channels)
    return full.transpose(1, 2).flatten(0, 1) if transposed else full


def _orbit(weight: Tensor, kind: str, swapped: str, channels: int) -> Tensor:
    """Filters for all members of orbits of one kind, from those that no swapped letter has mirrored."""
    members = mirrors(kind)
    stored = [letters for letters in members if not set(letters) & set(swapped)]
    weight = weight.unflatten(channels, (-1, len(stored)))
    weight = weight.movedim(weight.dim() + channels, 0)  # stored members first; ONNX knows no negative axes here
    orbit = []
    for letters in members:
        flipped = "".join(letter for letter in letters if letter in swapped)
        own = weight[stored.index("".join(letter for letter in letters if letter not in swapped))]
        orbit.append(own.flip(axes(flipped)) if flipped else own)
    return torch.stack(orbit, channels).flatten(channels - 1, channels)


def averaged_over_grids(run: Callable[[Tensor], Tensor], x: Tensor, how: Invariance, letters: str) -> Tensor:
    """The mean of what `run` gives on every grid: as it is, and in the mirrors of the lopsided letters."""
    letters = "".join(letter for letter in LETTERS if letter in letters and letter in how.swapped + how.palindromic)
    subsets = ["".join(chosen) for size in range(len(letters) + 1) for chosen in combinations(letters, size)]
    total = run(x)
    for mirrored in subsets[1:]:
        seen = exchange_channels(x, how.inputs, mirrored).flip(axes(mirrored))
        total = total + run(seen).flip(axes(mirrored))
    return total / len(subsets)
