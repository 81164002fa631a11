"""When the fused kernel is worth it: what its steps cost, in products of the ordinary convolution.

The numbers are fitted to measurements of some 260 layers (`benchmarks/folding.py` has many of them) on two threads:
folding and storing have their price whatever the filters are, few orbits leave lanes of the vectors empty, short runs
of channels keep the multipliers waiting. The reference has its price besides the ordinary convolution: it writes the
bank out.
"""

import math

from symmetric_layers.letters import orbit_size
from symmetric_layers.orbits import Block, Plan

_FOLD = 4.5  # products that take as long as folding one number into one plane
_STRIP = 4.0  # the same with pixels in the lanes, where only rows are folded into memory
_STORE = {True: 65.0, False: 160.0}  # and mirroring and storing one answer: channels-last, contiguous
_WRITE = {True: 52.0, False: 210.0}  # and storing one answer of the ordinary convolution
_FULL, _NARROW, _STREAMED = 0.86, 0.72, 0.85  # of the peak: many orbits, one vector, few
_ORDINARY = 0.95  # and of the ordinary convolution
_RUN = 0.8  # products lost at the beginning of every run of channels
_CALL, _BANK, _NUMBER = 5.8e6, 14.0e6, 9.0  # a call; writing a bank out, and every number of it
_PARTED, _SLOWLY = 20_480, 3.0  # PyTorch takes a slow path for one volume of so few rows, and how slow


def ratio(
    plan: Plan,
    channels: int,
    kernel_size: tuple[int, ...],
    channels_last: bool,
    lanes: int,
    pixels: float = math.inf,
) -> float:
    """About how long the fused kernel takes, as a share of the reference's time.

    Args:
        plan: the bank.
        channels: of the input.
        kernel_size: of the filters.
        channels_last: how the answer is stored.
        lanes: floats in a vector of the instruction set.
        pixels: of all answers together.
    """
    taps = math.prod(kernel_size) * channels
    ordinary = (taps / _ORDINARY + _WRITE[channels_last]) * plan.filters
    fused = _STORE[channels_last] * plan.filters
    for block in plan.blocks:
        run = channels // (orbit_size(block.kind) if plan.inputs is not None else 1)
        if _few(block, run, lanes):
            fused += _across(taps, block.orbits) + _STRIP * channels * kernel_size[-1]
        else:
            fused += _along(taps, block.orbits, run, lanes) + _FOLD * _folded(plan, block.kind, channels, kernel_size)
    return (fused + _CALL / pixels) / (ordinary + (_BANK + _NUMBER * taps * plan.filters) / pixels)


def host_slowness(shape: tuple[int, ...]) -> float:
    """How many times as long the host takes for a picture of this shape than for others."""
    is_parted = len(shape) == 5 and math.prod(shape[:4]) < _PARTED and shape[0] == 1
    return _SLOWLY if is_parted else 1.0


def _few(block: Block, run: int, lanes: int) -> bool:
    """Whether the kernel puts pixels into its lanes; `native/across.h` decides it."""
    return block.orbits <= lanes // 2 or (len(block.kind) == 2 and block.orbits <= lanes and run <= 2 * lanes)


def _across(taps: int, orbits: int) -> float:
    return taps * (-(-orbits // 4) * 4) / _STREAMED


def _along(taps: int, orbits: int, run: int, lanes: int) -> float:
    padded = -(-orbits // lanes) * lanes
    return taps * padded / (_NARROW if orbits <= lanes else _FULL) * (1 + _RUN / max(run, 1))


def _folded(plan: Plan, kind: str, channels: int, kernel_size: tuple[int, ...]) -> int:
    """Numbers in the planes of one pixel: the taps along mirrored axes, one of which may be read as it is."""
    axes = [size for letter, size in zip("hvz", reversed(kernel_size), strict=False) if letter in kind]
    planes = math.prod(axes)
    if plan.inputs is None and all(size % 2 for size in axes):
        planes -= 1
    return channels * planes if kind else 0
