"""What a network of doubles computes in single precision, computed in double precision instead."""

from types import TracebackType
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_RAISED = {
    torch.float32: torch.float64, torch.float16: torch.float64, torch.bfloat16: torch.float64,
    torch.complex64: torch.complex128, torch.complex32: torch.complex128,
}  # fmt: skip
_DOUBLE = (torch.float64, torch.complex128)
_CASTS = {"float": "double", "half": "double", "bfloat16": "double", "cfloat": "cdouble", "chalf": "cdouble"}
_NAMES = ("FloatTensor", "HalfTensor", "BFloat16Tensor")  # what `tensor.type` is told, too
_BITS = ("view", "frombuffer")  # read the same bits as numbers of another type: no conversion
_WRITE = ("__setitem__", "__iadd__", "__isub__", "__imul__", "__itruediv__")


class Doubles(TorchFunctionMode):
    """While this is on, doubles stay doubles: casts to single and half precision, as of softmax and norms, make none.

    Rounding to single precision deviates from the law by 1e-7, and so would hide small breaches, or look like one.

    Args:
        constants: whether numbers that come from no double, as `torch.arange(9).float()`, are made in double precision
            as well. What a model keeps of these anywhere but in itself stays double afterwards.
    """

    def __init__(self, constants: bool = False) -> None:
        super().__init__()
        self.constants, self._usual = constants, torch.get_default_dtype()

    def __enter__(self) -> "Doubles":
        self._usual = torch.get_default_dtype()
        if self.constants:
            torch.set_default_dtype(torch.float64)
        super().__enter__()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        super().__exit__(kind, error, trace)
        if self.constants:
            torch.set_default_dtype(self._usual)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Passes calls on, with double precision in the place of less."""
        name, kwargs = getattr(func, "__name__", ""), kwargs or {}
        if name == "__get__":  # an attribute: thousands of them
            return func(*args, **kwargs)
        dtypes = {tensor.dtype for tensor in _tensors([args, kwargs])}
        double = not dtypes.isdisjoint(_DOUBLE)
        if double and not dtypes.isdisjoint(_RAISED):  # a matrix product would take no two types
            first = 1 if name in _WRITE or (name.endswith("_") and not name.endswith("__")) else 0
            args = (*args[:first], *_changed(args[first:]))
            kwargs = {key: value if key == "out" else _changed(value) for key, value in kwargs.items()}
        if name in _BITS or not (double or self.constants):
            return func(*args, **kwargs)
        if name in _CASTS:
            return _written_anew(getattr(Tensor, _CASTS[name])(*args, **kwargs), args)
        given = [*args, *kwargs.values()]
        told = [_told(name, value) for value in given]
        answer = func(*told[: len(args)], **dict(zip(kwargs, told[len(args) :], strict=True)))
        same = all(new is old for new, old in zip(told, given, strict=True))
        return answer if same else _written_anew(answer, args)


def _written_anew(answer: Any, args: tuple[Any, ...]) -> Any:
    """A cast's answer, which may be written into: a copy where the cast became none."""
    return answer.clone() if isinstance(answer, Tensor) and answer is args[0] else answer


def _told(name: str, value: Any) -> Any:
    """An argument of a call, or double precision where it names a type of less."""
    if isinstance(value, torch.dtype):
        return _RAISED.get(value, value)
    is_name = name == "type" and isinstance(value, (str, type)) and not isinstance(value, Tensor)
    word = (value if isinstance(value, str) else value.__name__) if is_name else ""
    return torch.float64 if word.rpartition(".")[2] in _NAMES else value


def _tensors(tree: Any) -> list[Tensor]:
    """All tensors among the arguments of a call."""
    if isinstance(tree, Tensor):
        return [tree]
    parts = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, (list, tuple)) else ()
    return [tensor for part in parts if not isinstance(part, (int, float, str)) for tensor in _tensors(part)]


def _changed(tree: Any) -> Any:
    """The same arguments, with tensors of less precision in double precision."""
    if isinstance(tree, Tensor):
        return tree.to(_RAISED.get(tree.dtype, tree.dtype))
    if type(tree) in (list, tuple):
        return type(tree)(_changed(part) for part in tree)
    return tree


def in_doubles(model: Any, x: list[Tensor]) -> bool:
    """Whether a network, and what it is given, are in double precision as far as they are no whole numbers."""
    state = (*model.parameters(), *model.buffers()) if isinstance(model, torch.nn.Module) else ()
    dtypes = {tensor.dtype for tensor in (*state, *x)}
    return not dtypes.isdisjoint(_DOUBLE) and dtypes.isdisjoint(_RAISED)
