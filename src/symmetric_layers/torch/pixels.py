"""Channels that become pixels, and pixels that become channels, between orbits: super-resolution, patches."""

import operator
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx import Proxy

from symmetric_layers.counts import readable
from symmetric_layers.errors import SymmetryError
from symmetric_layers.letters import LETTERS, canonical_kind
from symmetric_layers.pixels import places_of_orbits, places_of_plain
from symmetric_layers.torch.kernels.channels import plan_of
from symmetric_layers.torch.leaves import noted


class OrbitPixelShuffle(nn.PixelShuffle):
    """`nn.PixelShuffle` behind orbits: a mirror exchanges the channels, and where in a pixel each of them goes.

    An ordinary one puts two channels of an orbit into two pixels of one channel, and its mirror image elsewhere.

    Equivalent to: `F.pixel_shuffle` after the channels changed places.

    Law: where the input's channels are orbits, mirroring it and exchanging its channels mirrors the answer and
    exchanges its channels, at every size.

    Args:
        upscale_factor: how many pixels come out of one, along each axis.
        symmetry: how the channels of the *answer* are arranged. The input has `upscale_factor ** 2` times as many
            channels of every kind: `{'h': 16}` reads `{'h': 64}` with a factor of 2.
        axes: the letters of the input's orbits, where the answer's channels are ordinary (`symmetry=None`).

    Shape:
        `(N, C * upscale_factor ** 2, H, W)` to `(N, C, H * upscale_factor, W * upscale_factor)`.

    Raises:
        SymmetryError: for a symmetry that cannot be read or does not fit, and for an odd factor with ordinary answers.

    Example:
        >>> up = OrbitPixelShuffle(2, {'h': 4})
        >>> x = torch.randn(1, 16, 5, 5)
        >>> seen = x.unflatten(1, (8, 2)).flip(2).flatten(1, 2).flip(-1)
        >>> torch.equal(up(seen), up(x).unflatten(1, (2, 2)).flip(2).flatten(1, 2).flip(-1))
        True

    Source: Shi et al., "Real-time single image and video super-resolution using an efficient sub-pixel convolutional
    neural network", CVPR 2016, for the host's.
    """

    def __init__(
        self, upscale_factor: int, symmetry: Mapping[str, int | str] | None = None, *, axes: str | None = None
    ) -> None:
        super().__init__(upscale_factor)
        self.symmetry, self.axes = _arranged(symmetry, axes, upscale_factor)

    def forward(self, input: Tensor) -> Tensor:
        """Shuffles `(N, C * upscale_factor ** 2, H, W)`."""
        if isinstance(input, Proxy):
            return noted(self, input)
        order = torch.tensor(self.order(operator.index(input.shape[-3])), device=input.device)
        return F.pixel_shuffle(input.index_select(-3, order), self.upscale_factor)

    def order(self, channels: int) -> list[int]:
        """In which order so many channels are read."""
        return _places(channels // self.upscale_factor**2, self.symmetry, self.axes, self.upscale_factor)

    def extra_repr(self) -> str:
        """The host's description, and the symmetry with it."""
        return f"{super().extra_repr()}, {_described(self)}"


class OrbitPixelUnshuffle(nn.PixelUnshuffle):
    """`nn.PixelUnshuffle` to orbits: the other way about.

    Equivalent to: `F.pixel_unshuffle`, and then the channels change places.

    Law: that of `OrbitPixelShuffle`, in the other direction; ordinary pictures become orbits of `axes`.

    Args:
        downscale_factor: how many pixels become one, along each axis.
        symmetry: how the channels of the *input* are arranged. The answer has `downscale_factor ** 2` times as many.
        axes: the letters of the answer's orbits, where the input's channels are ordinary (`symmetry=None`).

    Shape:
        `(N, C, H * downscale_factor, W * downscale_factor)` to `(N, C * downscale_factor ** 2, H, W)`.

    Raises:
        SymmetryError: as `OrbitPixelShuffle` does.

    Example:
        >>> x = torch.randn(1, 3, 8, 8)
        >>> OrbitPixelShuffle(2, axes='hv')(OrbitPixelUnshuffle(2, axes='hv')(x)).equal(x)
        True
    """

    def __init__(
        self, downscale_factor: int, symmetry: Mapping[str, int | str] | None = None, *, axes: str | None = None
    ) -> None:
        super().__init__(downscale_factor)
        self.symmetry, self.axes = _arranged(symmetry, axes, downscale_factor)

    def forward(self, input: Tensor) -> Tensor:
        """Unshuffles `(N, C, H * downscale_factor, W * downscale_factor)`."""
        if isinstance(input, Proxy):
            return noted(self, input)
        order = torch.tensor(self.order(operator.index(input.shape[-3])), device=input.device)
        return F.pixel_unshuffle(input, self.downscale_factor).index_select(-3, order)

    def order(self, channels: int) -> list[int]:
        """In which order the answer has the host's channels, for an input of so many."""
        places = _places(channels, self.symmetry, self.axes, self.downscale_factor)
        return sorted(range(len(places)), key=places.__getitem__)

    def extra_repr(self) -> str:
        """The host's description, and the symmetry with it."""
        return f"{super().extra_repr()}, {_described(self)}"


def _arranged(symmetry: Any, axes: str | None, factor: int) -> tuple[dict[str, int | str], str]:
    known = readable(symmetry, len(LETTERS)) or {}
    if axes is None:
        return known, ""
    if known:
        raise SymmetryError(
            f"axes: {axes!r} is for channels that are no orbits, but symmetry is {known!r}. Expected one of both. "
            "Leave axes out."
        )
    letters = canonical_kind(axes, 2, "axes")
    places_of_plain(1, letters, factor)  # refuses a factor that fits no orbits
    return known, letters


def _described(layer: Any) -> str:
    return f"symmetry={layer.symmetry}" if layer.symmetry or not layer.axes else f"axes={layer.axes!r}"


@torch.compiler.assume_constant_result
def _places(channels: int, symmetry: Mapping[str, int | str], axes: str, factor: int) -> list[int]:
    """Where the channels stand; compilers look it up."""
    return _known(channels, tuple(symmetry.items()), axes, factor)


@lru_cache(maxsize=256)
def _known(channels: int, symmetry: tuple[tuple[str, int | str], ...], axes: str, factor: int) -> list[int]:
    if axes and not symmetry:
        return places_of_plain(channels, axes, factor)
    return places_of_orbits(plan_of(dict(symmetry), channels), factor)
