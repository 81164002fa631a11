"""How wide a converted network has to be to have about as many weights as before."""

import math
import warnings
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from symmetric_layers.errors import SymmetryError
from symmetric_layers.keras.convert.surgeon import Surgeon
from symmetric_layers.letters import orbit_size
from symmetric_layers.start import Start, equal_width


def as_many_weights(model: Any, kind: str, surgeon: Surgeon, made: Callable[[Start], Any]) -> Fraction:
    """The width that brings the number of weights nearest to the model's.

    Args:
        model: what is converted.
        kind: the letters.
        surgeon: knows which layers make orbits.
        made: the converted network, from how wide it is.
    """
    size = orbit_size(kind)

    def sizes_at(times: Fraction) -> list[int]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what is lost in the one that stays, that one tells
            return [math.prod(weight.shape) for weight in made(Start(times, size)).weights]

    base = Fraction(1)
    try:
        sizes_at(base)
    except SymmetryError:  # channels that are no whole orbits
        base = Fraction(size)
    return equal_width(model.count_params(), surgeon.divisor(), size, base, sizes_at)
