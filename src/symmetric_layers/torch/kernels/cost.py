"""When the fused kernel is worth it: what its steps cost, in products of the ordinary convolution.

The numbers are fitted to measurements of some 370 layers (`benchmarks/folding.py` has many of them) on two threads:
folding and storing have their price whatever the filters are, few orbits leave lanes of the vectors empty, short runs
of channels keep the multipliers waiting. The reference has its price besides the ordinary convolution: it writes the
bank out.
"""

import math

from symmetric_layers.letters import orbit_size
from symmetric_layers.orbits import Block, Plan

_FOLD = 1.3  # products that take as long as folding one number into one plane
_STRIP = 2.6  # the same with pixels in the lanes, where only rows are folded into memory
_STORE = {True: 59.0, False: 136.0}  # and mirroring and storing one answer: channels-last, contiguous
_STREAM = {True: 69.0, False: 80.0}  # the same with pixels in the lanes
_WRITE = {True: 58.0, False: 127.0}  # and storing one answer of the ordinary convolution
_FULL, _NARROW, _STREAMED = 0.90, 0.87, 0.94  # of the peak: many orbits, one vector, few
_ORDINARY = 0.95  # and of the ordinary convolution
_RUN = 1.3  # products lost at the beginning of every run of channels
_SKIPPED = 41.0  # and taking a number apart that strides go past
_STRIDED = 166.0  # and beginning a plane of a pixel, where strides go past some
_CALL, _BANK, _NUMBER = 3.1e6, 11.0e6, 9.0  # a call; writing a bank out, and every number of it
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
    taps = math.prod(kernel_size) * channels
    ordinary = (taps / _ORDINARY + _WRITE[channels_last]) * plan.filters
    fused = 0.0
    for block in plan.blocks:
        run = channels // (orbit_size(block.kind) if plan.inputs is not None else 1)
        if _has_pixels_in_lanes(plan, block, run, math.prod(kernel_size), channels_last, lanes, plane, stride):
            fused += _across(taps, block.orbits) + _STRIP * channels * kernel_size[-1]
            fused += _STREAM[channels_last] * block.filters + _SKIPPED * channels * (stride - 1)
        else:
            planes = _planes(plan, block.kind, kernel_size)
            fused += _along(taps, block.orbits, run, lanes) + _FOLD * channels * planes
            fused += _STORE[channels_last] * block.filters + _STRIDED * planes * (stride > 1)
    return (fused + _CALL / pixels) / (ordinary + (_BANK + _NUMBER * taps * plan.filters) / pixels)


def host_slowness(shape: tuple[int, ...]) -> float:
    """How many times as long the host takes for a picture of this shape than for others."""
    is_parted = len(shape) == 5 and math.prod(shape[:4]) < _PARTED and shape[0] == 1
    return _SLOWLY if is_parted else 1.0


def _has_pixels_in_lanes(
    plan: Plan, block: Block, run: int, taps: int, channels_last: bool, lanes: int, plane: float, stride: int
) -> bool:
    """Whether the kernel puts pixels into its lanes, and not orbits; `native/across.h` decides it."""
    if block.orbits <= lanes // 2:
        return True
    if plan.inputs is None and run <= 32:
        if 3 * _padded(block.orbits, lanes) >= 4 * block.orbits:
            return True
        if channels_last:
            many_planes = len(block.kind) > 1 and taps >= 49 and block.orbits <= 2 * lanes
            return many_planes or (stride > 1 and run <= 4)
        return plane >= (28 * 28 if run <= 4 else 48 * 48)
    if plan.inputs is not None and taps == 1 and run <= 64:
        return not channels_last and plane >= 28 * 28
    return plan.inputs is not None and len(block.kind) == 2 and block.orbits <= lanes and run <= 2 * lanes


def _padded(orbits: int, lanes: int) -> int:
    return -(-orbits // lanes) * lanes


def _across(taps: int, orbits: int) -> float:
    return taps * (-(-orbits // 4) * 4) / _STREAMED


def _along(taps: int, orbits: int, run: int, lanes: int) -> float:
    return taps * _padded(orbits, lanes) / (_NARROW if orbits <= lanes else _FULL) * (1 + _RUN / max(run, 1))


def _planes(plan: Plan, kind: str, kernel_size: tuple[int, ...]) -> int:
    """Planes of one pixel: the taps along mirrored axes, one of which may be read as it is."""
    axes = [size for letter, size in zip("hvz", reversed(kernel_size), strict=False) if letter in kind]
    planes = math.prod(axes) if kind else 0
    return planes - 1 if plan.inputs is None and kind and all(size % 2 for size in axes) else planes
