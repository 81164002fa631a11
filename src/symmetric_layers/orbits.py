"""Which filters are mirrors of which: the one idea of this package, as plain data.

A bank of convolution filters is a set of orbits. An orbit is one stored filter, its representative, and the same
numbers read backwards along some axes: its mirrors. Filters in no orbit are free. A `Plan` lists all of them; the
layers of every framework are translations of a plan.

The order of the filters is a promise, checkpoints depend on it: kinds in the order h, v, z, hv, hz, vz, hvz, inside a
kind orbit after orbit, inside an orbit the members in binary order (h lowest, then v, then z), the free filters last.
With groups every group holds its own bank in this order.

Only the standard library is used here, nothing that is slow to import, and Python 3.7 runs it.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Mapping
from functools import lru_cache
from itertools import chain, count, repeat

from symmetric_layers.counts import Bank, misfit, no_mapping
from symmetric_layers.errors import SymmetryError, whole_number
from symmetric_layers.letters import KINDS, LETTERS, axes, canonical_kind, mirrors, orbit_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterator


class Orbit(namedtuple("Orbit", "kind representative members")):
    """One stored filter and its mirrors: `members[i]` is the representative mirrored along `mirrors(kind)[i]`."""

    __slots__ = ()


class Block(namedtuple("Block", "kind orbits size filter representative")):
    """A run of neighbouring orbits of one kind (or, with kind `''`, of free filters, each an orbit of one).

    `orbits` says how many, `size` how many filters each has; `filter` is the first filter of the run and
    `representative` its first stored filter, both counted inside one group.
    """

    __slots__ = ()

    @property
    def filters(self) -> int:
        """How many filters the run has."""
        return self.orbits * self.size


class Plan:
    """Which representative every filter reads, and along which axes. Made by `plan`, immutable and hashable.

    Two plans are equal when they mean the same filters, however they were asked for (`'50%'` of 16 is 8).

    Attributes:
        symmetry: pairs of kind and number of filters, in the promised order, kinds without filters left out.
        filters: how many filters the bank has.
        ndim: how many spatial axes a filter has.
        groups: how many groups share the bank, as in a grouped convolution.
        inputs: the plan of the input channels, or None where they are ordinary pictures.
        depthwise: whether every channel is filtered alone (as many groups as filters and input channels, and
            `in_symmetry`): then the mirrors of a filter stand in other groups, and all groups are one bank.
        banks: how many banks the filters fall into: one per group, or a single one where the layer is depthwise.
        blocks: the runs of one kind inside *each* bank.
        stored: how many filters are stored: the orbits and the free filters.
        representative: per filter, the index of the stored filter it reads.
        mirror: per filter, the letters along which it reads it backwards (`''` for the representative itself).
        orbits: all orbits, group after group.
        free: the indices of the filters in no orbit.
    """

    __slots__ = (
        "_hash",
        "banks",
        "blocks",
        "depthwise",
        "filters",
        "free",
        "groups",
        "inputs",
        "mirror",
        "ndim",
        "orbits",
        "representative",
        "stored",
        "symmetry",
    )

    symmetry: tuple[tuple[str, int], ...]
    filters: int
    ndim: int
    groups: int
    inputs: Plan | None
    depthwise: bool
    banks: int
    blocks: tuple[Block, ...]
    stored: int
    representative: tuple[int, ...]
    mirror: tuple[str, ...]
    orbits: tuple[Orbit, ...]
    free: tuple[int, ...]
    _hash: int

    def __init__(
        self,
        symmetry: tuple[tuple[str, int], ...],
        filters: int,
        ndim: int,
        groups: int = 1,
        inputs: Plan | None = None,
    ) -> None:
        depthwise = inputs is not None and _depthwise(filters, groups, inputs.filters)
        banks = 1 if depthwise else groups
        blocks = _blocks(symmetry, filters, banks)
        stored = sum(block.orbits for block in blocks)
        runs = [
            block._replace(
                filter=block.filter + bank * (filters // banks), representative=block.representative + bank * stored
            )
            for bank in range(banks)
            for block in blocks
        ]
        values = {
            "symmetry": symmetry,
            "filters": filters,
            "ndim": ndim,
            "groups": groups,
            "inputs": inputs,
            "depthwise": depthwise,
            "banks": banks,
            "blocks": blocks,
            "stored": stored * banks,
            "representative": tuple(chain.from_iterable(_representatives(run) for run in runs)),
            "mirror": tuple(chain.from_iterable(mirrors(run.kind) * run.orbits for run in runs)),
            "orbits": tuple(chain.from_iterable(_orbits(run) for run in runs if run.kind)),
            "free": tuple(chain.from_iterable(_filters(run) for run in runs if not run.kind)),
            "_hash": hash((symmetry, filters, ndim, groups, inputs)),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"a plan is immutable: {name!r} cannot be set")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a plan is immutable: {name!r} cannot be deleted")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plan) and self.__reduce__() == other.__reduce__()

    def __hash__(self) -> int:
        return self._hash

    def __reduce__(self) -> tuple[Any, ...]:
        inputs = (None, None) if self.inputs is None else (self.inputs.counts, self.inputs.filters)
        return plan, (self.counts, self.filters, self.ndim, self.groups, *inputs)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds that have orbits in this bank, in order."""
        return tuple(kind for kind, _ in self.symmetry)

    @property
    def counts(self) -> dict[str, int]:
        """How many filters each kind has, as a fresh dict that `plan` takes again."""
        return dict(self.symmetry)

    @property
    def firsts(self) -> tuple[int, ...]:
        """Per stored filter, which filter reads it as it is: the first member of its orbit."""
        return tuple(index for index, letters in enumerate(self.mirror) if not letters)

    @property
    def axes(self) -> tuple[tuple[int, ...], ...]:
        """Per filter, the spatial axes along which it reads its representative backwards; -1 is the last axis."""
        return tuple(axes(letters) for letters in self.mirror)

    def exchange(self, letters: str) -> tuple[int, ...]:
        """Where the channels go when the picture is mirrored: channel i becomes channel `exchange(letters)[i]`.

        Letters that the kind of an orbit does not contain move nothing; free channels stay where they are.
        """
        letters = canonical_kind(letters, self.ndim, "letters")
        target = list(range(self.filters))
        for orbit in self.orbits:
            flipped = sum(1 << bit for bit, letter in enumerate(orbit.kind) if letter in letters)
            for index, member in enumerate(orbit.members):
                target[member] = orbit.members[index ^ flipped]
        return tuple(target)

    def __repr__(self) -> str:
        arguments = f"{self.counts!r}, {self.filters}, ndim={self.ndim}"
        if self.groups != 1:
            arguments += f", groups={self.groups}"
        if self.inputs is not None:
            arguments += f", in_symmetry={self.inputs.counts!r}, in_channels={self.inputs.filters}"
        return f"plan({arguments})"

    def __str__(self) -> str:
        lines = [f"{self.filters} filters from {self.stored} stored ({self.ndim}-D)"]
        if self.banks != 1:
            lines[0] += f", in {self.banks} groups, each:"
        if self.depthwise:
            lines[0] += ", each on its own channel:"
        lines += [_draw(block, self.ndim) for block in self.blocks]
        if self.inputs is not None:
            lines.append(f"  reads {self.inputs.filters} channels that are orbits: {self.inputs.counts!r}")
        return "\n".join(lines)


def plan(
    symmetry: Mapping | None,
    filters: int,
    ndim: int,
    groups: int = 1,
    in_symmetry: Mapping | None = None,
    in_channels: int | None = None,
) -> Plan:
    """Says which of a layer's filters are mirror images of which.

    Everything else (weights, gradients, pooling over orbits, drawings) is derived from the answer, so two layers
    with equal plans understand each other's channels. Answers are cached.

    Args:
        symmetry: how many *filters* belong to each kind, `{'h': 2, 'v': '50%', 'hv': 8}`; the rest are free.
            Counts are whole numbers; percentages go to the nearest whole filter, then down to whole orbits, and
            those that sum to at most 100% never overfill the bank: where rounding up would, the one that rounded
            up furthest rounds down instead. With groups, percentages are of each group. None: all free.
        filters: how many filters there are, the output channels of the layer.
        ndim: how many spatial axes a filter has: 1 knows `'h'`, 2 also `'v'`, 3 also `'z'`.
        groups: the groups of the convolution. Every count must fill each group with whole orbits; only a depthwise
            layer with `in_symmetry` (as many groups as filters and input channels) has its mirrors in other groups.
        in_symmetry: how the *input* channels are arranged: the `symmetry` of the layer before, None for pictures.
            A mirror filter then also exchanges its input channels with their mirrors.
        in_channels: how many input channels there are; needed with `in_symmetry`.

    Returns:
        A `Plan`.

    Raises:
        SymmetryError: for whatever does not fit; one sentence says what would.

    Example:
        >>> print(plan({'h': 2, 'v': 4, 'hv': 8}, 16, ndim=2))
        16 filters from 7 stored (2-D)
          h     0-1    1 orbit    12/34 21/43
          v     2-5    2 orbits   12/34 34/12
          hv    6-13   2 orbits   12/34 21/43 34/12 43/21
          free  14-15
    """
    ndim = whole_number("ndim", ndim, 1)
    if ndim > len(LETTERS):
        raise SymmetryError(f"ndim: {ndim} has no mirrors here. Expected 1, 2 or 3. Use one of these.")
    groups = whole_number("groups", groups, 1)
    if in_channels is not None and whole_number("in_channels", in_channels) % groups:
        raise misfit("groups", groups, "input channels", in_channels)
    filters = whole_number("filters", filters)
    depthwise = bool(in_symmetry) and _depthwise(filters, groups, in_channels)
    banks = 1 if depthwise else groups
    counts = Bank("symmetry", "filters", filters, ndim, banks).counts(symmetry)
    inputs = None
    if in_symmetry:
        if in_channels is None:
            raise SymmetryError(
                "in_channels: None does not say how many channels in_symmetry arranges. "
                "Expected a whole number. Pass the input channels of the layer."
            )
        in_counts = Bank("in_symmetry", "input channels", int(in_channels), ndim, banks).counts(in_symmetry)
        _check_letters(counts, in_counts)
        if depthwise and counts and counts != in_counts:
            raise SymmetryError(
                f"in_symmetry: {dict(in_counts)!r} is not the symmetry {dict(counts)!r} of a depthwise layer. "
                "Expected both to be the same. Use one of them for both."
            )
        inputs = _cached(in_counts, int(in_channels), ndim, banks, None) if in_counts else None
    elif in_symmetry is not None and not isinstance(in_symmetry, Mapping):
        raise no_mapping("in_symmetry", in_symmetry)
    return _cached(counts, filters, ndim, groups, inputs)


@lru_cache(maxsize=1024)
def _cached(symmetry: tuple[tuple[str, int], ...], filters: int, ndim: int, groups: int, inputs: Plan | None) -> Plan:
    return Plan(symmetry, filters, ndim, groups, inputs)


def _depthwise(filters: int, groups: int, in_channels: int | None) -> bool:
    return groups > 1 and groups == filters == in_channels


def _check_letters(counts: tuple[tuple[str, int], ...], in_counts: tuple[tuple[str, int], ...]) -> None:
    """A filter can only be mirrored along letters that every orbit it reads knows."""
    for kind, _ in counts:
        for in_kind, in_count in in_counts:
            missing = "".join(letter for letter in kind if letter not in in_kind)
            if missing:
                fitting = " or ".join(repr(other) for other in KINDS if set(kind) <= set(other))
                raise SymmetryError(
                    f"in_symmetry: {in_kind!r}: {in_count} does not contain {missing!r}, along which {kind!r} filters "
                    f"are mirrored. Expected input orbits of kind {fitting}. "
                    "Use one of these in the layer before, or a smaller kind in symmetry."
                )


def _blocks(symmetry: tuple[tuple[str, int], ...], filters: int, groups: int) -> tuple[Block, ...]:
    blocks = []
    used = stored = 0
    free = filters - sum(number for _, number in symmetry)
    for kind, number in (*symmetry, ("", free)):
        size = orbit_size(kind)
        block = Block(kind, number // groups // size, size, used, stored)
        if number:
            blocks.append(block)
        used += block.filters
        stored += block.orbits
    return tuple(blocks)


def _filters(run: Block) -> range:
    return range(run.filter, run.filter + run.filters)


def _representatives(run: Block) -> Iterator[int]:
    for representative in range(run.representative, run.representative + run.orbits):
        yield from repeat(representative, run.size)


def _orbits(run: Block) -> Iterator[Orbit]:
    return map(Orbit, repeat(run.kind), count(run.representative), zip(*[iter(_filters(run))] * run.size))


def _draw(block: Block, ndim: int) -> str:
    last = block.filter + block.filters - 1
    run = f"{block.filter}-{last}" if last > block.filter else str(last)
    if not block.kind:
        return f"  free  {run}"
    orbits = "1 orbit" if block.orbits == 1 else f"{block.orbits} orbits"
    pictures = " ".join(_picture(letters, ndim) for letters in mirrors(block.kind))
    return f"  {block.kind:<5} {run:<6} {orbits:<10} {pictures}"


def _picture(letters: str, ndim: int) -> str:
    """Two numbers along every axis: rows are parted by `/`, planes by `|`."""
    step = {letter: -1 if letter in letters else 1 for letter in LETTERS}
    planes = [["12", "34"], ["56", "78"]][: 2 if ndim == 3 else 1]
    drawn = ["/".join(row[:: step["h"]] for row in plane[: min(ndim, 2)][:: step["v"]]) for plane in planes]
    return "|".join(drawn[:: step["z"]])
