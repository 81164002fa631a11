"""How many filters each kind gets: what `symmetry=` may say, and the sentences that refuse the rest.

Only the standard library is used here, nothing that is slow to import, and Python 3.7 runs it.
"""

from __future__ import annotations

import warnings
from collections import namedtuple
from collections.abc import Mapping

from symmetric_layers.errors import SymmetryError, whole_number
from symmetric_layers.letters import KINDS, canonical_kind, orbit_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fractions import Fraction
    from typing import Any

_PERCENTAGE = r"\s*(\d+(?:\.\d+)?|\.\d+)\s*%\s*"
_ADVICE = "Use such a number, or a percentage, which rounds down to whole orbits."


class Bank(namedtuple("Bank", "argument noun filters ndim groups")):
    """The numbers that a `symmetry=` has to fit, and the words to say so."""

    __slots__ = ()

    def counts(self, symmetry: Mapping | None) -> tuple[tuple[str, int], ...]:
        """The checked numbers of filters per kind, in the order of `KINDS`, kinds without filters left out."""
        if self.filters % self.groups:
            raise misfit("groups", self.groups, self.noun, self.filters)
        entries = self.entries(symmetry)
        found = {kind: self._count(kind, value) for kind, value in entries.items() if not isinstance(value, str)}
        shares = {kind: self.share(kind, value) for kind, value in entries.items() if isinstance(value, str)}
        found.update(self._round(shares, sum(found.values())))
        if sum(found.values()) > self.filters or sum(shares.values()) > 1:
            raise SymmetryError(
                f"{self.argument}: {dict(entries)!r} asks for more than {self._of}. Expected at most {self.filters} "
                f"in all. Use smaller numbers, or more {self.noun}."
            )
        self._warn_of_empty(entries, shares, found)
        return tuple((kind, found[kind]) for kind in KINDS if found.get(kind))

    @property
    def _of(self) -> str:
        groups = f" in {self.groups} groups" if self.groups > 1 else ""
        return f"{self.filters} {self.noun}{groups}"

    def entries(self, symmetry: Mapping | None) -> dict[str, Any]:
        """The values per kind, kinds in their canonical spelling; unknown or repeated ones are refused."""
        if symmetry is None:
            return {}
        if not isinstance(symmetry, Mapping):
            raise no_mapping(self.argument, symmetry)
        entries = {}  # type: dict[str, Any]
        for name, value in symmetry.items():
            kind = canonical_kind(name, self.ndim, self.argument)
            if kind in entries:
                raise SymmetryError(
                    f"{self.argument}: {dict(symmetry)!r} says the kind {kind!r} twice. "
                    "Expected each kind once. Add the numbers up."
                )
            entries[kind] = value
        return entries

    def _count(self, kind: str, value: Any) -> int:
        unit = orbit_size(kind) * self.groups
        try:
            asked = whole_number(self.argument, value)
        except SymmetryError:
            raise SymmetryError(
                f"{self.argument}: {kind!r}: {value!r} is neither a whole number of {self.noun} nor a percentage. "
                f"Expected a multiple of {unit} from 0 to {self.filters}, or a string like '50%'. Use one of these."
            ) from None
        if asked % unit or asked > self.filters:
            orbit = f"the size of one {kind!r} orbit"
            if self.groups > 1:
                orbit += f" times {self.groups} groups"
            raise SymmetryError(
                f"{self.argument}: {kind!r}: {asked} does not fit {self._of}. Expected a multiple of {unit} ({orbit}), "
                f"at most {self.filters}. {_ADVICE}"
            )
        return asked

    def share(self, kind: str, text: str) -> Fraction:
        """A percentage as a fraction of the bank."""
        import re  # both here, because importing them takes longer than the rest of the package
        from fractions import Fraction

        match = re.fullmatch(_PERCENTAGE, text)
        if not match:
            raise SymmetryError(
                f"{self.argument}: {kind!r}: {text!r} is no percentage. Expected a number from 0 to 100 and a percent "
                "sign, like '50%' or '12.5 %'. Use such a string, or a whole number."
            )
        return Fraction(match.group(1)) / 100

    def _round(self, shares: dict[str, Fraction], taken: int) -> dict[str, int]:
        """Percentages as numbers of filters: to the nearest filter, down to whole orbits, never past the bank's end."""
        size = self.filters // self.groups
        exact = {kind: shares[kind] * size for kind in KINDS if kind in shares}
        counts = {kind: _whole_orbits(kind, (2 * number + 1) // 2) for kind, number in exact.items()}
        furthest_first = sorted(exact, key=lambda kind: (exact[kind] % 1, -KINDS.index(kind)))
        for kind in furthest_first:
            if sum(counts.values()) * self.groups + taken > self.filters:
                counts[kind] = _whole_orbits(kind, exact[kind] // 1)
        return {kind: number * self.groups for kind, number in counts.items()}

    def _warn_of_empty(self, entries: dict[str, Any], shares: dict[str, Fraction], found: dict[str, int]) -> None:
        for kind, share in shares.items():
            if share and not found[kind]:
                warnings.warn(
                    f"{self.argument}: {kind!r}: {entries[kind]!r} of {self._of} leaves no whole orbit of "
                    f"{orbit_size(kind)}. Expected a larger share. Use a larger percentage, or leave the kind out.",
                    stacklevel=4,
                )


def readable(symmetry: Mapping | None, ndim: int, argument: str = "symmetry") -> dict[str, Any] | None:
    """A copy of a `symmetry=` for channels not known yet; what no number of channels could fit is refused."""
    if symmetry is None:
        return None
    bank = Bank(argument, "channels", 0, ndim, 1)
    for kind, value in bank.entries(symmetry).items():
        if isinstance(value, str):
            bank.share(kind, value)
    return dict(symmetry)


def misfit(argument: str, number: int, noun: str, total: int) -> SymmetryError:
    """The refusal of a number of parts that do not divide what there is."""
    return SymmetryError(
        f"{argument}: {number} do not divide {total} {noun}. Expected a divisor of {total}. Use such a number."
    )


def no_mapping(argument: str, value: Any) -> SymmetryError:
    """The refusal of a `symmetry=` that is no dict."""
    return SymmetryError(
        f"{argument}: {value!r} is no mapping. Expected kinds and numbers, like {{'h': 8, 'hv': '50%'}}, or None. "
        "Use a dict."
    )


def _whole_orbits(kind: str, number: int) -> int:
    return number // orbit_size(kind) * orbit_size(kind)
