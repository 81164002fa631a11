"""When the fused kernel is worth it: what its steps cost, in products of the ordinary convolution.

The numbers are fitted to measurements (`benchmarks/folding.py`): folding and storing have their price whatever the
filters are, few orbits leave lanes of the vectors empty, and short runs of channels keep the multipliers waiting.
"""

import math

from symmetric_layers.letters import orbit_size
from symmetric_layers.orbits import Plan

_FOLD = 10.0  # products that take as long as folding one number into one plane
_STORE = {True: 24.0, False: 45.0}  # and mirroring and storing one answer: channels-last, contiguous
_COPY = 6.0  # the same with pixels in the lanes, where planes are dense
_FULL, _NARROW, _STREAMED, _ORDINARY = (
    0.85,
    0.65,
    0.6,
    0.95,
)  # of the peak: many orbits, one vector, few; the ordinary one
_RUN = 4.0  # products lost at the beginning of every run of channels


def ratio(plan: Plan, channels: int, kernel_size: tuple[int, ...], channels_last: bool, lanes: int) -> float:
    """About how long the fused kernel takes, as a share of the ordinary convolution's time.

    Args:
        plan: the bank.
        channels: of the input.
        kernel_size: of the filters.
        channels_last: how the answer is stored.
        lanes: floats in a vector of the instruction set.
    """
    taps = math.prod(kernel_size) * channels
    ordinary = taps * plan.filters / _ORDINARY
    fused = _STORE[channels_last] * plan.filters
    for block in plan.blocks:
        run = channels // (orbit_size(block.kind) if plan.inputs is not None else 1)
        fused += (
            _across(taps, block.orbits) if _few(block.orbits, run, lanes) else _along(taps, block.orbits, run, lanes)
        )
        fold = _COPY if _few(block.orbits, run, lanes) else _FOLD
        fused += fold * _folded(plan, block.kind, channels, kernel_size)
    return fused / ordinary


def _few(orbits: int, run: int, lanes: int) -> bool:
    """Whether the kernel puts pixels into its lanes; `native/across.h` decides it."""
    return orbits <= lanes // 2 or (orbits <= lanes and run <= 2 * lanes)


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
