"""Which filters of a trained bank are nearly mirrors of which: matchings of least summed squared change."""

from collections.abc import Mapping
from itertools import combinations
from typing import Any, NamedTuple

import torch
from torch import Tensor

from symmetric_layers.errors import SymmetryError
from symmetric_layers.letters import LETTERS, axes, mirrors
from symmetric_layers.orbits import Plan

_EXACT = 128  # more filters than this would take minutes, and are paired nearest first


class Orbit(NamedTuple):
    """Filters that are to become one orbit: the members in the order of their mirrors, and their mean."""

    members: tuple[int, ...]
    mean: Tensor
    bias: Tensor


def order_of(filters: Tensor, bias: Tensor | None, plan: Plan) -> list[int]:
    """The filter that is to stand at each place of the bank, group by group.

    Letter by letter, filters are paired, then pairs, then pairs of pairs, each time with the least summed squared
    change; those that fit worst stay free. With one kind of one letter that is the least change there is (of more
    than 128 filters, the nearest are paired first).
    """
    size = plan.filters // plan.banks
    flat = torch.zeros(plan.filters) if bias is None else bias
    order: list[int] = []
    for first in range(0, plan.filters, size):
        here = slice(first, first + size)
        counts = {kind: count // plan.banks for kind, count in plan.symmetry}
        order += [first + place for place in _order(filters[here].double(), flat[here].double(), counts)]
    return order


def nearest(filters: Tensor, bias: Tensor | None, plan: Plan) -> tuple[Tensor, Tensor | None, float]:
    """The nearest bank of mirrors with every filter in its place, the biases, and how much of the squares is kept."""
    new, level = filters.clone(), None if bias is None else bias.clone()
    for orbit in plan.orbits:
        index = list(orbit.members)
        letters = mirrors(orbit.kind)
        mean = torch.stack([filters[m].flip(axes(way)) for m, way in zip(index, letters, strict=True)]).mean(0)
        new[index] = torch.stack([mean.flip(axes(way)) for way in letters])
        if bias is not None and level is not None:
            level[index] = bias[index].mean()
    change, whole = (new - filters).double().square().sum(), filters.double().square().sum()
    if bias is not None and level is not None:
        change, whole = change + (level - bias).double().square().sum(), whole + bias.double().square().sum()
    return new, level, 1.0 - float(change / whole) if whole > 0 else 1.0


def _order(filters: Tensor, bias: Tensor, counts: Mapping[str, int]) -> list[int]:
    sorts = {"": [Orbit((i,), filters[i], bias[i]) for i in range(len(filters))]}
    for position, letter in enumerate(LETTERS[: filters.dim() - 2]):
        done = LETTERS[: position + 1]
        split: dict[str, list[Orbit]] = {}
        for kind, orbits in sorts.items():
            with_it = [n for k, n in counts.items() if "".join(c for c in k if c in done) == kind + letter]
            pairs = sum(with_it) // (2 * 2 ** len(kind))
            split[kind + letter], split[kind] = _joined(orbits, kind, letter, pairs)
        sorts = split
    order = [member for kind in (*counts, "") for orbit in sorted(sorts[kind], key=_first) for member in orbit.members]
    return order


def _first(orbit: Orbit) -> int:
    return orbit.members[0]


def _joined(orbits: list[Orbit], kind: str, letter: str, pairs: int) -> tuple[list[Orbit], list[Orbit]]:
    """So many pairs of orbits that mirror each other best, each made one, and the orbits that are left."""
    if not pairs:
        return [], orbits
    ways = mirrors(kind)
    means = torch.stack([orbit.mean for orbit in orbits])
    level = torch.stack([orbit.bias for orbit in orbits])
    gaps = torch.stack([_gaps(means, means.flip(axes(way + letter))) for way in ways])
    gap, turned = gaps.min(0)
    chosen = _least(gap + (level[:, None] - level[None]).square(), pairs)
    made = []
    for one, other in chosen:
        turn = int(turned[one, other])
        far = orbits[other]
        members = tuple(far.members[place ^ turn] for place in range(len(ways)))
        mean = (orbits[one].mean + far.mean.flip(axes(ways[turn] + letter))) / 2
        made.append(Orbit(orbits[one].members + members, mean, (orbits[one].bias + far.bias) / 2))
    taken = {index for pair in chosen for index in pair}
    return made, [orbit for index, orbit in enumerate(orbits) if index not in taken]


def _gaps(one: Tensor, other: Tensor) -> Tensor:
    return torch.cdist(one.flatten(1), other.flatten(1), compute_mode="donot_use_mm_for_euclid_dist").square()


def _least(cost: Tensor, pairs: int) -> list[tuple[int, int]]:
    """So many pairs out of all, with the least sum of costs."""
    count = len(cost)
    if count > _EXACT:
        return _nearest_first(cost, pairs)
    networkx = _networkx()
    whole = (cost / cost.max().clamp(min=1e-300) * 2**40).round().long().tolist()  # whole numbers are matched exactly
    graph = networkx.Graph()
    graph.add_weighted_edges_from((i, j, -whole[i][j]) for i, j in combinations(range(count), 2))
    for free in range(count, 2 * (count - pairs)):  # whoever is paired with one of these stays free
        graph.add_weighted_edges_from((i, free, 0) for i in range(count))
    found = networkx.max_weight_matching(graph, maxcardinality=True)
    return sorted((min(pair), max(pair)) for pair in found if max(pair) < count)


def _nearest_first(cost: Tensor, pairs: int) -> list[tuple[int, int]]:
    rows, columns = torch.triu_indices(len(cost), len(cost), 1)
    chosen: list[tuple[int, int]] = []
    taken: set[int] = set()
    for edge in cost[rows, columns].argsort().tolist():
        pair = (int(rows[edge]), int(columns[edge]))
        if len(chosen) < pairs and not taken & set(pair):
            chosen.append(pair)
            taken.update(pair)
    return sorted(chosen)


def _networkx() -> Any:
    """The package that matches; PyTorch needs it too, so that it is there."""
    try:
        import networkx
    except ImportError:
        raise SymmetryError(
            "init: 'nearest' matches filters with networkx, which is missing. Expected that package. Install it "
            "(pip install networkx), or use init='own'."
        ) from None
    return networkx
