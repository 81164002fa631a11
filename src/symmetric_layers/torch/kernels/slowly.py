"""Gradients by the host's own differentiation: where somebody differentiates again, or looks on."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from symmetric_layers.torch.kernels.trio import is_watched


def wants_the_host(x: Tensor, gradient: Tensor) -> bool:
    """Whether a gradient has to be made by `differentiated`: it is not just numbers like those of the picture x."""
    return torch.is_grad_enabled() or is_watched([x, gradient]) or gradient.dtype != x.dtype


def differentiated(
    function: Callable[..., Tensor], given: Sequence[Any], needed: Sequence[bool], gradient: Tensor
) -> list[Tensor | None]:
    """The gradients of a function for what it is given, differentiable where gradients are being recorded.

    Args:
        function: of all that is given, in the host's operations.
        given: tensors, or None where there is none.
        needed: for which of them a gradient is wanted; None is given for the others.
        gradient: of what the function answers.
    """
    is_differentiated = torch.is_grad_enabled()
    with torch.enable_grad():
        again = [one if one is None else _anew(one) for one in given]
        answer = function(*again)
    wanted = [one for one, asked in zip(again, needed, strict=True) if asked and one is not None]
    found = iter(torch.autograd.grad(answer, wanted, gradient, create_graph=is_differentiated))
    return [next(found) if asked else None for asked in needed]


def _anew(one: Tensor) -> Tensor:
    """The same as another tensor, because hooks of the first are called later."""
    return one.view_as(one) if one.requires_grad else one.detach().requires_grad_()
