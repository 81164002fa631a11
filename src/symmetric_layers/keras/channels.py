"""Moving tensors along the channels of a plan, and writing out the whole bank from what is stored."""

import math
import operator
from array import array
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import keras
from keras import ops

from symmetric_layers.counts import no_mapping
from symmetric_layers.errors import one_of
from symmetric_layers.letters import axes, taps_seen
from symmetric_layers.orbits import Block, Plan


def expand_kernel(kernel: Any, plan: Plan, transposed: bool = False) -> Any:
    """The whole bank of filters: every representative, followed by its mirrors.

    Args:
        kernel: the stored filters, `(*kernel_size, in_channels / groups, stored)`; of a transposed convolution
            `(*kernel_size, stored, in_channels)`.
        plan: which filters are mirrors of which.
        transposed: whether the kernel is laid out as a transposed convolution's.

    Returns:
        The same with all filters instead of the stored ones: what the host's own layer would hold.
    """
    if not plan.orbits:
        return kernel
    bank, inputs = (-2, -1) if transposed else (-1, -2)
    kernel = ops.convert_to_tensor(kernel)
    shape = list(kernel.shape)
    if _picks() and plan.inputs is None:
        return _pick_mirrors(kernel, plan, transposed)
    if plan.groups > 1:
        kernel, inputs = ops.reshape(kernel, [*shape[:-1], plan.groups, shape[-1] // plan.groups]), -3
    if inputs < bank:
        inputs -= 1  # behind the bank's axis comes one for the members of an orbit

    def expand(part: Any, block: Block) -> Any:
        if not block.kind:
            return part
        orbit = ops.expand_dims(part, bank)
        for letter in block.kind:  # doubled letter by letter: few and large operations
            orbit = ops.concatenate([orbit, _mirror(orbit, plan, letter, inputs)], axis=bank)
        full = list(part.shape)
        full[bank] = block.filters
        return ops.reshape(orbit, full)

    full = per_stored_block(kernel, plan, bank, expand)
    shape[bank] = plan.filters
    return ops.reshape(full, shape) if plan.groups > 1 else full


def expand_bias(bias: Any, plan: Plan) -> Any:
    """One bias per filter, from one per representative."""
    if not plan.orbits:
        return bias
    bias = ops.convert_to_tensor(bias)
    if _picks():
        return _pick(bias, plan.representative, 0)
    if plan.groups > 1:
        bias = ops.reshape(bias, [plan.groups, -1])

    def repeat(part: Any, block: Block) -> Any:
        return ops.repeat(part, block.size, axis=-1) if block.kind else part

    full = per_stored_block(bias, plan, -1, repeat)
    return ops.reshape(full, [-1]) if plan.groups > 1 else full


def exchange(x: Any, plan: Plan, letters: str, axis: int) -> Any:
    """Exchanges the channels along `axis` (negative) with their mirrors; a group's channels where there are groups.

    Equivalent to: `ops.take(x, plan.exchange(letters), axis)`, without an index.
    """

    def swap(channels: Any, block: Block) -> Any:
        last = 1 + len(block.kind)  # the axis of the lowest bit, the first letter
        mirrored = [last - bit for bit, letter in enumerate(block.kind) if letter in letters]
        if not mirrored:
            return channels
        shape = list(channels.shape)
        # all other axes folded into two: TensorFlow flips no more than 8
        before, after = math.prod(shape[:axis]), math.prod(shape[len(shape) + axis + 1 :])
        unfolded = ops.reshape(channels, [before, block.orbits, *[2] * len(block.kind), after])
        return ops.reshape(ops.flip(unfolded, axis=mirrored), shape)

    return per_block(x, plan, axis, swap)


def per_block(x: Any, plan: Plan, axis: int, move: Callable[[Any, Block], Any]) -> Any:
    """Cuts the channels along `axis` into the runs of one kind, moves each, and joins them again."""
    return _per_run(x, plan, axis, move, [block.filter for block in plan.blocks[1:]])


def per_stored_block(x: Any, plan: Plan, axis: int, move: Callable[[Any, Block], Any]) -> Any:
    """As `per_block`, where there is one entry per stored filter along `axis`."""
    return _per_run(x, plan, axis, move, [block.representative for block in plan.blocks[1:]])


def channel_axis(data_format: str) -> int:
    """Which axis of a tensor holds the channels."""
    return -1 if data_format == "channels_last" else 1


def known_format(data_format: Any) -> str:
    """The data format; where None is given, the one that Keras is configured for."""
    if data_format is None:
        return keras.config.image_data_format()
    return one_of("data_format", data_format, ("channels_last", "channels_first"))


def plain(argument: str, symmetry: Any) -> dict[str, int | str] | None:
    """The symmetry as it was given, in numbers that a config can hold."""
    if symmetry is None:
        return None
    if not isinstance(symmetry, Mapping):
        raise no_mapping(argument, symmetry)
    return {kind: value if isinstance(value, str) else operator.index(value) for kind, value in symmetry.items()}


def _mirror(kernel: Any, plan: Plan, letter: str, inputs: int) -> Any:
    mirrored = ops.flip(kernel, axis=[plan.ndim + axis for axis in axes(letter)])
    return mirrored if plan.inputs is None else exchange(mirrored, plan.inputs, letter, inputs)


def _per_run(x: Any, plan: Plan, axis: int, move: Callable[[Any, Block], Any], cuts: list[int]) -> Any:
    runs = _split(x, cuts, axis) if cuts else [x]
    moved = [move(run, block) for run, block in zip(runs, plan.blocks, strict=True)]
    return ops.concatenate(moved, axis=axis) if cuts else moved[0]


def _picks() -> bool:
    """Whether entries are best picked by number: where every operation costs more than the numbers that it moves."""
    return bool(keras.backend.backend() == "torch")


def _pick(x: Any, numbers: Sequence[int], axis: int) -> Any:
    """The entries of these numbers; Keras' own `take` spends most of its time on reading a list."""
    return x.index_select(axis, ops.convert_to_tensor(array("q", numbers), dtype="int64"))


def _pick_mirrors(kernel: Any, plan: Plan, transposed: bool) -> Any:
    """The whole bank, every number of every filter picked where its mirror has it: one operation for all kinds."""
    size = tuple(kernel.shape[: plan.ndim])
    rows = kernel if transposed else kernel.swapaxes(-1, -2)
    channels = rows.shape[-1]
    picked = _pick(rows.reshape([-1, channels]), _places(plan, size), 0).reshape([*size, plan.filters, channels])
    return picked if transposed else picked.swapaxes(-1, -2)


@lru_cache(maxsize=256)
def _places(plan: Plan, size: tuple[int, ...]) -> tuple[int, ...]:
    """For every tap of every filter, which of all taps of all stored filters it is."""
    filters = zip(plan.mirror, plan.representative, strict=True)
    seen = [(taps_seen(size, letters), stored) for letters, stored in filters]
    return tuple(taps[tap] * plan.stored + stored for tap in range(math.prod(size)) for taps, stored in seen)


def _split(x: Any, cuts: list[int], axis: int) -> Any:
    if keras.backend.backend() != "torch":
        return ops.split(x, cuts, axis=axis)
    # there Keras calculates the sizes with tensors: slower than all the rest of writing a kernel out
    return x.split([end - start for start, end in zip([0, *cuts], [*cuts, x.shape[axis]], strict=True)], axis)
