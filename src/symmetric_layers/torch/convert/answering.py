"""Which answers of a network are handed out as orbits."""

from collections.abc import Callable
from typing import Any

from symmetric_layers.errors import SymmetryError, one_of


def those_that_stay(answers: Any) -> Callable[[str], bool]:
    """Which answers stay orbits, by name."""
    if not isinstance(answers, list):
        every = one_of("answers", answers, ("plain", "orbits")) == "orbits"
        return lambda name: every
    names = set(answers)
    return lambda name: name in names


def check_names(answers: Any, known: set[str], init: str) -> None:
    """Refuses names that no answer has, and answers that no average could have."""
    unknown = [] if isinstance(answers, str) else [name for name in answers if name not in known]
    if unknown:
        raise SymmetryError(
            f"answers: {unknown[0]!r} is no answer of the model. Expected names out of {sorted(known)}. Use such."
        )
    if init == "average" and answers != "plain":
        raise SymmetryError(
            f"answers: {answers!r} cannot start as an average, which has no orbits. Expected 'plain'. Use that, or "
            "init='own'."
        )
