"""Groups of channels that a mirror leaves together: what normalisation over groups needs.

Only the standard library is used here, nothing that is slow to import, and Python 3.7 runs it.
"""

from __future__ import annotations

from symmetric_layers.errors import SymmetryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from symmetric_layers.orbits import Plan


def keep_groups_whole(bank: Plan, num_groups: int, argument: str = "num_groups") -> None:
    """Refuses groups of channels that an exchange would tear apart."""
    letter = _torn(bank, num_groups)
    if letter:
        numbers = [n for n in range(1, bank.filters + 1) if bank.filters % n == 0 and not _torn(bank, n)]
        raise SymmetryError(
            f"{argument}: {num_groups} groups of {bank.filters // num_groups} channels are torn apart by the exchange "
            f"along {letter!r}. Expected one of {numbers}. Use such a number."
        )


def _torn(bank: Plan, num_groups: int) -> str:
    """The first letter whose exchange scatters a group over several, or nothing."""
    size = bank.filters // num_groups
    for letter in sorted({letter for kind in bank.kinds for letter in kind}):
        groups = [channel // size for channel in bank.exchange(letter)]
        if any(len(set(groups[first : first + size])) > 1 for first in range(0, bank.filters, size)):
            return letter
    return ""
