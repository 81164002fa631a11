"""How well `'auto'` chooses: `python benchmarks/choices.py [--seconds 240] [--seed 0] [--write]`.

Layers are drawn at random, one after the other: pictures and filters of all sizes, lines, planes and volumes, both
memory formats. Each is answered by the fused kernel, by the reference and by the ordinary convolution with as many
filters in its fastest form, all in turns. What `'auto'` would take is asked, and compared with the better of the two.
"""

import argparse
import random
import time
from typing import NamedTuple

import torch
from clock import memory_stays, put, side_by_side, table
from folding import LAST, README, forward, layer, where

from symmetric_layers.torch import why_not

SIZES = {1: (128, 512, 2048, 8192), 2: (7, 14, 20, 28, 40, 56, 80, 112, 160, 224), 3: (8, 12, 16, 24, 32, 48)}
KINDS = {1: ("h",), 2: ("h", "v", "hv"), 3: ("h", "hv", "hvz")}
INPUTS = (1, 3, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512)
FILTERS = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512)
MOST_PRODUCTS, MOST_NUMBERS = 2e9, 5e7  # of a layer, and of a picture: more would take too long
NOTICED = 1.05
GROUPS = {"all": (0.0, 1e9), "below 0.1 ms": (0.0, 0.1), "0.1 to 1 ms": (0.1, 1.0), "above 1 ms": (1.0, 1e9)}


class Drawn(NamedTuple):
    """A layer, and the picture it sees."""

    batch: int
    inputs: int
    filters: int
    size: int
    kernel: int
    stride: int
    rank: int
    kind: str
    deep: bool
    last: bool

    @property
    def is_one(self) -> bool:
        """Whether there is such a layer, and it is worth measuring."""
        orbit, taps, pixels = 2 ** len(self.kind), self.kernel**self.rank, self.size**self.rank
        answers = pixels // self.stride**self.rank * self.filters * self.batch
        fits = self.filters % orbit == 0 and not (self.deep and self.inputs % orbit) and self.size >= self.kernel
        numbers = max(self.batch * self.inputs * pixels, answers)
        same = self.kernel == 1 and not self.deep  # one tap of a picture mirrors nothing
        return fits and not same and answers * self.inputs * taps <= MOST_PRODUCTS and numbers <= MOST_NUMBERS

    def __str__(self) -> str:
        """As a row of a table begins."""
        more = f"{'deep, ' if self.deep else ''}{'channels-last' if self.last else 'contiguous'}"
        what = f"{self.batch}, {self.inputs}, {self.filters}, {self.size}, {self.rank}-D, kernel {self.kernel}"
        return f"{what}, stride {self.stride}, {self.kind}, {more}"


class Measured(NamedTuple):
    """Milliseconds of the fastest rival, what the kernel and the reference take of it, and what `'auto'` takes."""

    drawn: Drawn
    rival: float
    cpu: float
    reference: float
    taken: str

    @property
    def auto(self) -> float:
        """What `'auto'` takes of the rival's time."""
        return self.cpu if self.taken == "cpu" else self.reference

    @property
    def best(self) -> float:
        """What the better of the two takes."""
        return min(self.cpu, self.reference)


def draw(dice: random.Random) -> Drawn:
    """A layer that there is."""
    while True:
        rank = dice.choice((1, 2, 2, 2, 2, 3))
        drawn = Drawn(
            dice.choice((1, 1, 2, 4, 8, 16)), dice.choice(INPUTS), dice.choice(FILTERS), dice.choice(SIZES[rank]),
            dice.choice((1, 3, 3, 3, 5, 7)), dice.choice((1, 1, 1, 2)), rank, dice.choice(KINDS[rank]),
            dice.random() < 0.5, rank > 1 and dice.random() < 0.5,
        )  # fmt: skip
        if drawn.is_one:
            return drawn


def measure(d: Drawn) -> Measured:
    """Everything about one layer."""
    padding = d.kernel // 2
    own = layer(d.rank, d.inputs, d.filters, d.kernel, d.kind, d.deep, padding, d.stride)
    other = layer(d.rank, d.inputs, d.filters, d.kernel, d.kind, d.deep, padding, d.stride)
    x = torch.randn(d.batch, d.inputs, *[d.size] * d.rank)
    weight = torch.randn(d.filters, d.inputs, *[d.kernel] * d.rank)
    pictures = x.to(memory_format=LAST[d.rank]) if d.last else x
    taken = why_not(own, pictures).split("'")[1]
    own.algorithm, other.algorithm = "cpu", "reference"
    with torch.no_grad():
        rivals = forward(d.rank, x, weight, padding, d.stride)
        times = side_by_side({**rivals, "cpu": lambda: own(pictures), "reference": lambda: other(pictures)})
    best = min(rivals, key=times.milliseconds)
    return Measured(d, times.milliseconds(best), times.ratio("cpu", best), times.ratio("reference", best), taken)


def share(found: list[Measured], limit: list[float]) -> str:
    """How many take noticeably longer than they could."""
    return f"{sum(one.auto > NOTICED * most for one, most in zip(found, limit, strict=True)) / len(found):.1%}"


def summed(found: list[Measured]) -> str:
    """How much is lost, by the rival's time."""
    rows = []
    for name, (low, high) in GROUPS.items():
        some = [one for one in found if low <= one.rival < high]
        if not some:
            continue
        taken, best, plain = (
            sum(one.rival * ratio(one) for one in some)
            for ratio in (lambda one: one.auto, lambda one: one.best, lambda one: one.reference)
        )
        rows.append([
            name, str(len(some)), f"{taken / sum(one.rival for one in some):.2f}", f"{taken / best - 1:.1%}",
            f"{plain / best - 1:.0%}", share(some, [one.reference for one in some]), share(some, [1.0] * len(some)),
        ])  # fmt: skip
    return table(
        ["fastest rival", "layers", "auto to the rival", "lost by auto", "lost by the reference",
         "auto slower than the reference", "auto slower than the rival"], rows,
    )  # fmt: skip


def worst(found: list[Measured], many: int = 10) -> str:
    """Where most time is lost."""
    found = sorted(found, key=lambda one: one.rival * (one.best - one.auto))[:many]
    rows = [
        [str(one.drawn), f"{one.rival:.2f} ms", one.taken, f"{one.cpu:.2f}", f"{one.reference:.2f}"] for one in found
    ]
    header = ["batch, Cin, Cout, size", "fastest rival", "taken", "kernel", "reference"]
    return table(header, rows)


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=240)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--write", action="store_true", help="also write the tables into the kernels' README")
    asked = parser.parse_args()
    memory_stays()
    torch.set_num_threads(asked.threads)
    torch.manual_seed(asked.seed)
    dice, found, end = random.Random(asked.seed), [], time.monotonic() + asked.seconds
    while time.monotonic() < end:
        found.append(measure(draw(dice)))
    head = f"{where(asked.threads)}, {len(found)} layers drawn at random."
    text = f"{head}\n\n{summed(found)}\n\nWhere most is lost:\n\n{worst(found)}"
    print(text)
    if asked.write:
        put(README, "choices", text)


if __name__ == "__main__":
    main()
