"""The marks that tensors carry while a model is followed."""

from torch import Tensor

from symmetric_layers.sets import Mark


def mark_of(tensor: Tensor) -> Mark | None:
    """The mark that a tensor carries."""
    return getattr(tensor, "_channels_of", None)


def set_mark(tensor: Tensor, mark: Mark) -> None:
    """Gives it one."""
    tensor._channels_of = mark  # type: ignore[attr-defined]
