"""The law, measured: how far a network is from mirroring its answer with its picture, and where it breaks."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from torch import Tensor, nn

from symmetric_layers.errors import SymmetryError, whole_number
from symmetric_layers.letters import canonical_kind
from symmetric_layers.orbits import Plan
from symmetric_layers.torch.answers import (
    Tree,
    asked,
    mirrored,
    pictures,
    tensors,
    usual_tolerance,
)  # fmt: skip
from symmetric_layers.torch.deviation import deviation
from symmetric_layers.torch.invariant import OrbitLinear
from symmetric_layers.torch.mirrored import Mirrored
from symmetric_layers.torch.pool import OrbitPool
from symmetric_layers.torch.tokens import Tokens
from symmetric_layers.torch.watch import map_sizes, watch


class Deviation(NamedTuple):
    """How far one output is from the law along one axis; `relative` is `absolute` over the largest value expected."""

    axis: str
    output: str
    absolute: float
    relative: float


class Breakage(NamedTuple):
    """How far the answers of one module are from the law, and why it breaks it (empty where it does not)."""

    module: str
    sort: str
    absolute: float
    relative: float
    reason: str


class Breakages(list):
    """The rows of `where_it_breaks`, the offender first; `str` draws the table."""

    @property
    def offender(self) -> Breakage | None:
        """The first module that breaks the law, or None."""
        return self[0] if self and self[0].reason else None

    def __str__(self) -> str:
        rows = [("module", "class", "absolute", "relative", "reason")]
        rows += [(row.module, row.sort, f"{row.absolute:.1e}", f"{row.relative:.1e}", row.reason) for row in self]
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        return "\n".join("  ".join([*map(str.ljust, row, widths), row[4]]).rstrip() for row in rows)


def is_exact(
    size: int | Sequence[int],
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
) -> bool:
    """Whether a convolution's or a pool's grid is its own mirror image, so that it obeys the law as it is.

    A 3x3 layer of stride 2 looks at columns 0, 2, 4, ... of an even picture; its mirror image looks at others.

    Equivalent to: `(size + 2 * padding - dilation * (kernel_size - 1) - 1) % stride == 0`, along every axis.

    Args:
        size: the size of the picture along one axis, or along several.
        kernel_size, stride, padding, dilation: of the layer, one number for all axes or one for each.

    Raises:
        SymmetryError: for what is no whole number, or for sequences of different lengths.

    Example:
        >>> is_exact(224, 3, stride=2, padding=1), is_exact(225, 3, stride=2, padding=1)
        (False, True)
    """
    arguments = {"size": size, "kernel_size": kernel_size, "stride": stride, "padding": padding, "dilation": dilation}
    several = {name: list(value) for name, value in arguments.items() if isinstance(value, Sequence)}
    lengths = {name: len(value) for name, value in several.items()}
    if len(set(lengths.values())) > 1:
        raise SymmetryError(
            f"size: {lengths!r} are different numbers of axes. Expected one number for each axis, or one for all. "
            "Use as many numbers as there are axes."
        )
    count = next(iter(lengths.values()), 1)
    least = {"size": 1, "kernel_size": 1, "stride": 1, "padding": 0, "dilation": 1}
    columns = [
        [whole_number(name, number, least[name]) for number in several.get(name, [value] * count)]
        for name, value in arguments.items()
    ]
    return all((n + 2 * p - d * (k - 1) - 1) % s == 0 for n, k, s, p, d in zip(*columns, strict=True))


def equivariance_error(
    model: Callable[..., Tree],
    x: Tree,
    axes: str,
    *,
    in_symmetry: Mapping[str, int | str] | None = None,
    symmetry: Mapping[str, int | str] | None = None,
) -> list[Deviation]:
    """Measures how far a network is from the law: mirrored picture, mirrored answer.

    Outputs that are maps are mirrored, vectors and classes are compared as they are. Tokens `(N, positions, C)` are
    mirrored as the map that they were, with up to eight class tokens or without, where they can be no classes: in 2-D
    and 3-D, where modules saw a map of so many positions, more than two along the letter. So are maps without channels,
    in 1-D too. Dropout is held still, noise that the network
    draws is one number everywhere, and running statistics are put back, so that the network is the same afterwards, in
    training mode too. A network of doubles is measured in doubles, where it casts to single precision, too.

    Equivalent to: `(model(x.flip(-1)) - model(x).flip(-1)).abs().max()` for `'h'` and one map.

    Args:
        model: the network or layer, in the mode and with the numbers that it is to be measured with.
        x: its input: a tensor `(N, C, *positions)`, a tuple of inputs, or a dict of keyword arguments. A mask
            `(N, *positions)` as large as a picture beside it is mirrored, too.
        axes: the letters to measure: `'h'`, `'hv'`, ...
        in_symmetry, symmetry: how the channels of the input and of the output are arranged, where they are orbits.
            Of a single layer of this package that is known.

    Returns:
        One `Deviation` for each letter and output.

    Raises:
        SymmetryError: for unknown axes, for inputs without pictures, for answers without tensors, for channels that a
            symmetry does not fit.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU())
        >>> equivariance_error(model, torch.randn(1, 1, 8, 8), 'h')[0].relative > 1e-3
        True
    """
    return compared(model, x, axes, in_symmetry, symmetry)[1]


def compared(
    model: Callable[..., Tree],
    x: Tree,
    axes: str,
    in_symmetry: Mapping[str, int | str] | None = None,
    symmetry: Mapping[str, int | str] | None = None,
    arranged: Callable[[str], bool] = lambda name: True,
) -> tuple[dict[str, Tensor], list[Deviation]]:
    """What `equivariance_error` measures, and the answers to the picture as it is.

    `arranged` says which answers, by name, have this symmetry.
    """
    own_in, own_out, vectors = _arrangement(model)
    rank, letters = _letters(x, axes, vectors)
    arrangement = in_symmetry or own_in
    outputs = symmetry or own_out
    straight = asked(model, x)
    tokens = cache(lambda: Tokens(pictures(x, rank), map_sizes(model, x, rank)))  # one more run, for those that need it
    found = []
    for letter in letters:
        seen = asked(model, mirrored(x, rank, letter, arrangement))  # again from the same statistics
        if straight.keys() != seen.keys():
            raise SymmetryError(
                f"model: the answer to the picture mirrored along {letter!r} has other parts ({sorted(seen)}) than "
                f"the answer to the picture ({sorted(straight)}). Expected the same. Measure in a mode where "
                "both are the same."
            )
        for name in straight:
            known = outputs if arranged(name) else None
            absolute, relative = deviation(straight[name], seen[name], rank, letter, known, tokens)
            found.append(Deviation(letter, name, absolute, relative))
    return straight, found


def assert_equivariant(
    model: Callable[..., Tree],
    x: Tree,
    axes: str,
    *,
    tolerance: float | None = None,
    in_symmetry: Mapping[str, int | str] | None = None,
    symmetry: Mapping[str, int | str] | None = None,
) -> None:
    """Fails where a network breaks the law: one line for a user's own tests.

    Args:
        tolerance: the largest relative deviation to accept. None: 1e-9 for float64, 1e-4 for float32, 5e-2 for less.
        model, x, axes, in_symmetry, symmetry: as in `equivariance_error`.

    Raises:
        AssertionError: with the worst deviation, and the first module that breaks the law.
        SymmetryError: as `equivariance_error` does.

    Example:
        >>> assert_equivariant(nn.AvgPool2d(2), torch.randn(1, 1, 8, 8), 'hv')
    """
    found = equivariance_error(model, x, axes, in_symmetry=in_symmetry, symmetry=symmetry)
    worst = max(found, key=lambda deviation: deviation.relative, default=None)
    allowed = tolerance if tolerance is not None else max(usual_tolerance(tensor) for _, tensor in tensors(x))
    if worst is None or worst.relative <= allowed:
        return
    offender = where_it_breaks(model, x, axes).offender if isinstance(model, nn.Module) else None
    culprit = f" It breaks at {offender.module!r}: {offender.reason}." if offender else ""
    raise AssertionError(
        f"mirroring along {worst.axis!r} changes {worst.output or 'the output'!r} by {worst.absolute:.2e}, "
        f"{worst.relative:.2e} of its largest value. Expected at most {allowed:.0e}.{culprit}"
    )


def where_it_breaks(model: nn.Module, x: Tree, axes: str) -> Breakages:
    """Says which module of a network breaks the law first, and why where it is a matter of sizes.

    Follows a picture and its mirror image through all modules. Where neither mirroring an answer nor exchanging its
    channels explains the difference, the module (or what its `forward` does between its modules) is to blame.

    Args:
        model, x, axes: as in `equivariance_error`.

    Returns:
        A table, one row for each module that ran, the offender on top, the others in the order of the network.

    Raises:
        SymmetryError: as `equivariance_error` does.

    Example:
        >>> model = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(1, 4, 1))
        >>> print(where_it_breaks(model, torch.randn(1, 1, 7, 8), 'hv')[0].reason)
        along 'v': n=7, k=2, s=2, p=0, d=1 leave a remainder of 1
    """
    own_in, _, vectors = _arrangement(model)
    rank, letters = _letters(x, axes, vectors)
    return Breakages(Breakage(*row) for row in watch(model, x, letters, rank, own_in))


def _arrangement(model: Any) -> tuple[dict | None, dict | None, bool]:
    """How a single layer of this package arranges its input and its output, and whether it reads vectors."""
    if isinstance(model, OrbitLinear):
        return (model.plan.counts if model.plan is not None else None), None, True
    if isinstance(model, (Mirrored, OrbitPool)):
        symmetry = dict(model.symmetry or {})
        return symmetry, (symmetry if isinstance(model, Mirrored) else None), False
    invariance = getattr(model, "invariance", None)
    if invariance is not None:
        return invariance.inputs.counts, None, False
    own = getattr(model, "plan", None)
    if not isinstance(own, Plan):
        return None, None, False
    if hasattr(model, "share_bias"):
        return (own.inputs.counts if own.inputs is not None else None), own.counts, False
    return own.counts, own.counts, False


def _letters(x: Tree, wanted: str, vectors: bool) -> tuple[int, str]:
    """How many axes the pictures have, and the letters to measure in order."""
    rank = max((tensor.dim() - 2 for _, tensor in tensors(x)), default=0)
    if rank < 1 and not vectors:
        shapes = [tuple(tensor.shape) for _, tensor in tensors(x)]
        raise SymmetryError(
            f"x: {shapes} holds no pictures. Expected a tensor (N, C, *positions). Pass a batch of pictures."
        )
    return max(rank, 0), canonical_kind(wanted, min(max(rank, 1), 3) if not vectors else 3, "axes")
