"""Tables with a number for every position and channel (position embeddings): mirrors have the mirrored table."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from symmetric_layers.letters import axes
from symmetric_layers.orbits import Plan
from symmetric_layers.torch.convert.parts import Spread


class Layout(NamedTuple):
    """Where a table has channels and positions; axes are counted from the last one.

    Attributes:
        channels: the axis that counts channels.
        positions: the axes of maps; one for maps that are laid out in a line.
        sizes: of the maps.
        before: how many entries stand in front of such a line, which know no position.
    """

    channels: int
    positions: tuple[int, ...]
    sizes: tuple[int, ...]
    before: int


def layout_of(table: Tensor, tensor: Tensor, dim: int, maps: Sequence[tuple[int, ...]]) -> Layout | None:
    """How a table lies that is combined with a tensor whose axis `dim` counts channels; None for what is no such table.

    Args:
        table: the parameter.
        tensor: pictures or rows of positions, `(N, ...)`.
        dim: the axis of channels of the tensor.
        maps: the sizes of the maps that were seen before, the last ones first.
    """
    along = [axis for axis in range(1, tensor.dim()) if axis != dim]
    shape = (1,) * (tensor.dim() - table.dim()) + tuple(table.shape)
    whole = all(shape[axis] == tensor.shape[axis] for axis in (*along, dim))
    if dim == 0 or not along or len(shape) != tensor.dim() or shape[0] != 1 or not whole:
        return None
    sizes = tuple(tensor.shape[axis] for axis in along)
    from_last = [axis - tensor.dim() for axis in (dim, *along)]
    if sizes in maps:
        return Layout(from_last[0], tuple(from_last[1:]), sizes, 0)
    fitting = [found for found in maps if math.prod(found) <= sizes[0]] if len(along) == 1 else []
    if not fitting:
        return None
    found = max(fitting, key=math.prod)
    return Layout(from_last[0], tuple(from_last[1:]), found, sizes[0] - math.prod(found))


class SpreadTable(Spread):
    """Hooks that show a module a whole table where it stores that of representatives.

    Equivalent to: for every mirror the table of its representative, read backwards.
    """

    def __init__(self, name: str, arranged: Plan, dim: int, layout: Layout) -> None:
        super().__init__(name, arranged, dim)
        self.layout = layout

    def _written_out(self, stored: Tensor, dim: int) -> Tensor:
        mirrors = [self._mirrored(stored, mirror) for mirror in self._members()]
        return torch.stack(mirrors, self.layout.channels).flatten(self.layout.channels - 1, self.layout.channels)

    def _members(self) -> list[str]:
        size = self.plan.filters // self.plan.stored
        return ["".join(mirror) for mirror in self.plan.mirror[:size]]

    def _mirrored(self, stored: Tensor, letters: str) -> Tensor:
        """The table of a mirror, by axes that are counted from the last one."""
        flipped, sizes, before = axes(letters), self.layout.sizes, self.layout.before
        if len(self.layout.positions) == len(sizes) and not before:
            return stored.flip([self.layout.positions[axis] for axis in flipped]) if flipped else stored
        (line,) = self.layout.positions
        front, rest = stored.split([before, math.prod(sizes)], line)
        maps = rest.unflatten(line, sizes)
        turned = maps.flip([line + 1 + axis for axis in flipped])
        return torch.cat([front, turned.flatten(line + 1 - len(sizes), line)], line)
