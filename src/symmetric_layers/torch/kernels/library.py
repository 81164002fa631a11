"""The compiled kernel: found, loaded and called. Absent without harm; `missing()` says why.

The kernel writes its answers folded: sums and differences of mirrored pixels are formed once for all filters.
`native/` has the source, `README.md` the algebra.
"""

import ctypes
import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import symmetric_layers.torch.kernels as home
from symmetric_layers.torch.kernels.geometry import Geometry

_Three = ctypes.c_int64 * 3
_LANES = {"avx512": 16, "avx2": 8, "baseline": 4}  # floats in a vector of every instruction set, the best one first
_BUDGET = 400 * 1024  # bytes that one thread folds into
_ALONE = 100_000  # products that one thread has made before another one has begun
_KEPT, _KEPT_SHORT = 2 * 1024**2, 16 * 1024**2  # bytes of an answer that stay in the caches, as `_caches` says


class Task(ctypes.Structure):
    """What a call has to do; `native/task.h` says the same to the compiler."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("mode", "kind", "batch", "inputs", "outputs")),
        *((name, _Three) for name in ("size", "answer", "kernel", "stride", "dilation", "padding", "stored", "before")),
        *(("in_batch", ctypes.c_int64), ("in_channel", ctypes.c_int64), ("in_position", _Three)),
        *(("out_batch", ctypes.c_int64), ("out_channel", ctypes.c_int64), ("out_position", _Three)),
        *(("spacing", _Three), ("phase", _Three * 8), ("margin", _Three), ("written", _Three)),
        *((name, ctypes.c_int64) for name in ("filter_stride", "channel_stride", "tap_stride", "transposed", "add")),
        *((name, ctypes.c_int64) for name in ("threads", "budget", "caches")),
    ]


class Pool(ctypes.Structure):
    """What max pooling on the mirrored grid has to do; `native/pools.h` says the same to the compiler."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("batch", "channels", "classes")),
        *((name, _Three) for name in ("size", "answer", "kernel", "stride", "dilation")),
        *((name, _Three * 8) for name in ("first", "backward")),
        *(("in_batch", ctypes.c_int64), ("in_channel", ctypes.c_int64), ("in_position", _Three)),
        *(("out_batch", ctypes.c_int64), ("out_channel", ctypes.c_int64), ("out_position", _Three)),
        ("threads", ctypes.c_int64),
    ]


@lru_cache(maxsize=1)
def _library() -> ctypes.CDLL | None:
    for folder in home.__path__:
        for path in sorted(Path(folder).glob("libsymmetric_cpu.*")):
            library = ctypes.CDLL(str(path))
            return library if _agrees(library) else None  # else it was compiled from other sources than these
    return None


def _agrees(library: ctypes.CDLL) -> bool:
    sizes = {"symmetric_task_size": Task, "symmetric_pool_size": Pool}
    return all(hasattr(library, name) and getattr(library, name)() == ctypes.sizeof(own) for name, own in sizes.items())


@lru_cache(maxsize=1)
def instruction_sets() -> tuple[str, ...]:
    """The instruction sets that were compiled and that this processor has, the best one first."""
    library = _library()
    return tuple(name for name in _LANES if library is not None and _has(library, name))


def _has(library: ctypes.CDLL, name: str) -> bool:
    return hasattr(library, f"symmetric_room_{name}") and bool(library.symmetric_can(name.encode()))


def lanes() -> int:
    """How many floats one instruction works on, on this processor."""
    sets = instruction_sets()
    return _LANES[sets[0]] if sets else _LANES["baseline"]


def _caches() -> int:
    """Bytes of an answer that stay in the caches; larger ones are written past them.

    Measured in layers that follow each other, where two second caches have 2 MB and the last one 32: vectors as long
    as a cache line go past them at little cost, others do not.
    """
    return _KEPT if lanes() == 16 else _KEPT_SHORT


@torch.compiler.assume_constant_result
def missing() -> str | None:
    """Why there is no compiled kernel, as a clause; None where there is one."""
    if instruction_sets():
        return None
    return "the package was installed without its compiled kernel (a C++ compiler was missing)"


def _write(task: Task, geometry: Geometry) -> None:
    task.size, task.answer = _three(geometry.sizes, 1), _three(geometry.answer, 1)
    task.kernel, task.stride = _three(geometry.kernel_size, 1), _three(geometry.stride, 1)
    task.dilation, task.padding = _three(geometry.dilation, 1), _three(geometry.padding, 0)
    task.spacing, task.written = _three((), 1), task.answer


def new_pool(x: Tensor, y: Tensor, windows: Sequence[Sequence[int]], classes: int, threads: int) -> Pool:
    """Pooling of pictures x into pictures y; where classes have their first windows is left to fill in.

    Args:
        windows: their sizes, the strides between them, and the dilation of their taps.
    """
    pool = Pool(batch=x.shape[0], channels=x.shape[1], classes=classes, threads=threads)
    pool.size, pool.answer = _three(x.shape[2:], 1), _three(y.shape[2:], 1)
    pool.kernel, pool.stride, pool.dilation = (_three(numbers, 1) for numbers in windows)
    _point(pool, "in", x)
    _point(pool, "out", y)
    return pool


def _three(numbers: Sequence[int], fill: int) -> ctypes.Array:
    return _Three(*[fill] * (3 - len(numbers)), *numbers)


@lru_cache(maxsize=1024)
def array(numbers: tuple[int, ...]) -> ctypes.Array:
    """The numbers as C sees them."""
    return (ctypes.c_int32 * len(numbers))(*numbers)


def _point(task: Task | Pool, prefix: str, x: Tensor) -> None:
    setattr(task, f"{prefix}_batch", x.stride(0))
    setattr(task, f"{prefix}_channel", x.stride(1))
    setattr(task, f"{prefix}_position", _three(x.stride()[2:], 0))


def new_task(
    geometry: Geometry, x: Tensor, y: Tensor, weight: Tensor, threads: int, before: Sequence[int] = ()
) -> Task:
    """A task that reads pictures x and gives pictures y; mode, kind and channels are left to fill in.

    Filters are contiguous or have their channels last. One thread does what is small.

    Args:
        geometry: of the convolution; where its filters are wider than `weight`, the rest is zero.
        x, y: pictures.
        weight: the stored filters.
        threads: how many there may be.
        before: how many zeros stand before a stored filter, per axis; nothing where there are none.
    """
    products = x.shape[0] * math.prod(geometry.answer) * weight.numel()
    task = Task(batch=x.shape[0], threads=threads if products > _ALONE else 1, budget=_BUDGET, caches=_caches())
    _write(task, geometry)
    task.stored, task.before = _three(weight.shape[2:], 1), _three(before or [0] * len(geometry.sizes), 0)
    _point(task, "in", x)
    _point(task, "out", y)
    channels, taps = weight.shape[1], weight.shape[2:].numel()
    task.filter_stride = channels * taps  # not its own strides: those of axes with one place may be anything
    task.channel_stride, task.tap_stride = (taps, 1) if weight.is_contiguous() else (1, channels)
    return task


def space(
    task: Task, spacing: Sequence[int], phase: Sequence[Sequence[int]], margin: Sequence[int], written: Sequence[int]
) -> None:
    """Has the answers of a task written a few places apart, and made by taps so far apart.

    Args:
        task: that writes into pictures whose sizes are `written`.
        spacing: how far, per axis.
        phase: of every member, the first of these taps.
        margin: how far before the place of that tap the first answer lies.
        written: the sizes.
    """
    task.spacing, task.margin, task.written = _three(spacing, 1), _three(margin, 0), _three(written, 1)
    for member, first in enumerate(phase):
        task.phase[member] = _three(first, 0)


def run(
    verb: str, task: Task | Pool, places: Sequence[int | None], orders: Sequence[ctypes.Array], set: str = ""
) -> None:
    """Calls the kernel: `'answer'` with x, weight, bias, y and a room for filters, `'learn'` with x, gradients,
    gradients of the weight, `'pool'` with x, y, or `'unpool'` with x, gradients, gradients of x.

    Args:
        verb: what is asked for.
        task: what it is.
        places: where in memory the tensors begin; None for no bias, or for no room.
        orders: member after member, the channels of input and output that belong together; of a pool, the class of
            every channel.
        set: of instructions; the best one where nothing is said.
    """
    if _function(_library(), verb, set or instruction_sets()[0])(task, *places, *orders):
        raise MemoryError("The fused kernel found no memory for its scratch.")


def room_for(task: Task, orders: Sequence[ctypes.Array]) -> int:
    """How many numbers the kernel keeps of the filters that it answers with, for the next call like this one."""
    return int(_function(_library(), "room", instruction_sets()[0])(task, *orders))


_ARGUMENTS = {
    "answer": (Task, 5, 2),
    "room": (Task, 0, 2),
    "learn": (Task, 3, 2),
    "pool": (Pool, 2, 1),
    "unpool": (Pool, 3, 1),
}  # what is done, how many tensors, how many orders


@lru_cache(maxsize=64)
def _function(library: ctypes.CDLL, verb: str, set: str) -> Any:
    told, tensors, orders = _ARGUMENTS[verb]
    function = getattr(library, f"symmetric_{verb}_{set}")
    function.restype = ctypes.c_int64
    function.argtypes = [ctypes.POINTER(told), *[ctypes.c_void_p] * (tensors + orders)]
    return function
