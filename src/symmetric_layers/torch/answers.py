"""What a model is asked and what it answers: trees of tensors, mirrored and compared."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from symmetric_layers.errors import SymmetryError
from symmetric_layers.letters import LETTERS, axes
from symmetric_layers.orbits import Plan, plan
from symmetric_layers.torch.doubles import Doubles, in_doubles, or_without, really

Tree = Any  # a tensor, or a mapping, sequence or dataclass of trees

_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.complex128: 1e-9, torch.complex64: 1e-4}


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
    """All tensors of numbers in a tensor, mapping, sequence or dataclass, with names like `'logits'` and `'1.0'`."""
    if isinstance(tree, Tensor):
        yield name, tree
    for key, value in _parts(tree):
        yield from tensors(value, f"{name}.{key}" if name else str(key))


def _parts(tree: Tree) -> list[tuple[Any, Tree]]:
    if isinstance(tree, Mapping):
        return list(tree.items())
    if isinstance(tree, (tuple, list)):
        return list(enumerate(tree))
    return [(key, getattr(tree, key)) for key in _fields(tree)]


def _fields(tree: Tree) -> list[str]:
    is_one = dataclasses.is_dataclass(tree) and not isinstance(tree, type)
    return [field.name for field in dataclasses.fields(tree) if hasattr(tree, field.name)] if is_one else []


def answered(answer: Tree) -> dict[str, Tensor]:
    """The tensors of a model's answer, by name; refused where there are none, which nobody could mirror."""
    found = dict(tensors(answer))
    if not found:
        raise SymmetryError(
            f"model: its answer, of type {type(answer).__name__!r}, holds no tensors that can be mirrored. "
            "Expected tensors, in sequences, mappings or dataclasses. Answer with these, or wrap the model in a module "
            "that does."
        )
    return found


def mapped(tree: Tree, change: Callable[[Tensor], Tensor]) -> Tree:
    """The same tree with every tensor changed."""
    if isinstance(tree, Tensor):
        return change(tree)
    if isinstance(tree, Mapping):
        return {key: mapped(value, change) for key, value in tree.items()}
    if isinstance(tree, (tuple, list)):
        return tuple(mapped(value, change) for value in tree)
    if _fields(tree):
        parts = [field.name for field in dataclasses.fields(tree) if field.init]
        return dataclasses.replace(tree, **{name: mapped(getattr(tree, name), change) for name in parts})
    return tree


def mirrored(x: Tree, rank: int, letter: str, symmetry: Mapping[str, int | str] | None = None) -> Tree:
    """The inputs seen in a mirror: pictures read backwards along the letter, their channels exchanged.

    Pictures have channels; what has none (a mask) is one where it is as large as a picture beside it. In 1-D numbers
    could as well be features, so that only other masks are.
    """
    sizes = {tensor.shape[2:] for _, tensor in tensors(x) if tensor.dim() == rank + 2}

    def change(tensor: Tensor) -> Tensor:
        is_mask = tensor.dim() == rank + 1 and tensor.shape[1:] in sizes
        is_picture = tensor.dim() == rank + 2 or (is_mask and (rank > 1 or not tensor.is_floating_point()))
        picture = tensor.flip(axes(letter)) if rank and is_picture else tensor
        if not symmetry or tensor.dim() not in (2, rank + 2):
            return picture
        return exchanged(picture, bank(symmetry, tensor.shape[1]), letter, 1)

    return mapped(x, change)


def pictures(x: Tree, rank: int) -> list[Tensor]:
    """The inputs that are pictures: those with as many axes as any."""
    return [tensor for _, tensor in tensors(x) if tensor.dim() == rank + 2]


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
    if not (expected.is_floating_point() or expected.is_complex()):
        expected, answer = expected.double(), answer.double()
    absolute = float((expected - answer).abs().max())
    if absolute != absolute:
        return float("inf"), float("inf")
    return absolute, absolute / max(float(expected.abs().max()), 1e-300)


_DROPOUT = {"dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout", "dropout_"}
_INSIDE = {  # functions that drop something on their way: where they are told how much
    "multi_head_attention_forward": (10, "dropout_p"),
    "scaled_dot_product_attention": (4, "dropout_p"),
}
_DRAWS = {
    "randn", "randn_like", "rand", "rand_like", "normal", "normal_", "uniform_", "bernoulli", "bernoulli_",
    "exponential_", "cauchy_", "log_normal_", "geometric_", "poisson",
}  # fmt: skip


class _Still(TorchFunctionMode):
    """Dropout drops nothing while this is on, and noise is one number everywhere: no mirror could turn a draw."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Passes calls on, but for those of dropout and noise."""
        name, kwargs = getattr(func, "__name__", ""), kwargs or {}
        if name in _DROPOUT:
            return args[0] if args else kwargs["input"]
        if name in _INSIDE:
            place, argument = _INSIDE[name]
            args = (*args[:place], 0.0, *args[place + 1 :]) if len(args) > place else args
            kwargs = {**kwargs, argument: 0.0} if argument in kwargs else kwargs
        if name == "rrelu":  # its slopes are drawn while it trains
            args, kwargs = args[:3], {key: value for key, value in kwargs.items() if key != "training"}
        answer = func(*args, **kwargs)
        if name in _DRAWS and isinstance(answer, Tensor) and answer.is_floating_point() and answer.numel():
            answer.fill_(answer.median())
        return answer


def asked(model: Callable[..., Tree], x: Tree) -> dict[str, Tensor]:
    """The tensors that a model answers, by name, in an undisturbed run; in doubles as far as it bears that."""

    def run(doubles: bool) -> dict[str, Tensor]:
        with undisturbed(model, x, doubles):
            return {name: really(tensor) for name, tensor in answered(call_alike(model, x)).items()}

    return or_without(run)


@contextmanager
def undisturbed(model: Any, x: Tree = (), doubles: bool = True) -> Iterator[None]:
    """Puts buffers and random numbers back afterwards, holds dropout and noise still, and leaves doubles doubles."""
    precision = Doubles() if doubles and in_doubles(model, [tensor for _, tensor in tensors(x)]) else nullcontext()
    buffers = list(model.named_buffers()) if isinstance(model, nn.Module) else []
    before = [buffer.detach().clone() for _, buffer in buffers]
    with torch.random.fork_rng(devices=[]), torch.no_grad(), _Still(), precision:
        try:
            yield
        finally:
            for (_, buffer), value in zip(buffers, before, strict=True):
                buffer.copy_(value)
