"""How wide a converted network has to be to have about as many weights as before."""

from collections.abc import Callable
from fractions import Fraction

from torch import nn

from symmetric_layers.letters import orbit_size
from symmetric_layers.start import Start, equal_width
from symmetric_layers.torch.convert.surgeon import Surgeon
from symmetric_layers.torch.convert.surgery import copy_of

Make = Callable[[nn.Module, Start], Surgeon]


def as_many_parameters(model: nn.Module, kind: str, make: Make) -> Fraction:
    """The width that brings the number of parameters nearest to the model's, of those that make whole orbits."""
    size, bare = orbit_size(kind), copy_of(model).to("meta")
    wanted = sum(parameter.numel() for parameter in model.parameters())

    def sizes_at(width: Fraction) -> list[int]:
        converted = make(copy_of(bare), Start(width, size)).operate()
        return [parameter.numel() for parameter in converted.parameters()]

    return equal_width(wanted, make(bare, Start()).divisor(), size, Fraction(size), sizes_at)
