"""What is known of a model when it has been followed, and what can be asked of that."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from torch import nn

from symmetric_layers.letters import LETTERS
from symmetric_layers.sets import Sets
from symmetric_layers.torch.convert.sentences import beside, of_both_sorts
from symmetric_layers.torch.convert.tables import Layout


class Notes:
    """What one model does with its channels: who reads, makes and combines which."""

    def __init__(self, model: nn.Module, kept: Callable[[str], bool], plain: Iterable[str] = ()) -> None:
        super().__init__()
        self.sets = Sets()
        self.reads: dict[str, list[int]] = {}  # by module: the sets of channels that it met
        self.keys: dict[str, list[int]] = {}  # by attention: the sets of its keys and values
        self.writes: dict[str, int] = {}  # by convolution or linear layer: the set that it makes
        self.answers: dict[str, int] = {}  # by any other module: the set of its answer
        self.parameters: dict[tuple[str, str], tuple[int, int]] = {}  # outside layers: set, axis
        self.tables: dict[str, tuple[int, Layout]] = {}  # by table of positions: its set, and how it lies
        self.named: set[str] = set()  # the answers of the model
        self.alone: dict[str, tuple[int, ...]] = {}  # by module without numbers to learn: the shape of what it read
        self.broken_alone: dict[str, bool] = {}  # by those of them that were tried: whether they break the law
        self.flat: dict[str, tuple[int, ...]] = {}  # by linear layer that reads whole maps: their sizes
        self.padded: dict[str, set[Any]] = {}  # by convolution or pool: what its pictures were padded with just before
        self.joined: list[tuple[str, int, int]] = []  # by module: pictures concatenated with other channels
        self.led_out = dict.fromkeys(plain, False)  # modules whose answers are to be plain: whether they made channels
        self._model, self._kept = model, kept
        self._inputs: set[int] = set()
        self._picked: set[int] = set()  # of which single channels are picked out
        self._handed_out: set[int] = set()  # what the model answers with
        self._made: dict[int, int] = {}  # by set: how many channels a layer made

    def padding_before(self, name: str, layer: Any, letters: str) -> Any:
        """How many zeros a convolution or pool always finds around its picture, where these are to be its own.

        A module that pads orbits is one of its own, seen in the mirror. Along axes without letters nothing changes.
        """
        pads, by_function = next(iter(self.padded.get(name, ())), None) or (None, True)
        alone = len(self.padded.get(name, ())) == 1 and (by_function or bool(self.state(name)))
        usual = not getattr(layer, "transposed", False) and getattr(layer, "padding_mode", "zeros") == "zeros"
        if pads is None or not alone or not usual:
            return None
        along = tuple(pair if LETTERS[len(pads) - 1 - axis] in letters else (0, 0) for axis, pair in enumerate(pads))
        return along if any(before != after for before, after in along) else None

    def forget_padding(self, other: "Notes") -> None:
        """Forgets what is padded otherwise in pictures of another size."""
        self.padded = {name: found for name, found in self.padded.items() if other.padded.get(name) == found}

    def check(self) -> None:
        """Refuses pictures that are concatenated with channels that will be orbits."""
        name = self.sets.meet(self.joined)
        if name is not None:
            raise beside(name)

    def make_plain_below(self, size: int) -> list[str]:
        """Makes channels plain that are fewer than this, where others are as many, and those that only mix colours.

        Gives the layers that make them.
        """
        most: dict[int, int] = {}
        for source, made in self._made.items():
            root = self.sets.find(source)
            if not self.sets.is_plain(root):
                most[root] = max(made, most.get(root, 0))
        few = {root for root, made in most.items() if made < size} if max(most.values(), default=0) >= size else set()
        few |= {root for root, made in most.items() if made % size and self._only_mixes(root)}
        for root in few:
            self.sets.make_plain(root)
        few |= set(self._seen_one_by_one(size))
        return [name for name, source in self.writes.items() if self.sets.find(source) in few]

    def _seen_one_by_one(self, size: int) -> Iterator[int]:
        """Makes plain what is made of plain channels in groups that have no room for orbits; gives these sets."""
        grouped = [(name, source) for name, source in self.writes.items() if not self._kept(name) and self.state(name)]
        for name, source in grouped:
            layer: Any = self._model.get_submodule(name)
            groups, root = getattr(layer, "groups", 1), self.sets.find(source)
            if groups > 1 and layer.out_channels // groups % size and not self.sets.is_plain(root):
                self.sets.make_plain(root)
                yield root
                yield from self._seen_one_by_one(size)  # what reads it may be such a layer, too
                return

    def _only_mixes(self, root: int) -> bool:
        """Whether all that makes these channels mixes those of pictures, pixel by pixel, which no mirror notices."""
        layers = [name for name, source in self.writes.items() if self.sets.find(source) == root]
        kernels = [getattr(self._model.get_submodule(name), "kernel_size", (0,)) for name in layers]
        return all(set(kernel) == {1} for kernel in kernels) and all(self.state(name) for name in layers)

    def plain_inside(self) -> list[str]:
        """Layers that other layers read, and that are plain because what they make meets inputs or answers."""
        ends = {self.sets.find(source) for source in self._handed_out | self._inputs}
        layers = [sources for name, sources in self.reads.items() if name in self.writes]
        read = {self.sets.find(one) for sources in layers for one in sources if one not in self._inputs}
        return [name for name, source in self.writes.items() if self.sets.find(source) in ends & read]

    def picked_apart(self) -> list[str]:
        """Layers that are plain because single ones of their channels are picked out."""
        roots = {self.sets.find(source) for source in self._picked - self._inputs}
        return [name for name, source in self.writes.items() if self.sets.find(source) in roots]

    def state(self, name: str) -> bool | None:
        """Whether a module meets plain channels; None where it met none. Refuses a module that meets both sorts."""
        met = {self.sets.is_plain(source) for source in self.reads.get(name, [])}
        if len(met) > 1:
            raise of_both_sorts(name)
        return met.pop() if met else None

    def meets(self, source: int) -> bool:
        """Whether channels of a layer or an input are among these."""
        known = {self.sets.find(written) for written in [*self.writes.values(), *self._inputs]}
        return self.sets.find(source) in known
