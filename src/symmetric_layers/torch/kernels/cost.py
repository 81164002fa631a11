"""When the fused kernel is worth it: what its steps cost, in products of the ordinary convolution.

The numbers are fitted to measurements of some hundreds of layers (`benchmarks/folding.py` has many of them) on two
threads, of processors with vectors of 16 and of 8 floats: folding and storing have their price whatever the filters
are, few orbits leave lanes of the vectors empty, short runs of channels keep the multipliers waiting. The reference has
its price besides the ordinary convolution: it writes the bank out.
"""

import math
from typing import NamedTuple

from symmetric_layers.letters import orbit_size
from symmetric_layers.orbits import Block, Plan


class Prices(NamedTuple):
    """What steps cost, in products of the ordinary convolution.

    Attributes:
        fold: folding one number into one plane.
        strip: the same with pixels in the lanes, where only rows are folded into memory.
        turn: more, channels-last, where a number is brought in for one tap only.
        ahead: and folding strips into the first cache.
        store: mirroring and storing one answer, channels-last and contiguous.
        stream: the same with pixels in the lanes.
        stem: the same where characters are summed and stored at once, channels-last.
        write: storing one answer of the ordinary convolution.
        full: products at a time that many orbits make; narrow: one vector of them; streamed: pixels in the lanes.
        ordinary: what the ordinary convolution makes.
        run: products lost at the beginning of every run of channels.
        skipped: taking a number apart that strides go past, channels-last and contiguous.
        strided: beginning a plane of a pixel, where strides go past some.
        call: a call of the kernel.
        bank: writing a bank out; number: every number of it.
    """

    fold: float
    strip: float
    turn: float
    ahead: float
    store: tuple[float, float]
    stream: tuple[float, float]
    stem: float
    write: tuple[float, float]
    full: float
    narrow: float
    streamed: float
    ordinary: float
    run: float
    skipped: tuple[float, float]
    strided: float
    call: float
    bank: float
    number: float


_PRICES = {
    16: Prices(1.3, 2.6, 10.0, 0.0, (59.0, 136.0), (69.0, 80.0), 32.0, (58.0, 134.0), 0.90, 0.87, 0.94, 0.95, 1.3,
               (33.0, 4.0), 166.0, 3.1e6, 9.0e6, 9.0),
    8: Prices(12.3, 4.8, 0.0, 9.6, (41.0, 55.0), (66.0, 61.0), 37.0, (39.0, 52.0), 1.0, 0.80, 1.06, 0.93, 0.0,
              (28.0, 28.0), 111.0, 9.5e6, 18.2e6, 58.0),
}  # fmt: skip
_PARTED, _SLOWLY = 20_480, 5.0  # PyTorch takes a slow path for one volume of so few rows, and how slow


def ratio(
    plan: Plan,
    channels: int,
    kernel_size: tuple[int, ...],
    channels_last: bool,
    lanes: int,
    pixels: float = math.inf,
    plane: float = math.inf,
    stride: int = 1,
) -> float:
    """About how long the fused kernel takes, as a share of the reference's time.

    Args:
        plan: the bank.
        channels: of the input.
        kernel_size: of the filters.
        channels_last: how the answer is stored.
        lanes: floats in a vector of the instruction set.
        pixels: of all answers together.
        plane: pixels of one answer; of one of its planes where it is a volume.
        stride: pixels of the input for one of the answer.
    """
    price, apart = _PRICES.get(lanes, _PRICES[8]), not channels_last
    kernel_taps = math.prod(kernel_size)
    taps = kernel_taps * channels
    plain = ordinary(taps, channels_last, lanes) * plan.filters
    fused = 0.0
    for block in plan.blocks:
        run = channels // (orbit_size(block.kind) if plan.inputs is not None else 1)
        if _has_pixels_in_lanes(plan, block, run, kernel_taps, channels_last, lanes, plane, stride):
            fused += taps * _padded(block.orbits, 4) / price.streamed + price.strip * channels * kernel_size[-1]
            fused += price.stream[apart] * block.filters + price.skipped[apart] * channels * (stride - 1)
            fused += price.turn * channels * (channels_last and kernel_taps == 1)
            fused += price.ahead * taps * _is_folded_ahead(block, lanes)
        else:
            planes = _planes(plan, block.kind, kernel_size)
            share = price.narrow if block.orbits <= lanes else price.full
            fused += taps * _padded(block.orbits, lanes) / share * (1 + price.run / max(run, 1))
            is_stem = _is_stem(plan, block, run, kernel_taps, taps, channels_last, lanes)
            store = price.stem if is_stem else price.store[apart]
            fused += price.fold * channels * planes + store * block.filters
            fused += price.strided * planes * (stride > 1)
    bank = price.bank + price.number * taps * plan.filters
    return (fused + price.call / pixels) / (plain + bank / pixels)


def ordinary(taps: int, channels_last: bool, lanes: int) -> float:
    """What one answer of the ordinary convolution costs, whose filters have so many numbers."""
    price = _PRICES.get(lanes, _PRICES[8])
    return taps / price.ordinary + price.write[not channels_last]


def host_slowness(shape: tuple[int, ...]) -> float:
    """How many times as long the host takes for a picture of this shape than for others."""
    is_parted = len(shape) == 5 and math.prod(shape[:4]) < _PARTED and shape[0] == 1
    return _SLOWLY if is_parted else 1.0


def _is_folded_ahead(block: Block, lanes: int) -> bool:
    return lanes < 16 and len(set(block.kind) - {"h"}) == 2 and 2 < block.orbits <= lanes


def _is_brief(plan: Plan, run: int, kernel_taps: int) -> bool:
    """Whether pixels and orbits in the lanes sum in the same order; `native/boxes.h` decides it."""
    return run <= 32 if plan.inputs is None else run <= 64 and kernel_taps == 1


def _has_pixels_in_lanes(
    plan: Plan, block: Block, run: int, kernel_taps: int, channels_last: bool, lanes: int, plane: float, stride: int
) -> bool:
    """Whether the kernel puts pixels into its lanes, and not orbits; `native/choices.h` decides it."""
    if (plane if stride == 1 or plan.ndim == 1 else 2 * math.sqrt(plane)) < lanes:
        return False
    if block.orbits <= lanes // 2 or _is_folded_ahead(block, lanes):
        return True
    if _is_brief(plan, run, kernel_taps):
        if plan.inputs is not None:
            return not channels_last and plane >= 28 * 28
        if 3 * _padded(block.orbits, lanes) >= 4 * block.orbits:
            return True
        suits = not channels_last or len(block.kind) == 1
        if lanes == 8 and block.orbits <= lanes and stride == 1 and run <= 16 and suits:
            return True
        if channels_last:
            many_planes = len(block.kind) > 1 and kernel_taps >= 49 and block.orbits <= 2 * lanes
            return many_planes or (stride > 1 and run <= 4)
        return plane >= (28 * 28 if run <= 4 else 48 * 48) and (lanes != 8 or run <= 8)
    short = 2 * lanes if lanes < 16 else lanes - 1
    return plan.inputs is not None and len(block.kind) == 2 and block.orbits <= lanes and run <= short


def _is_stem(plan: Plan, block: Block, run: int, kernel_taps: int, taps: int, channels_last: bool, lanes: int) -> bool:
    """Whether all characters of a pixel are summed and stored at once; `native/boxes.h` decides it."""
    light = run <= 4 or (lanes == 16 and taps * min(block.orbits, 2 * lanes) <= 4096)
    return channels_last and bool(block.kind) and _is_brief(plan, run, kernel_taps) and light


def _padded(orbits: int, lanes: int) -> int:
    return -(-orbits // lanes) * lanes


def _planes(plan: Plan, kind: str, kernel_size: tuple[int, ...]) -> int:
    """Planes of one pixel: the taps along mirrored axes, one of which may be read as it is."""
    axes = [size for letter, size in zip("hvz", reversed(kernel_size), strict=False) if letter in kind]
    planes = math.prod(axes) if kind else 0
    return planes - 1 if plan.inputs is None and kind and all(size % 2 for size in axes) else planes
