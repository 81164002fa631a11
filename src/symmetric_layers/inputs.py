"""How the channels stand that a layer leads out of their orbits.

Only the standard library is used here, nothing that is slow to import, and Python 3.7 runs it.
"""

from __future__ import annotations

from symmetric_layers.counts import Bank
from symmetric_layers.errors import SymmetryError
from symmetric_layers.orbits import plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from symmetric_layers.orbits import Plan


def led_out(in_symmetry: Any, channels: int, rank: int, groups: int, host: str) -> tuple[Plan, Plan]:
    """The plans of all input channels, and of those of one group; refused where they are not all of one kind."""
    counts = dict(Bank("in_symmetry", "input channels", channels, rank, groups).counts(in_symmetry))
    inputs = plan(counts, channels, rank, groups)
    if not inputs.orbits:
        raise SymmetryError(
            f"in_symmetry: {in_symmetry!r} names no orbits to lead out of. Expected kinds and numbers, like "
            f"{{'h': {channels}}}. Use {host} where channels are ordinary."
        )
    if len(inputs.blocks) > 1:
        raise SymmetryError(
            f"in_symmetry: {counts!r} of {channels} input channels holds channels of several kinds. "
            "Expected one kind for all. Use a layer for each and add the answers."
        )
    return inputs, plan({kind: count // groups for kind, count in counts.items()}, channels // groups, rank)
