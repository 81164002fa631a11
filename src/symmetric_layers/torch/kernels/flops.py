"""What PyTorch's counter of operations is told of the fused kernels: two for every product that is made.

It counts what operators do by their names, and would not see these. A stored filter is multiplied once for all its
mirrors, so that numbers of stored filters are what counts. As the host's counter does, products with padding count too.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.flop_counter import register_flop_formula

from symmetric_layers.torch.kernels.bank import pairs, parts, sizes
from symmetric_layers.torch.kernels.geometry import Geometry
from symmetric_layers.torch.kernels.phases import phases

Kernel = Callable[..., Sequence[int]]


def tell(operator: str, form: str, kernel: Kernel, is_folded: bool) -> None:
    """Tells the counter how many products an operator makes.

    Args:
        operator: its name, `"symmetric_layers::..."`.
        form: which of a `Trio`'s operators it is.
        kernel: how many numbers filters have along each axis where they are multiplied, from the sizes of pictures,
            the numbers they are stored with, the bank, stride, padding and dilation.
        is_folded: whether mirrors share products; otherwise the weight holds all filters.
    """
    packet = torch.ops
    for name in operator.split("::"):
        packet = getattr(packet, name)

    def flops(
        first: Any, second: Any, third: Any, bank: Any, inputs: Any, stride: Any, padding: Any, dilation: Any, *,
        out_shape: Any, **more: Any,
    ) -> int:  # fmt: skip
        positions = (out_shape if form == "answer" else first)[2:]
        pictures = {"answer": first[2:], "input_gradient": third, "weight_gradient": second[2:]}[form]
        filters = out_shape if form == "weight_gradient" else second
        taps = kernel(pictures, filters[2:], bank, stride, padding, dilation)
        number = filters[0]
        if is_folded and form == "input_gradient":
            number = _filters(Geometry(pictures, taps, stride, padding, dilation), bank, inputs, filters[1])
        return 2 * int(first[0] * math.prod(positions) * number * filters[1] * math.prod(taps))

    register_flop_formula(packet)(flops)


def as_stored(pictures: Any, kernel: Sequence[int], *how: Any) -> Sequence[int]:
    """Filters that are multiplied with the numbers they have."""
    return kernel


def _filters(geometry: Geometry, bank: Sequence[int], inputs: Sequence[int], channels: int) -> int:
    """How many filters the gradient of pictures is made with: those stored, or all where the host makes it."""
    if phases(geometry, parts(tuple(bank), tuple(inputs), channels, len(geometry.sizes))) is None:
        return sum(sizes(bank))
    return sum(orbits for _, orbits in pairs(bank))
