"""What a transposed symmetric convolution is asked to do, and its meaning: the host's, with the whole bank."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch.nn.functional as F
from torch import Tensor

from symmetric_layers.orbits import Plan
from symmetric_layers.torch.kernels.grid import on_mirrored_grid, one_sided
from symmetric_layers.torch.kernels.reference import expand_bias, expand_weight

_CONV_TRANSPOSE = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


class Transposed(NamedTuple):
    """One call of a transposed symmetric convolution.

    Attributes:
        x: the input, `(N, in_channels, *positions)` or `(in_channels, *positions)`.
        weight: the stored filters, `(in_channels, plan.stored / groups, *kernel)`.
        bias: the stored biases: one per stored filter where they are shared, else one per filter; None for none.
        plan: which filters are mirrors of which.
        share_bias: whether all filters of an orbit have the same bias.
        stride, padding, output_padding, dilation: one number per axis.
        grid: `'shared'`, or `'mirrored'`: a mirror is `flip . convolution . flip`.
    """

    x: Tensor
    weight: Tensor
    bias: Tensor | None
    plan: Plan
    share_bias: bool
    stride: Sequence[int]
    padding: Sequence[int]
    output_padding: Sequence[int]
    dilation: Sequence[int]
    grid: str

    @property
    def sizes(self) -> list[int]:
        """The sizes of the answer."""
        here, kernel = self.x.shape[-self.plan.ndim :], self.weight.shape[2:]
        least = least_sizes(here, kernel, self.stride, self.padding, self.dilation)
        return [size + more for size, more in zip(least, self.output_padding, strict=True)]

    @property
    def lopsided(self) -> str:
        """The letters along which mirrors have to be spread out in the mirror."""
        return one_sided(self.output_padding) if self.grid == "mirrored" and self.plan.orbits else ""


def least_sizes(
    sizes: Sequence[int],
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> list[int]:
    """The sizes of the answer to an input of these sizes, without output padding."""
    axes = zip(sizes, kernel_size, stride, padding, dilation, strict=True)
    return [(n - 1) * s - 2 * p + d * (k - 1) + 1 for n, k, s, p, d in axes]


def output_padding_for(layer: Any, input: Tensor, output_size: Sequence[int] | None) -> tuple[int, ...] | list[int]:
    """The output padding that reaches `output_size`; refused with the host's sentences where none does."""
    if output_size is None:
        return layer.output_padding
    rank = len(layer.kernel_size)
    leading = input.dim() - rank
    wanted = list(output_size[leading:] if len(output_size) == leading + rank else output_size)
    if len(wanted) != rank:
        raise ValueError(
            f"ConvTranspose{rank}D: for {input.dim()}D input, output_size must have {rank} "
            f"or {leading + rank} elements (got {len(wanted)})"
        )
    geometry = (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
    least = least_sizes(input.shape[leading:], *geometry)
    most = [size + s - 1 for size, s in zip(least, layer.stride, strict=True)]
    if any(not low <= size <= high for low, size, high in zip(least, wanted, most, strict=True)):
        raise ValueError(
            f"requested an output size of {wanted}, but valid sizes range "
            f"from {least} to {most} (for an input of {input.size()[2:]})"
        )
    return [size - low for size, low in zip(wanted, least, strict=True)]


def conv(job: Transposed) -> Tensor:
    """`F.conv_transpose1d`, `2d` or `3d` with the whole bank."""
    plan = job.plan
    full_weight = expand_weight(job.weight, plan, transposed=True)
    full_bias = expand_bias(job.bias, plan, job.share_bias)

    def run(x: Tensor, weight: Tensor, bias: Tensor | None, groups: int) -> Tensor:
        more = (job.stride, job.padding, job.output_padding, groups, job.dilation)
        return _CONV_TRANSPOSE[plan.ndim](x, weight, bias, *more)

    if job.lopsided:
        return on_mirrored_grid(run, job.x, full_weight, full_bias, plan, job.lopsided, filters_dim=1)
    return run(job.x, full_weight, full_bias, plan.groups)
