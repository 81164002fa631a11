"""What a model is asked and what it answers: trees of tensors, mirrored and compared."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from symmetric_layers.letters import LETTERS, axes
from symmetric_layers.orbits import Plan, plan

Tree = Any  # a tensor, or a mapping or sequence of trees

_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}


def usual_tolerance(tensor: Tensor) -> float:
    """The relative deviation that rounding may cause in numbers of this type, generously."""
    return _TOLERANCE.get(tensor.dtype, 5e-2)


def call(model: Callable[..., Tree], x: Tree) -> Tree:
    """Calls a model with a tensor, a tuple of arguments or a dict of keyword arguments."""
    if isinstance(x, Mapping):
        return model(**x)
    return model(*x) if isinstance(x, (tuple, list)) else model(x)


def call_alike(model: Callable[..., Tree], x: Tree) -> Tree:
    """The same with the same random numbers every time; the caller puts the old ones back."""
    torch.manual_seed(0)
    return call(model, x)


def tensors(tree: Tree, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """All tensors of numbers in a tensor, mapping or sequence, with names like `'logits'` and `'1.0'`."""
    if isinstance(tree, Tensor):
        yield name, tree
    elif isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from tensors(value, f"{name}.{key}" if name else str(key))
    elif isinstance(tree, (tuple, list)):
        for index, value in enumerate(tree):
            yield from tensors(value, f"{name}.{index}" if name else str(index))


def mapped(tree: Tree, change: Callable[[Tensor], Tensor]) -> Tree:
    """The same tree with every tensor changed."""
    if isinstance(tree, Tensor):
        return change(tree)
    if isinstance(tree, Mapping):
        return {key: mapped(value, change) for key, value in tree.items()}
    if isinstance(tree, (tuple, list)):
        return tuple(mapped(value, change) for value in tree)
    return tree


def mirrored(x: Tree, rank: int, letter: str, symmetry: Mapping[str, int | str] | None = None) -> Tree:
    """The inputs seen in a mirror: pictures read backwards along the letter, their channels exchanged."""

    def change(tensor: Tensor) -> Tensor:
        picture = tensor.flip(axes(letter)) if rank and tensor.dim() == rank + 2 else tensor
        if not symmetry or tensor.dim() not in (2, rank + 2):
            return picture
        return exchanged(picture, bank(symmetry, tensor.shape[1]), letter, 1)

    return mapped(x, change)


def bank(symmetry: Mapping[str, int | str], channels: int) -> Plan:
    """The plan of so many channels, in any dimension."""
    return plan(symmetry, channels, len(LETTERS))


def exchanged(tensor: Tensor, arrangement: Plan, letter: str, dim: int) -> Tensor:
    """The channels along `dim`, exchanged with their mirrors."""
    return tensor.index_select(dim, torch.tensor(arrangement.exchange(letter), device=tensor.device))


def difference(expected: Tensor, answer: Tensor) -> tuple[float, float]:
    """The largest absolute deviation, and the same over the largest value expected; infinite where shapes differ."""
    if expected.shape != answer.shape:
        return float("inf"), float("inf")
    if not expected.numel():
        return 0.0, 0.0
    if not expected.is_floating_point():
        expected, answer = expected.double(), answer.double()
    absolute = float((expected - answer).abs().max())
    if absolute != absolute:
        return float("inf"), float("inf")
    return absolute, absolute / max(float(expected.abs().max()), 1e-300)


_DROPOUT = {"dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout", "dropout_"}


class _Still(TorchFunctionMode):
    """Dropout drops nothing while this is on."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Passes calls on, but for those of dropout."""
        if getattr(func, "__name__", "") in _DROPOUT:
            return args[0] if args else (kwargs or {})["input"]
        return func(*args, **(kwargs or {}))


@contextmanager
def undisturbed(model: Any) -> Iterator[None]:
    """Puts buffers and random numbers back afterwards, and holds dropout still."""
    buffers = list(model.named_buffers()) if isinstance(model, nn.Module) else []
    before = [buffer.detach().clone() for _, buffer in buffers]
    with torch.random.fork_rng(devices=[]), torch.no_grad(), _Still():
        try:
            yield
        finally:
            for (_, buffer), value in zip(buffers, before, strict=True):
                buffer.copy_(value)
