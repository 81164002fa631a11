"""Moving tensors along the channels of a plan."""

import math
import operator
import sys
from array import array
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from symmetric_layers.counts import readable
from symmetric_layers.errors import SymmetryError, one_of
from symmetric_layers.letters import LETTERS, axes
from symmetric_layers.orbits import Block, Plan


def expand_bias(bias: Any, plan: Plan) -> Any:
    """One bias per filter, from one per representative."""
    if not plan.orbits:
        return bias
    bias = ops.convert_to_tensor(bias)
    if picks():
        return pick(bias, plan.representative, 0)
    if plan.banks > 1:
        bias = ops.reshape(bias, [plan.banks, -1])
    stored = cut(bias, [block.orbits for block in plan.blocks], -1)
    parts = [
        ops.repeat(part, block.size, axis=-1) if block.kind else part
        for block, part in zip(plan.blocks, stored, strict=True)
    ]
    full = join(parts, -1)
    return ops.reshape(full, [-1]) if plan.banks > 1 else full


def spread(x: Any, plan: Plan, axis: int) -> Any:
    """Gives every channel along `axis` the entries of its representative."""
    if not plan.orbits:
        return x
    stored = cut(ops.convert_to_tensor(x), [block.orbits for block in plan.blocks], axis)
    parts = [ops.repeat(part, block.size, axis=axis) for block, part in zip(plan.blocks, stored, strict=True)]
    return join(parts, axis)


def act(x: Any, plan: Plan | None, letters: str, axis: int) -> Any:
    """A mirrored picture: positions reversed, and channels that are orbits, along `axis` (-1 or 1), exchanged."""
    if not letters:
        return x
    mirrored = flip(x, letters, axis)
    return mirrored if plan is None or not plan.orbits else ops.take(mirrored, plan.exchange(letters), axis=axis)


def flip(x: Any, letters: str, axis: int) -> Any:
    """Pictures read backwards along the letters; `axis` is where their channels are, -1 or 1."""
    behind = 1 if axis == -1 else 0
    return ops.flip(x, axis=[letter - behind for letter in axes(letters)]) if letters else x


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
    runs = cut(x, [block.filters for block in plan.blocks], axis)
    return join([move(run, block) for run, block in zip(runs, plan.blocks, strict=True)], axis)


def cut(x: Any, sizes: Sequence[int], axis: int) -> Sequence[Any]:
    """Pieces of these sizes."""
    if len(sizes) == 1:
        return [x]
    if _on_torch():  # there Keras calculates the sizes with tensors: slower than all the rest of writing a kernel out
        return tuple(x.split(list(sizes), axis))
    return tuple(ops.split(x, [sum(sizes[: index + 1]) for index in range(len(sizes) - 1)], axis=axis))


def join(parts: Sequence[Any], axis: int) -> Any:
    """The pieces side by side."""
    return parts[0] if len(parts) == 1 else ops.concatenate(parts, axis=axis)


def channel_axis(data_format: str) -> int:
    """Which axis of a tensor holds the channels."""
    return -1 if data_format == "channels_last" else 1


def known_format(data_format: Any) -> str:
    """The data format; where None is given, the one that Keras is configured for."""
    if data_format is None:
        return keras.config.image_data_format()
    return one_of("data_format", data_format, ("channels_last", "channels_first"))


def refuse_quantized(layer: Any) -> None:
    """Refuses a policy of whole numbers: what is stored is less than the host would read."""
    if getattr(layer, "quantization_mode", None):
        raise SymmetryError(
            f"dtype: {layer.dtype_policy.name!r} quantizes a kernel of which one entry per orbit is stored. Expected a "
            "policy of floating numbers. Use such a one, and quantize what desymmetrize makes of the model."
        )


def plain(argument: str, symmetry: Any) -> dict[str, Any] | None:
    """The symmetry as it was given, in numbers that a config can hold; what is no number is for plans to refuse."""
    kept = readable(symmetry, len(LETTERS), argument)
    return None if kept is None else {kind: _number(value) for kind, value in kept.items()}


def _number(value: Any) -> Any:
    whole = hasattr(value, "__index__") and not isinstance(value, bool)
    return operator.index(value) if whole else value


def picks() -> bool:
    """Whether entries are best picked by number: where every operation costs more than the numbers that it moves."""
    # compilers fuse operations, but cannot follow how numbers become indices
    return _on_torch() and not sys.modules["torch"].compiler.is_compiling()


def _on_torch() -> bool:
    return bool(keras.backend.backend() == "torch")


def pick(x: Any, numbers: Sequence[int], axis: int) -> Any:
    """The entries of these numbers; Keras' own `take` spends most of its time on reading a list."""
    return x.index_select(axis, ops.convert_to_tensor(array("q", numbers), dtype="int64"))
