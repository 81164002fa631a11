"""How far one answer of a network is from the law: mirrored as a map, as tokens, or compared as it is."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from symmetric_layers.letters import axes as positions
from symmetric_layers.orbits import Plan
from symmetric_layers.torch.answers import bank, difference, exchanged, usual_tolerance
from symmetric_layers.torch.tokens import Tokens, explained

_WHOLE = "100%"

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
    if not rank or straight.dim() >= rank + 2 or found[1] <= usual_tolerance(straight):
        return found  # with an axis for channels it is a map, and nothing else
    if straight.dim() == rank + 1 and tokens().is_map(tuple(straight.shape[1:]), letter):
        found = min(found, difference(straight.flip(positions(letter)), seen))
    if straight.dim() != 3 or found[1] <= usual_tolerance(straight):
        return found

    def expected(picture: Tensor, channels: list[int]) -> list[tuple[Tensor, Tensor]]:
        return [_held(picture, seen, symmetry, letter, place) for place in channels] if symmetry else [(picture, seen)]

    return explained(straight, seen, tokens().in_answers(straight, letter), expected) or found


def _as_map_or_vector(
    straight: Tensor, seen: Tensor, rank: int, letter: str, symmetry: Symmetry
) -> tuple[float, float]:
    expected = straight
    if symmetry:
        expected, seen = _held(straight, seen, symmetry, letter, 1)
    is_map = rank and straight.dim() >= rank + 2
    return difference(expected.flip(positions(letter)) if is_map else expected, seen)


def _held(
    straight: Tensor, seen: Tensor, symmetry: Mapping[str, int | str], letter: str, dim: int
) -> tuple[Tensor, Tensor]:
    """The channels that the law holds for, exchanged with their mirrors, and the same ones of the mirrored answer.

    Those that belong to no orbit are free to be anything, but where all were to be orbits: then they are plain.
    """
    channels = straight.shape[dim]
    few = [kind for kind, share in symmetry.items() if share == _WHOLE and channels < 2 ** len(kind)]
    arrangement = bank({kind: share for kind, share in symmetry.items() if kind not in few}, channels)
    kinds = _kinds(arrangement)
    plain = not arrangement.orbits or _WHOLE in symmetry.values()
    chosen = [i for i, kind in enumerate(kinds) if letter in kind or (plain and not kind)]
    places = torch.tensor(chosen, dtype=torch.long, device=straight.device)
    return exchanged(straight, arrangement, letter, dim).index_select(dim, places), seen.index_select(dim, places)


def _kinds(arrangement: Plan) -> list[str]:
    kinds = [""] * arrangement.filters
    for orbit in arrangement.orbits:
        for member in orbit.members:
            kinds[member] = orbit.kind
    return kinds
