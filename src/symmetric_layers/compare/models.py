"""The networks: one builder, and three ways to fill its layers."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from symmetric_layers.compare.data import Task
from symmetric_layers.letters import orbit_size
from symmetric_layers.torch import OrbitBatchNorm2d, OrbitPool, SymmetricConv2d


@dataclass(frozen=True)
class Bricks:
    """What the layers of a network are made of.

    Attributes:
        kind: the mirrors, `''` for an ordinary network.
        whole: True for an equivariant network: all filters are orbits, and every layer exchanges the channels of the
            one before. False for mirrored banks dropped into an ordinary network: half of each layer's filters.
    """

    kind: str = ""
    whole: bool = False

    @property
    def size(self) -> int:
        """Widths are multiples of this."""
        return orbit_size(self.kind) if self.whole else 1

    def orbits(self, channels: int) -> dict[str, int]:
        """How channels are arranged after a layer."""
        return {self.kind: channels} if self.whole else {}

    def conv(self, inputs: int, outputs: int, lifts: bool) -> nn.Module:
        """A 3x3 convolution; the first one `lifts`: it reads a picture, whose channels are no orbits."""
        if not self.kind:
            return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        symmetry: dict[str, int | str] = {self.kind: outputs if self.whole else "50%"}
        before = None if lifts else self.orbits(inputs)
        return SymmetricConv2d(inputs, outputs, 3, padding=1, bias=False, symmetry=symmetry, in_symmetry=before)

    def norm(self, channels: int) -> nn.Module:
        """Batch norm, shared within orbits where all channels are orbits."""
        return OrbitBatchNorm2d(channels, symmetry=self.orbits(channels)) if self.whole else nn.BatchNorm2d(channels)

    def block(self, inputs: int, outputs: int, lifts: bool = False) -> nn.Sequential:
        """Convolution, norm, activation. The activation leaks: with ReLU now and then a narrow net loses a class."""
        return nn.Sequential(self.conv(inputs, outputs, lifts), self.norm(outputs), nn.LeakyReLU(0.1))

    def out(self, channels: int) -> tuple[nn.Module, int]:
        """From orbits to ordinary channels, and how many are left."""
        pool = OrbitPool(self.orbits(channels)) if self.whole else nn.Identity()
        return pool, channels // self.size


def halve(x: Tensor) -> Tensor:
    """Max pooling with stride 2 whose grid is its own mirror: windows of 2 on even sizes, of 3 on odd ones."""
    windows = [2 + size % 2 for size in x.shape[2:]]
    return F.max_pool2d(x, windows, stride=2, padding=[size % 2 for size in x.shape[2:]])


class Encoder(nn.Module):
    """Two convolutions per level, halved in between."""

    def __init__(self, bricks: Bricks, widths: Sequence[int]) -> None:
        super().__init__()
        before = [1, *widths[:-1]]
        self.levels = nn.ModuleList(
            nn.Sequential(bricks.block(inputs, width, lifts=level == 0), bricks.block(width, width))
            for level, (inputs, width) in enumerate(zip(before, widths, strict=True))
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """The channels of every level."""
        answers: list[Tensor] = []
        for level in self.levels:
            answers.append(level(halve(answers[-1]) if answers else x))
        return answers


class UNet(nn.Module):
    """A class for every pixel."""

    def __init__(self, bricks: Bricks, widths: Sequence[int], classes: int) -> None:
        super().__init__()
        self.encoder = Encoder(bricks, widths)
        self.decoder = nn.ModuleList(
            bricks.block(low + high, high) for high, low in zip(widths[-2::-1], widths[:0:-1], strict=True)
        )
        self.pool, channels = bricks.out(widths[0])
        self.head = nn.Conv2d(channels, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """`(N, 1, H, W)` to `(N, classes, H, W)`."""
        *skips, x = self.encoder(x)
        for block, skip in zip(self.decoder, reversed(skips), strict=True):
            wide = F.interpolate(x, skip.shape[2:], mode="bilinear", align_corners=True)
            x = block(torch.cat([wide, skip], 1))
        answer: Tensor = self.head(self.pool(x))
        return answer


class Classifier(nn.Module):
    """A class for the picture."""

    def __init__(self, bricks: Bricks, widths: Sequence[int], classes: int) -> None:
        super().__init__()
        self.encoder = Encoder(bricks, widths)
        self.pool, channels = bricks.out(widths[-1])
        self.head = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """`(N, 1, H, W)` to `(N, classes)`."""
        answer: Tensor = self.head(self.pool(self.encoder(x)[-1]).mean((2, 3)))
        return answer


def build(task: Task, net: str) -> nn.Module:
    """The network of a row: `'plain'`, `'bank'`, `'twin'` or `'wide'`."""
    if net == "plain":
        return _network(task, Bricks(), task.widths)
    if net == "bank":
        return _network(task, Bricks(task.kind), task.widths)
    return _network(task, Bricks(task.kind, whole=True), equal_weights(task) if net == "wide" else task.widths)


@cache
def equal_weights(task: Task) -> tuple[int, ...]:
    """The widths, in the plain network's proportions, with which the twin comes closest to its weights."""
    twins = Bricks(task.kind, whole=True)
    with torch.device("meta"):
        goal = parameters(_network(task, Bricks(), task.widths))
        scales = [1 + step / 50 for step in range(50 * twins.size)]
        found = {tuple(_round(scale * width, twins.size) for width in task.widths): None for scale in scales}
        return min(found, key=lambda widths: abs(parameters(_network(task, twins, widths)) - goal))


def parameters(net: nn.Module) -> int:
    """How many weights are trained."""
    return sum(weight.numel() for weight in net.parameters())


def _network(task: Task, bricks: Bricks, widths: Sequence[int]) -> nn.Module:
    return (UNet if task.maps else Classifier)(bricks, widths, len(task.classes))


def _round(width: float, size: int) -> int:
    return max(size, round(width / size) * size)
