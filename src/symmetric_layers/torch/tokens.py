"""Maps whose positions lie in a row, as transformers read them: how a mirror moves these tokens."""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from symmetric_layers.letters import axes
from symmetric_layers.torch.answers import difference, usual_tolerance

_ORDERS = 6  # of one axis: maps of more sizes than these are hardly in one network
_READINGS = 64
_BEFORE = 8  # class tokens and registers beside a map of a size that was never seen, or in an answer
_PAIR = 2  # positions: their mirror exchanges neighbours, as that of channels and classes in orbits does

Size = tuple[int, ...]
Pair = tuple[Tensor, Tensor]
Readings = Iterable[tuple[Tensor, list[int]]]


class Tokens:
    """The sizes of the maps that were seen in a run, and what a mirror does to tensors that such maps were laid out in.

    Args:
        pictures: the pictures that a network is given: `(N, C, *positions)`.
        sizes: the positions of the maps that its modules were given and answered, the first ones first.
    """

    def __init__(self, pictures: Iterable[Tensor], sizes: Iterable[Size]) -> None:
        given = list(pictures)
        self._batch = given[0].shape[0] if given else 0
        self._picture: Size = tuple(given[0].shape[2:]) if given else ()
        self._sizes = list(dict.fromkeys([*sizes, *(tuple(picture.shape[2:]) for picture in given)]))

    def seen(self, value: Tensor, letter: str) -> Iterator[tuple[Tensor, list[int]]]:
        """The tensor with tokens in the mirror, in every way that fits, and the axes that are left for channels.

        Class tokens, before or behind the map, stay where they are. Positions may be split, as those of windows are:
        `(N * windows, positions of a window, C)`.
        """
        ways = [(value, self._sizes, True), *self._by_windows(value, letter)]
        readings = itertools.chain.from_iterable(self._along_axes(*way, letter) for way in ways)
        yield from itertools.islice(readings, _READINGS)

    def is_map(self, shape: Size, letter: str) -> bool:
        """Whether an answer without channels is of a size that was seen, and no table of left and right scores."""
        return shape in self._told_apart(letter)

    def in_answers(self, value: Tensor, letter: str) -> Iterator[tuple[Tensor, list[int]]]:
        """The same for an answer of the network, where classes could be taken for positions: only what is sure.

        That are answers `(N, tokens, C)`, `(N, C, tokens)` and `(N, tokens, tokens)` to pictures of two or three axes,
        with as many tokens as a map that was seen has positions, and a few class tokens.
        """
        if len(self._picture) < 2 or value.dim() != 3:
            return
        for places in ((1,), (2,), (1, 2)):
            length = value.shape[places[0]]
            if any(value.shape[place] != length for place in places):
                continue
            counts = {size: math.prod(size) for size in self._told_apart(letter)}
            sizes = [size for size, n in counts.items() if n <= length <= n + min(_BEFORE, n - 1)]
            for order in _orders(length, sizes, True, letter):
                found = value
                for place in places:
                    found = found.index_select(place, order.to(value.device))
                yield found, [place for place in (1, 2) if place not in places]

    def _told_apart(self, letter: str) -> list[Size]:
        """The sizes that were seen whose mirror images no exchange of left and right channels or classes looks like."""
        (axis,) = axes(letter)
        return [size for size in self._sizes if len(size) >= -axis and size[axis] > _PAIR]

    def _along_axes(
        self, value: Tensor, sizes: list[Size], whole: bool, letter: str
    ) -> Iterator[tuple[Tensor, list[int]]]:
        """Mirrors the tokens along some of the axes; where these are positions of windows, along none, too."""
        places = range(1, value.dim())
        choices: list[list[Tensor | None]] = []
        for place in places:
            length = value.shape[place]
            scaled = [size for more in range(_BEFORE + 1) for size in self._scaled(length - more)] if whole else []
            choices.append([None, *_orders(length, [*sizes, *scaled], whole, letter)])
        for orders in itertools.product(*choices):
            found = value
            for place, order in zip(places, orders, strict=True):
                found = found if order is None else found.index_select(place, order.to(value.device))
            left = [place for place, order in zip(places, orders, strict=True) if order is None]
            if len(left) < len(places) or not whole:
                yield found, left
        (axis,) = axes(letter)
        if not whole and value.dim() == len(self._picture) + 2:  # windows that are maps
            for flipped, channels in ((axis, 1), (axis - 1, value.dim() - 1)):
                yield value.flip(flipped), [channels]

    def _scaled(self, length: int) -> list[Size]:
        """The size with so many positions that has the picture's shape, where there is one."""
        if length < 2 or not self._picture:
            return []
        times = (length / math.prod(self._picture)) ** (1 / len(self._picture))
        size = tuple(round(n * times) for n in self._picture)
        return [size] if math.prod(size) == length else []

    def _by_windows(self, value: Tensor, letter: str) -> Iterator[tuple[Tensor, list[Size], bool]]:
        """The tensor with its windows in the mirror, where its first axis holds several of each picture."""
        count, rest = divmod(value.shape[0], self._batch) if self._batch else (0, 1)
        if rest or count < 2:
            return
        scaled = self._scaled(count * math.prod(value.shape[1:-1])) if value.dim() > 2 else []
        for size in dict.fromkeys([*self._sizes, *scaled]):
            for grid in _grids(size, count):
                window = tuple(n // m for n, m in zip(size, grid, strict=True))
                if math.prod(window) in (1, *value.shape[1:]) or value.shape[1 : 1 + len(window)] == window:
                    order = torch.arange(value.shape[0]).unflatten(0, (-1, count))
                    order = order.index_select(1, _reversed(grid, letter)).flatten()
                    yield value.index_select(0, order.to(value.device)), [window], False


def _orders(length: int, sizes: list[Size], whole: bool, letter: str) -> list[Tensor]:
    """In which orders a mirror may read so many tokens, those with the fewest class tokens first."""
    found: dict[tuple[int, ...], Tensor] = {}
    for size in sorted((size for size in sizes if math.prod(size) <= length), key=math.prod, reverse=True):
        more = length - math.prod(size)
        for first in (more, 0) if whole or not more else ():
            order = torch.arange(length)
            order[first : first + math.prod(size)] = first + _reversed(size, letter)
            found.setdefault(tuple(order.tolist()), order)
    found.pop(tuple(range(length)), None)
    return list(found.values())[:_ORDERS]


def _reversed(size: Size, letter: str) -> Tensor:
    """The numbers of a map's positions, in the order in which its mirror image has them."""
    return torch.arange(math.prod(size)).view(size).flip(axes(letter)).flatten()


def _grids(size: Size, count: int) -> Iterator[Size]:
    """All ways to cut a map into so many windows of one size."""
    if len(size) == 1:
        if count and size[0] % count == 0:
            yield (count,)
        return
    for first in range(1, min(count, size[0]) + 1):
        if count % first == 0 and size[0] % first == 0:
            yield from ((first, *others) for others in _grids(size[1:], count // first))


def explained(
    value: Tensor, answer: Tensor, readings: Readings, expected: Callable[[Tensor, list[int]], Iterable[Pair]]
) -> tuple[float, float] | None:
    """The deviation that is left in the first reading that explains an answer; None where none does.

    Args:
        value, answer: the answer to a picture, and to its mirror image.
        readings: the ways to mirror the first one's tokens, and the axes that are left for channels.
        expected: what is to be compared in one reading: what is expected, and what came.
    """
    if not same_numbers(value, answer):
        return None
    for picture, channels in readings:
        found = min((difference(*pair) for pair in expected(picture, channels)), default=None)
        if found is not None and found[1] <= usual_tolerance(value):
            return found
    return None


def same_numbers(value: Tensor, answer: Tensor) -> bool:
    """Whether two tensors may hold the same numbers in different places: what is quickly seen not to is no mirror."""
    if value.shape != answer.shape or not value.numel():
        return False
    one, two = value.abs().double(), answer.abs().double()
    largest = max(float(one.max()), 1e-300)
    apart = float((one / largest).pow(3).sum()) - float((two / largest).pow(3).sum())
    if abs(apart) > 4 * value.numel() * usual_tolerance(value):
        return False
    return difference(one.flatten().sort().values, two.flatten().sort().values)[1] <= usual_tolerance(value)
