"""The marks that tensors carry while a model is followed."""

from typing import Any

from torch import Tensor

from symmetric_layers.sets import Mark


def mark_of(tensor: Tensor) -> Mark | None:
    """The mark that a tensor carries."""
    return getattr(tensor, "_channels_of", None)


def set_mark(tensor: Tensor, mark: Mark) -> None:
    """Gives it one."""
    tensor._channels_of = mark  # type: ignore[attr-defined]


def padding_of(tensor: Tensor) -> Any:
    """How many zeros it was padded with before and after, per axis, just now: by a function, or (False) a module."""
    pads, by_function, version = getattr(tensor, "_padded_with", (None, True, -1))
    return (pads, by_function) if version == _written(tensor) else None  # else it was written into


def set_padding(tensor: Tensor, pads: Any, by_function: bool) -> None:
    """Notes that."""
    tensor._padded_with = pads, by_function, _written(tensor)  # type: ignore[attr-defined]


def _written(tensor: Tensor) -> int:
    """How often it was written into, as far as that is counted."""
    return 0 if tensor.is_inference() else tensor._version


def numbers_in(tensor: Tensor) -> tuple[Tensor, int] | None:
    """The number of its channel in every place, and how many there are, where they stand along no axis of their own."""
    return getattr(tensor, "_channel_numbers", None)


def set_numbers(tensor: Tensor, numbers: Tensor, count: int) -> None:
    """Notes these."""
    tensor._channel_numbers = numbers, count  # type: ignore[attr-defined]
