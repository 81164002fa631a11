"""What a network of doubles computes in single precision, computed in double precision instead."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from symmetric_layers.errors import SymmetryError

_RAISED = {
    torch.float32: torch.float64, torch.float16: torch.float64, torch.bfloat16: torch.float64,
    torch.complex64: torch.complex128, torch.complex32: torch.complex128,
}  # fmt: skip
_DOUBLE = (torch.float64, torch.complex128)
_CASTS = {"float": "double", "half": "double", "bfloat16": "double", "cfloat": "cdouble", "chalf": "cdouble"}
_TYPES = {
    "float": torch.float32, "half": torch.float16, "bfloat16": torch.bfloat16,
    "cfloat": torch.complex64, "chalf": torch.complex32,
}  # fmt: skip
_NAMES = {  # what `tensor.type` is told, too
    "FloatTensor": torch.float32, "HalfTensor": torch.float16, "BFloat16Tensor": torch.bfloat16,
    "DoubleTensor": torch.float64,
}  # fmt: skip
_ASKED = "_asked_for"  # a tensor's attribute: the type that it would have
_BITS = ("view", "frombuffer")  # read the same bits as numbers of another type: no conversion
_CONVERT = (*_CASTS, "double", "cdouble", "to", "type", "type_as")
_WRITE = ("__setitem__", "__iadd__", "__isub__", "__imul__", "__itruediv__")

_ON: list["Doubles"] = []
_Answer = TypeVar("_Answer")


class Doubles(TorchFunctionMode):
    """While this is on, doubles stay doubles: casts to single and half precision, as of softmax and norms, make none.

    Rounding to single precision deviates from the law by 1e-7, and so would hide small breaches, or look like one.
    Asked for their `dtype`, what was cast and what is computed from that alone name the type that they would have.

    Args:
        constants: whether numbers that come from no double, as `torch.arange(9).float()`, are made in double precision
            as well. What a model keeps of these anywhere but in itself stays double afterwards.
    """

    changes = 0  # calls that were told or given double precision instead of less, of all times

    def __init__(self, constants: bool = False) -> None:
        super().__init__()
        self.constants, self.off, self.usual = constants, False, torch.get_default_dtype()

    def __enter__(self) -> "Doubles":
        self.usual = torch.get_default_dtype()
        if self.constants:
            torch.set_default_dtype(torch.float64)
        super().__enter__()
        _ON.append(self)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        _ON.remove(self)
        super().__exit__(kind, error, trace)
        if self.constants:
            torch.set_default_dtype(self.usual)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Passes calls on, with double precision in the place of less."""
        name, kwargs = getattr(func, "__name__", ""), kwargs or {}
        if self.off:
            return func(*args, **kwargs)
        if name == "__get__":  # an attribute: thousands of them
            asked = getattr(args[0], _ASKED, None)
            if asked and func.__self__ is Tensor.dtype:
                return asked
            return _marked(func(*args), asked, [], False) if asked else func(*args, **kwargs)
        given = _tensors([args, kwargs])
        dtypes = {_dtype(tensor) for tensor in given}
        double = not dtypes.isdisjoint(_DOUBLE)
        if double and not dtypes.isdisjoint(_RAISED):  # a matrix product would take no two types
            Doubles.changes += 1
            first = 1 if name in _WRITE or (name.endswith("_") and not name.endswith("__")) else 0
            args = (*args[:first], *_changed(args[first:]))
            kwargs = {key: value if key == "out" else _changed(value) for key, value in kwargs.items()}
        if name in _BITS or not (double or self.constants):
            return func(*args, **kwargs)
        asked = _asked(name, args, kwargs, given)
        Doubles.changes += asked is not None
        if name in _CASTS:
            answer = getattr(Tensor, _CASTS[name])(*args, **kwargs)
        else:
            told = [_told(name, value) for value in args]
            answer = func(*told, **{key: _told(name, value) for key, value in kwargs.items()})
        return _marked(answer, asked, given, name in _CONVERT)


def _dtype(tensor: Tensor) -> torch.dtype:
    """The type that a tensor really has, also where others name the one that was asked for."""
    return _RAISED.get(tensor.dtype, tensor.dtype) if hasattr(tensor, _ASKED) else tensor.dtype


def _asked(name: str, args: tuple[Any, ...], kwargs: dict[str, Any], given: list[Tensor]) -> torch.dtype | None:
    """The type of less precision that the answer of a call would have, or None."""
    if name in _CASTS:
        return _TYPES[name]
    named = [value for value in (*args[1:], *kwargs.values()) if _type(name, value) is not None]
    if named:
        asked = _type(name, named[0])
        return asked if asked in _RAISED else None
    if name in ("double", "cdouble"):
        return None
    others = given[1:] if name in ("to", "type_as") and len(given) > 1 else given
    found = {getattr(tensor, _ASKED, None) for tensor in others if _dtype(tensor) in _DOUBLE}
    return found.pop() if len(found) == 1 else None


def _marked(answer: Any, asked: torch.dtype | None, given: list[Tensor], converts: bool) -> Any:
    """The answer of a call, which knows what was asked for; a copy where a cast became none, to be written into."""
    if isinstance(answer, (tuple, list)):
        for part in answer:
            _marked(part, asked, given, False)
    if not isinstance(answer, Tensor) or answer.dtype not in (*_DOUBLE, *_RAISED):
        return answer
    known = any(answer is tensor for tensor in given)
    if known and converts and asked != getattr(answer, _ASKED, None):
        answer, known = answer.clone(), False
    if asked is not None and not known and _dtype(answer) is _RAISED[asked]:
        setattr(answer, _ASKED, asked)
    return answer


def _type(name: str, value: Any) -> torch.dtype | None:
    """The type of numbers that an argument of a call names, if any."""
    if isinstance(value, torch.dtype):
        return value
    is_name = name == "type" and isinstance(value, (str, type)) and not isinstance(value, Tensor)
    word = (value if isinstance(value, str) else value.__name__) if is_name else ""
    return _NAMES.get(word.rpartition(".")[2])


def _told(name: str, value: Any) -> Any:
    """An argument of a call, or double precision where it names a type of less."""
    named = _type(name, value)
    return value if named is None else _RAISED.get(named, value)


def _tensors(tree: Any) -> list[Tensor]:
    """All tensors among the arguments of a call."""
    if isinstance(tree, Tensor):
        return [tree]
    parts = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, (list, tuple)) else ()
    return [tensor for part in parts if not isinstance(part, (int, float, str)) for tensor in _tensors(part)]


def _changed(tree: Any) -> Any:
    """The same arguments, with tensors of less precision in double precision."""
    if isinstance(tree, Tensor):
        return tree.to(_RAISED[tree.dtype]) if _dtype(tree) in _RAISED else tree
    if type(tree) in (list, tuple):
        return type(tree)(_changed(part) for part in tree)
    return tree


def in_doubles(model: Any, x: list[Tensor]) -> bool:
    """Whether a network, and what it is given, are in double precision as far as they are no whole numbers."""
    state = (*model.parameters(), *model.buffers()) if isinstance(model, torch.nn.Module) else ()
    dtypes = {tensor.dtype for tensor in (*state, *x)}
    return not dtypes.isdisjoint(_DOUBLE) and dtypes.isdisjoint(_RAISED)


def really(tensor: Tensor) -> Tensor:
    """The same numbers, which name the type that they are of: to be measured with its precision."""
    if not hasattr(tensor, _ASKED):
        return tensor
    with put_off():
        return tensor.detach()


@contextmanager
def put_off() -> Iterator[None]:
    """Casts are casts meanwhile, and constants of the usual type."""
    before, inside = torch.get_default_dtype(), [mode for mode in _ON if not mode.off]
    if inside:
        torch.set_default_dtype(inside[0].usual)
    for mode in inside:
        mode.off = True
    try:
        yield
    finally:
        for mode in inside:
            mode.off = False
        torch.set_default_dtype(before)


def or_without(run: Callable[[bool], _Answer]) -> _Answer:
    """What a run answers that is told whether doubles are to stay doubles: no longer where it raises only if they do.

    Functions that know no doubles raise then: those of quantized numbers, and of the bits of a number.
    """
    before = Doubles.changes
    try:
        return run(True)
    except SymmetryError:
        raise
    except Exception:
        if Doubles.changes == before and not any(mode.constants for mode in _ON):
            raise
        with put_off():
            try:
                return run(False)
            except Exception:
                pass
        raise
