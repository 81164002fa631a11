"""How far one answer of a network is from the law: mirrored as a map, as tokens, or compared as it is."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from symmetric_layers.letters import axes as positions
from symmetric_layers.orbits import Plan
from symmetric_layers.torch.answers import bank, difference, exchanged, usual_tolerance
from symmetric_layers.torch.tokens import Tokens, same_numbers

Symmetry = Mapping[str, int | str] | None


def deviation(
    straight: Tensor, seen: Tensor, rank: int, letter: str, symmetry: Symmetry, tokens: Callable[[], Tokens]
) -> tuple[float, float]:
    """How far the answer to a mirrored picture is from the mirrored answer, absolute and relative.

    Args:
        straight, seen: the answer to the picture, and to its mirror image.
        rank, letter: how many axes pictures have, and along which one this one was mirrored.
        symmetry: how the channels of the answer are arranged, where they are orbits.
        tokens: which maps were seen in the run; asked where the answer may be one whose positions lie in a row.
    """
    found = _as_map_or_vector(straight, seen, rank, letter, symmetry)
    if not rank or found[1] <= usual_tolerance(straight):
        return found
    return _as_tokens(straight, seen, tokens, letter, symmetry) or found


def _as_map_or_vector(
    straight: Tensor, seen: Tensor, rank: int, letter: str, symmetry: Symmetry
) -> tuple[float, float]:
    expected = straight
    if symmetry:
        expected, seen = _orbits_only(straight, seen, symmetry, letter, 1)
    maps = rank and straight.dim() > rank
    as_map = difference(expected.flip(positions(letter)), seen) if maps else None
    if as_map and straight.dim() >= rank + 2:
        return as_map
    as_vector = difference(expected, seen)  # with one axis less it may be either: (N, L) a map, (N, classes) a vector
    return min(as_map, as_vector) if as_map else as_vector


def _orbits_only(
    straight: Tensor, seen: Tensor, symmetry: Mapping[str, int | str], letter: str, dim: int
) -> tuple[Tensor, Tensor]:
    """The channels that lie in orbits, exchanged with their mirrors, and the same ones of the mirrored answer."""
    arrangement = bank(symmetry, straight.shape[dim])
    known = [i for i, kind in enumerate(_kinds(arrangement)) if letter in kind]
    chosen = torch.tensor(known, dtype=torch.long, device=straight.device)
    return exchanged(straight, arrangement, letter, dim).index_select(dim, chosen), seen.index_select(dim, chosen)


def _as_tokens(
    straight: Tensor, seen: Tensor, tokens: Callable[[], Tokens], letter: str, symmetry: Symmetry
) -> tuple[float, float] | None:
    """The deviation of an answer whose positions lie in a row, where it obeys the law; None where it does not."""
    if straight.dim() < 3 or not same_numbers(straight, seen):
        return None
    for picture, places in tokens().seen(straight, letter):
        pairs = [(picture, seen)] if not symmetry else [
            _orbits_only(picture, seen, symmetry, letter, place) for place in places if place in (1, straight.dim() - 1)
        ]  # fmt: skip
        found = min((difference(*pair) for pair in pairs if pair[0].numel()), default=None)
        if found is not None and found[1] <= usual_tolerance(straight):
            return found
    return None


def _kinds(arrangement: Plan) -> list[str]:
    kinds = [""] * arrangement.filters
    for orbit in arrangement.orbits:
        for member in orbit.members:
            kinds[member] = orbit.kind
    return kinds
