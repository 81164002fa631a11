"""What the letters of a kind mean: which axes they read backwards, and in which order mirrors stand.

Only the standard library is used here, nothing that is slow to import, and Python 3.7 runs it.
"""

from __future__ import annotations

from functools import lru_cache

from symmetric_layers.errors import SymmetryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterable

LETTERS = "hvz"
KINDS = ("h", "v", "z", "hv", "hz", "vz", "hvz")

_AXES = {"h": -1, "v": -2, "z": -3}


def orbit_size(kind: str) -> int:
    """How many filters one orbit of this kind has: 2 for `'h'`, 4 for `'hv'`, 8 for `'hvz'`, 1 for `''`."""
    return int(2 ** len(kind))


def mirrors(kind: str) -> tuple[str, ...]:
    """The members of one orbit in order, each as the letters it is mirrored along: `('', 'h', 'v', 'hv')`."""
    return tuple(
        "".join(letter for bit, letter in enumerate(kind) if index >> bit & 1) for index in range(orbit_size(kind))
    )


def axes(letters: str) -> tuple[int, ...]:
    """The spatial axes that the letters read backwards, counted from the last one: `'h'` is -1, `'v'` -2, `'z'` -3."""
    return tuple(_AXES[letter] for letter in letters)


def letters_where(chosen: Iterable[bool]) -> str:
    """The letters of those axes for which it is so, from what is said of all axes, the first one first."""
    return "".join(letter for letter, here in zip(LETTERS, reversed(list(chosen))) if here)


@lru_cache(maxsize=256)
def taps_seen(size: tuple[int, ...], letters: str) -> tuple[int, ...]:
    """Where a kernel of this size, mirrored, reads its taps: their places in the flat kernel, last axis fastest."""
    flipped = [axis + len(size) for axis in axes(letters)]
    order = [0]
    for axis, taps in enumerate(size):
        along = range(taps)[::-1] if axis in flipped else range(taps)
        order = [place * taps + tap for place in order for tap in along]
    return tuple(order)


def canonical_kind(kind: Any, ndim: int, argument: str = "symmetry") -> str:
    """The kind with its letters in order (`'vh'` is `'hv'`); what is no kind in `ndim` dimensions is refused."""
    known = LETTERS[:ndim]
    if isinstance(kind, str) and kind and set(kind) <= set(known) and len(set(kind)) == len(kind):
        return "".join(letter for letter in known if letter in kind)
    raise SymmetryError(
        "{}: {!r} is no kind of mirror in {}-D. Expected different letters out of {}. Use {}.".format(
            argument,
            kind,
            ndim,
            ", ".join(repr(letter) for letter in known),
            " or ".join(repr(known_kind) for known_kind in KINDS if set(known_kind) <= set(known)),
        )
    )
