"""The plain networks: small ones of our own, MONAI's, and anybody's."""

import json
from collections.abc import Sequence
from functools import cache
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from symmetric_layers.compare.data import Task
from symmetric_layers.compare.named import named
from symmetric_layers.letters import orbit_size

OURS = ("small", "unet")
_CONV = {2: nn.Conv2d, 3: nn.Conv3d}
_NORM = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_POOL = {2: F.max_pool2d, 3: F.max_pool3d}
_WIDEN = {2: "bilinear", 3: "trilinear"}


def block(inputs: int, outputs: int, rank: int) -> nn.Sequential:
    """Convolution, norm, activation. The activation leaks: with ReLU now and then a narrow net loses a class."""
    conv = _CONV[rank](inputs, outputs, 3, padding=1, bias=False)
    return nn.Sequential(conv, _NORM[rank](outputs), nn.LeakyReLU(0.1))


def halve(x: Tensor) -> Tensor:
    """Max pooling with stride 2 whose grid is its own mirror: windows of 2 on even sizes, of 3 on odd ones."""
    sizes = x.shape[2:]
    windows, padding = [2 + size % 2 for size in sizes], [size % 2 for size in sizes]
    return _POOL[len(sizes)](x, windows, stride=2, padding=padding)


class Encoder(nn.Module):
    """Two convolutions per level, halved in between."""

    __module__ = "ordinary"  # converters take classes of this package for layers that are converted already

    def __init__(self, channels: int, widths: Sequence[int], rank: int) -> None:
        super().__init__()
        before = [channels, *widths[:-1]]
        self.levels = nn.ModuleList(
            nn.Sequential(block(inputs, width, rank), block(width, width, rank))
            for inputs, width in zip(before, widths, strict=True)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """The channels of every level."""
        answers: list[Tensor] = []
        for level in self.levels:
            answers.append(level(halve(answers[-1]) if answers else x))
        return answers


class UNet(nn.Module):
    """A class for every pixel."""

    __module__ = "ordinary"

    def __init__(self, channels: int, widths: Sequence[int], classes: int, rank: int) -> None:
        super().__init__()
        self.encoder = Encoder(channels, widths, rank)
        self.decoder = nn.ModuleList(
            block(low + high, high, rank) for high, low in zip(widths[-2::-1], widths[:0:-1], strict=True)
        )
        self.head = _CONV[rank](widths[0], classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """`(N, C, *positions)` to `(N, classes, *positions)`."""
        *skips, x = self.encoder(x)
        for level, skip in zip(self.decoder, reversed(skips), strict=True):
            wide = F.interpolate(x, skip.shape[2:], mode=_WIDEN[x.dim() - 2], align_corners=True)
            x = level(torch.cat([wide, skip], 1))
        answer: Tensor = self.head(x)
        return answer


class Classifier(nn.Module):
    """A class for the picture."""

    __module__ = "ordinary"

    def __init__(self, channels: int, widths: Sequence[int], classes: int, rank: int) -> None:
        super().__init__()
        self.encoder = Encoder(channels, widths, rank)
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        """`(N, C, *positions)` to `(N, classes)`."""
        answer: Tensor = self.head(self.encoder(x)[-1].flatten(2).mean(2))
        return answer


def plain(task: Task, widths: Sequence[int] | None = None) -> nn.Module:
    """The ordinary network of a task, with other widths where these are given."""
    if task.model not in OURS:
        return named(task.model, json.loads(task.arguments), task.shape, len(task.classes))
    channels, *sizes = task.shape
    return (UNet if task.maps else Classifier)(channels, widths or task.widths, len(task.classes), len(sizes))


def parameters(net: nn.Module) -> int:
    """How many weights are trained."""
    return sum(weight.numel() for weight in net.parameters() if weight.requires_grad)


def equal_weights(task: Task) -> tuple[int, ...]:
    """The widths, in the plain network's proportions, whose twin comes closest to the plain network's weights."""
    return _equal_weights(task.maps, task.shape, task.widths, len(task.classes), orbit_size(task.kind))


@cache
def _equal_weights(
    maps: bool, shape: tuple[int, ...], widths: tuple[int, ...], classes: int, size: int
) -> tuple[int, ...]:
    def weights(candidate: Sequence[int]) -> int:
        return parameters((UNet if maps else Classifier)(shape[0], candidate, classes, len(shape) - 1))

    with torch.device("meta"):
        goal = size * weights(widths)  # a twin stores one of `size` filters
        scales = [1 + step / 50 for step in range(50 * size)]
        found = {tuple(_round(scale * width, size) for width in widths): None for scale in scales}
        return min(found, key=lambda candidate: abs(weights(candidate) - goal))


def _round(width: float, size: int) -> int:
    return max(size, round(width / size) * size)


def example(task: Task) -> Tensor:
    """Two pictures of random numbers, the same ones every time, that conversions follow through a network."""
    count = 2 * prod(task.shape)
    return torch.randn(count, generator=torch.Generator().manual_seed(0)).reshape(2, *task.shape)
