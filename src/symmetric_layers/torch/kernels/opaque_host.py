"""The host's convolution on the mirrored grid where sizes are left open: which mirrors read where is found as it runs.

Picking channels and mirroring pictures again and again takes compilers minutes where sizes are symbols, and at many
sizes there is nothing to mirror. Answers and all gradients are those of `reference.conv`.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from symmetric_layers.letters import LETTERS, axes
from symmetric_layers.orbits import Plan
from symmetric_layers.torch.kernels.bank import counts, grouped, regrouped
from symmetric_layers.torch.kernels.channels import turned
from symmetric_layers.torch.kernels.geometry import Geometry, are_channels_last, empty_like
from symmetric_layers.torch.kernels.grid import alike, by_mirror, is_left_open, lopsided, on_mirrored_grid
from symmetric_layers.torch.kernels.job import Job, multiplied_as
from symmetric_layers.torch.kernels.trio import register


def is_wanted(job: Job) -> bool:
    """Whether a compiler leaves open where the mirrors of this job read."""
    case, plan = job.case, job.plan
    letters = "".join(letter for letter in LETTERS[: plan.ndim] if any(letter in kind for kind in plan.kinds))
    return (
        is_left_open(case.sizes, case.stride, letters)
        and job.x.is_floating_point()
        and all(before == after for before, after in case.pads)
    )


def conv(job: Job, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The convolution with the whole bank, every filter on its own grid; equivalent to `reference.conv`."""
    case, plan, x = job.case, job.plan, job.x
    padding = [before for before, _ in case.pads]
    if case.padding_mode != "zeros":
        x, padding = F.pad(x, [side for p in reversed(padding) for side in (p, p)], case.padding_mode), [0] * plan.ndim
    batched = x.dim() == plan.ndim + 2
    x, weight = (one.to(multiplied_as(one)) for one in (x if batched else x.unsqueeze(0), weight))
    y = TRIO.answer(x, weight, None, counts(plan), grouped(plan), case.stride, padding, case.dilation)
    if bias is not None:
        y = y + bias.to(y.dtype).view(-1, *[1] * plan.ndim)
    return y if batched else y.squeeze(0)


class _Grids:
    """What the filters of a bank do to pictures of some size.

    Args:
        bank, inputs: how channels are arranged, in the numbers of `bank.counts` and `bank.grouped`.
        filters, channels: of the answer, of the picture.
        geometry: of one filter.
    """

    def __init__(
        self, bank: Sequence[int], inputs: Sequence[int], filters: int, channels: int, geometry: Geometry
    ) -> None:
        sizes = geometry.sizes, [(p, p) for p in geometry.padding], geometry.kernel_size
        self.plan: Plan = regrouped(tuple(bank), tuple(inputs), filters, channels, len(geometry.sizes))
        self.letters = lopsided(*sizes, geometry.stride, geometry.dilation)
        self.geometry, self.dim = geometry, -len(geometry.sizes) - 1
        self.how: list[Any] = [list(geometry.stride), list(geometry.padding), list(geometry.dilation)]
        self.how += [False, [0] * len(geometry.sizes)]

    def answer(self, x: Tensor, weight: Tensor) -> Tensor:
        """The convolution."""

        def run(x: Tensor, weight: Tensor, bias: Tensor | None, groups: int) -> Tensor:
            return torch.ops.aten.convolution(x, weight, bias, *self.how, groups)

        if not self.letters:
            return run(x, weight, None, self.plan.groups)
        return on_mirrored_grid(run, x, weight, None, self.plan, self.letters, 0)

    def input_gradient(self, gradient: Tensor, weight: Tensor) -> Tensor:
        """Its gradient for the picture, mirror after mirror."""

        def back(gradient: Tensor, weight: Tensor, groups: int) -> Tensor:
            shape = (gradient.shape[0], weight.shape[1] * groups, *self.geometry.sizes)
            x = empty_like(gradient, shape)
            return torch.ops.aten.convolution_backward(
                gradient, x, weight, None, *self.how, groups, [True, False, False]
            )[0]

        def seen(mirrored: str, index: Tensor) -> Tensor:
            flipped, groups = axes(mirrored), len(index) if self.plan.depthwise else self.plan.groups
            own = turned(gradient.index_select(self.dim, index), flipped)
            return turned(back(own, turned(weight.index_select(0, index), flipped), groups), flipped)

        if not self.letters:
            return back(gradient, weight, self.plan.groups)
        if self.plan.depthwise:
            return by_mirror(seen, self.plan, self.letters, self.dim, gradient.device)
        classes = alike(self.plan, self.letters).items()
        found = [seen(mirrored, torch.tensor(chosen, device=gradient.device)) for mirrored, chosen in classes]
        return torch.stack(found).sum(0)

    def weight_gradient(self, gradient: Tensor, x: Tensor) -> Tensor:
        """Its gradient for all filters."""

        def back(gradient: Tensor, x: Tensor, groups: int) -> Tensor:
            weight = x.new_empty((gradient.shape[1], x.shape[1] // groups, *self.geometry.kernel_size))
            return torch.ops.aten.convolution_backward(
                gradient, x, weight, None, *self.how, groups, [False, True, False]
            )[1]

        def seen(mirrored: str, index: Tensor) -> Tensor:
            flipped, groups = axes(mirrored), len(index) if self.plan.depthwise else self.plan.groups
            own = x.index_select(self.dim, index) if self.plan.depthwise else x
            pictures = turned(gradient.index_select(self.dim, index), flipped), turned(own, flipped)
            return turned(back(*pictures, groups), flipped)

        if not self.letters:
            return back(gradient, x, self.plan.groups)
        return by_mirror(seen, self.plan, self.letters, 0, gradient.device)


def _answer(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    bank: Sequence[int],
    inputs: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> Tensor:
    """The convolution with all filters; biases are left to the caller."""
    geometry = Geometry(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    found = _Grids(bank, inputs, weight.shape[0], x.shape[1], geometry).answer(x, weight)
    return _laid_out(found, x, weight)


def _input_gradient(
    gradient: Tensor,
    weight: Tensor,
    sizes: Sequence[int],
    bank: Sequence[int],
    inputs: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> Tensor:
    geometry = Geometry(sizes, weight.shape[2:], stride, padding, dilation)
    channels = weight.shape[1] * inputs[0]
    found = _Grids(bank, inputs, weight.shape[0], channels, geometry).input_gradient(gradient, weight)
    return _laid_out(found, gradient, weight)


def _weight_gradient(
    gradient: Tensor,
    x: Tensor,
    kernel_size: Sequence[int],
    bank: Sequence[int],
    inputs: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> Tensor:
    geometry = Geometry(x.shape[2:], kernel_size, stride, padding, dilation)
    grids = _Grids(bank, inputs, gradient.shape[1], x.shape[1], geometry)
    return grids.weight_gradient(gradient, x).contiguous()


def _pattern(x: Tensor, weight: Tensor) -> Tensor:
    """The one by which the host lays out what it makes of both."""
    return weight if not are_channels_last(x.shape, x.stride()) and _is_last(weight) else x


def _is_last(weight: Tensor) -> bool:
    return are_channels_last(weight.shape, weight.stride()) and not weight.is_contiguous()


def _laid_out(found: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """The same numbers as the compiler was told that they would lie."""
    expected = empty_like(_pattern(x, weight), found.shape)
    return found if found.stride() == expected.stride() else expected.copy_(found)


def _empty_answer(x, weight, bias, bank, inputs, stride, padding, dilation):
    geometry = Geometry(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    return empty_like(_pattern(x, weight), (x.shape[0], weight.shape[0], *geometry.answer))


def _empty_input(gradient, weight, sizes, bank, inputs, stride, padding, dilation):
    return empty_like(_pattern(gradient, weight), (gradient.shape[0], weight.shape[1] * inputs[0], *sizes))


def _empty_weight(gradient, x, kernel_size, bank, inputs, stride, padding, dilation):
    return x.new_empty((gradient.shape[1], x.shape[1] // inputs[0], *kernel_size))


TRIO = register(
    "symmetric_layers::grids_", _answer, _input_gradient, _weight_gradient, None,
    (_empty_answer, _empty_input, _empty_weight),
)  # fmt: skip
