"""Functions that move numbers about: where channels stand afterwards, found by sending their numbers the same way."""

from typing import Any

import torch
from torch import Tensor

from symmetric_layers.sets import Mark

MOVES = {
    "permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis", "view", "reshape", "flatten", "unflatten",
    "squeeze", "unsqueeze", "expand", "repeat", "__getitem__", "chunk", "split", "tensor_split", "narrow", "select",
    "index_select", "roll", "flip", "unbind", "t", "repeat_interleave", "tile", "squeeze_", "unsqueeze_", "transpose_",
    "split_with_sizes", "adjoint", "__get__", "view_as", "reshape_as", "expand_as",
}  # fmt: skip


def numbers_of(tensor: Tensor, dim: int) -> Tensor:
    """The number of its channel in every place of a tensor, lying in memory as it does: views ask for that."""
    shape = [-1 if axis == dim else 1 for axis in range(tensor.dim())]
    where: Any = "cpu" if tensor.is_meta else tensor.device
    numbers = torch.arange(tensor.shape[dim], dtype=torch.int32, device=where).reshape(shape)
    return torch.empty_like(tensor, dtype=torch.int32, device=where).copy_(numbers)


def found_in(seen: Tensor, mark: Mark, name: str, count: int, most: int) -> Mark:
    """Where the numbers of the channels stand now, of which there were so many, and `most` when they were made."""
    axes = [axis for axis, size in enumerate(seen.shape) if size > 1]
    varying = [axis for axis in axes if bool((seen != seen.narrow(axis, 0, 1)).any())]
    if not varying:
        return Mark(mark.source, None, mark.lost)
    for axis in reversed(varying):
        # heads of channels, taken apart and put together: every run of as many as one of them has is arranged alike
        run = min(seen.shape[axis], count)
        steps = torch.arange(seen.shape[axis], device=seen.device).view([-1] + [1] * (seen.dim() - axis - 1))
        behind = seen - steps
        alike = bool((behind == behind.flatten()[0]).all()) or not bool((behind % run).any())
        if seen.shape[axis] <= max(count, most) and alike:
            return Mark(mark.source, axis, mark.lost)
    shuffled = len(varying) == 1 and seen.shape[varying[0]] <= max(count, most)
    return Mark(mark.source, None, "a shuffle of channels" if shuffled else name)


def sizes_laid_out(tensor: Tensor, mark: Mark, name: str, seen: Tensor) -> tuple[int, ...]:
    """The sizes of maps that were laid out in a line, channel after channel, each row by row; else nothing."""
    whole = tensor.dim() in (3, 4, 5) and mark.dim == 1 and name in ("flatten", "view", "reshape")
    line = tensor.shape[1:].numel()
    return tuple(tensor.shape[2:]) if whole and seen.shape == (tensor.shape[0], line) else ()


def is_turned(tensor: Tensor, outputs: list[Tensor]) -> bool:
    """Whether an attribute is the tensor with its axes exchanged, and no part of its numbers."""
    return any(output.dtype == tensor.dtype and output.shape != tensor.shape for output in outputs)


def is_blur(name: str, args: Any, kwargs: Any) -> bool:
    """Whether a function convolves each channel by itself, with numbers that are not learnt."""
    if name not in ("conv1d", "conv2d", "conv3d") or len(args) < 2:
        return False
    x, weight = args[:2]
    groups = kwargs.get("groups", args[6] if len(args) > 6 else 1)
    return groups == x.shape[-weight.dim() + 1] == weight.shape[0] and not weight.requires_grad


def zeros_around(name: str, args: Any, kwargs: Any) -> tuple[tuple[int, int], ...] | None:
    """How many zeros a function pads with before and after, per axis of positions; None where it does anything else.

    Padding that is alike on both sides along every axis mirrors by itself.
    """
    if name != "pad":
        return None
    more = dict(zip(("pad", "mode", "value"), args[1:], strict=False)) | kwargs
    sides, rank = list(more["pad"]), args[0].dim() - 2
    pairs = tuple(zip(sides[::2], sides[1::2], strict=True))
    lopsided = any(before != after for before, after in pairs)
    if more.get("mode", "constant") != "constant" or more.get("value") or min(sides) < 0 or not lopsided:
        return None
    return ((0, 0),) * (rank - len(pairs)) + pairs[::-1] if len(pairs) <= rank else None
