"""Products of pictures with pictures, as in attention: which axes are summed, which are left, and which count channels.

Where channels meet channels, none are left; where a plain matrix weighs them, they are lost.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from symmetric_layers.sets import Sets
from symmetric_layers.torch.convert.marks import mark_of, set_mark

_MATRICES = {"matmul", "bmm", "__matmul__", "__rmatmul__"}
Axes = list[str]  # a name for every axis of a tensor; axes of one name go together


def is_product(name: str, args: Any, marked: Sequence[Tensor]) -> bool:
    """Whether these are products that are followed: of pictures, not of matrices that a model has learnt."""
    if any(isinstance(tensor, nn.Parameter) and sum(size > 1 for size in tensor.shape) > 1 for tensor in marked):
        return False
    if name == "einsum":
        return bool(args) and isinstance(args[0], str)
    if name not in _MATRICES and name not in ("baddbmm", "scaled_dot_product_attention"):
        return False
    return all(value.dim() > 1 for value in args if isinstance(value, Tensor))


def multiply(sets: Sets, name: str, args: Any, given: list[Tensor], output: Tensor) -> None:
    """Marks the answer of a product."""
    if name == "einsum":
        terms, answer = _terms(args[0], [tensor.dim() for tensor in given])
        _contract(sets, name, given, terms, answer, output)
    elif name == "scaled_dot_product_attention":
        query, key, value = given[:3]
        weights = query.new_empty((*query.shape[:-1], key.shape[-2]))
        _contract(sets, name, [query, key], [_axes(query, "nc"), _axes(key, "mc")], _axes(query, "nm"), weights)
        _contract(sets, name, [weights, value], [_axes(weights, "nm"), _axes(value, "mc")], _axes(output, "nc"), output)
    else:
        one, other = given[-2:]
        _contract(sets, name, [one, other], [_axes(one, "nm"), _axes(other, "mk")], _axes(output, "nk"), output)


def _axes(tensor: Tensor, last: str) -> Axes:
    """The names of the axes of a stack of matrices."""
    return [f"batch {place}" for place in range(tensor.dim() - len(last), 0, -1)] + list(last)


def _terms(equation: str, ranks: list[int]) -> tuple[list[Axes], Axes]:
    """The names of all axes in an equation like `'bchw,bc->bhw'`."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    written = left.split(",")
    open_axes = max(
        (rank - len(term) + 3 for rank, term in zip(ranks, written, strict=True) if "..." in term), default=0
    )
    terms = [_named(term, rank - len(term) + 3) for term, rank in zip(written, ranks, strict=True)]
    letters = left.replace(",", "").replace("...", "")
    once = "".join(sorted(letter for letter in set(letters) if letters.count(letter) == 1))
    return terms, _named(right if arrow else "." * (3 if "..." in left else 0) + once, open_axes)


def _named(term: str, more: int) -> Axes:
    """An axis for every letter, and as many as are left for the dots, counted from the last one."""
    before, dots, after = term.partition("...")
    return [*before, *(f"batch {place}" for place in range(more if dots else 0, 0, -1)), *after]


def _contract(sets: Sets, name: str, given: list[Tensor], terms: list[Axes], answer: Axes, output: Tensor) -> None:
    found = sets.product(name, [mark_of(tensor) for tensor in given], terms, answer)
    if found is not None:
        set_mark(output, found)
