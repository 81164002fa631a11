"""The one error of this package, and the checks that every face words alike."""

from __future__ import annotations

import operator

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Container, Iterable, Sequence


class SymmetryError(ValueError):
    """An argument no layer can be built from: one sentence says what came, what was expected, what to do."""


def whole_number(argument: str, value: Any, least: int = 0) -> int:
    """The value as an `int`; anything that is no whole number of at least `least` (a bool, a float) is refused."""
    if not isinstance(value, bool):
        try:
            number = operator.index(value)
        except TypeError:
            pass
        else:
            if number >= least:
                return number
    raise SymmetryError(
        f"{argument}: {value!r} is no usable count. Expected a whole number, at least {least}. Use such a number."
    )


def one_of(argument: str, value: Any, choices: Sequence[str]) -> str:
    """The value, if it is one of the choices; anything else is refused."""
    if isinstance(value, str) and value in choices:
        return value
    raise SymmetryError(
        "{}: {!r} is no choice here. Expected {}. Use one of these.".format(
            argument, value, " or ".join(repr(choice) for choice in choices)
        )
    )


def yes_or_no(argument: str, value: Any) -> bool:
    """The value, if it is a bool; anything else is refused."""
    if isinstance(value, bool):
        return value
    raise SymmetryError(f"{argument}: {value!r} is no bool. Expected True or False. Use one of these.")


def known_names(argument: str, given: str | Iterable[str], known: Container[str], expected: str) -> list[str]:
    """The names that are given, or the one; refused where nothing is known of that name."""
    names = [given] if isinstance(given, str) else list(given)
    for name in names:
        if name not in known:
            raise SymmetryError(f"{argument}: {name!r} is no module of the model. Expected {expected}. Use such.")
    return names


def enough_positions(k: int, positions: int) -> None:
    """Refuses to take the k largest of fewer than k positions."""
    if k > positions:
        raise SymmetryError(
            f"k: {k} is more than the {positions} positions of the input. Expected at most {positions}. "
            "Use a smaller k, or a longer input."
        )
