"""How wide a converted network has to be to have about as many weights as before."""

import math
from collections.abc import Callable
from fractions import Fraction

from torch import nn

from symmetric_layers.errors import SymmetryError
from symmetric_layers.letters import orbit_size
from symmetric_layers.torch.convert.banks import Start
from symmetric_layers.torch.convert.surgeon import Surgeon
from symmetric_layers.torch.convert.surgery import copy_of

Make = Callable[[nn.Module, Start], Surgeon]


def equal_width(model: nn.Module, kind: str, make: Make) -> Fraction:
    """The width that brings the number of parameters nearest to the model's, of those that make whole orbits."""
    size, bare = orbit_size(kind), copy_of(model).to("meta")
    wanted = sum(parameter.numel() for parameter in model.parameters())

    def sizes(width: Fraction) -> list[int]:
        converted = make(copy_of(bare), Start(width, size)).operate()
        return [parameter.numel() for parameter in converted.parameters()]

    # Every parameter grows with a power of the width: two widths that always make whole orbits say with which.
    once, twice = sizes(Fraction(size)), sizes(Fraction(2 * size))
    powers = [round(math.log2(more / fewer)) if fewer else 0 for fewer, more in zip(once, twice, strict=True)]

    def distance(width: Fraction) -> Fraction:
        grown = [count * (width / size) ** power for count, power in zip(once, powers, strict=True)]
        return abs(sum(map(Fraction, grown), Fraction(0)) - wanted)

    channels = make(bare, Start()).divisor()
    for width in sorted((Fraction(size * times, channels) for times in range(1, channels + 1)), key=distance):
        try:
            sizes(width)
        except SymmetryError:  # groups of channels that would be torn apart
            continue
        return width
    return Fraction(size)
