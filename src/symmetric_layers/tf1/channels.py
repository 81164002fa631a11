"""Writing a bank of filters out, and moving along the channels of a plan."""

from __future__ import annotations

import operator
from functools import reduce

import tensorflow as tf

from symmetric_layers.counts import readable
from symmetric_layers.letters import mirrors, taps_seen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Callable, Sequence

    from symmetric_layers.orbits import Block, Plan


def expand_kernel(kernel: tf.Variable, plan: Plan, transposed: bool = False) -> tf.Tensor:
    """The whole bank of filters: every representative, followed by its mirrors.

    Args:
        kernel: the stored filters, `(*kernel, channels, stored)`; of a transposed convolution
            `(*kernel, stored, channels)`.
        plan: which filters are mirrors of which.
        transposed: whether the kernel is laid out as a transposed convolution's.

    Returns:
        The same with all filters instead of the stored ones: what the host's own layer would hold.
    """
    if not plan.orbits:
        return tf.convert_to_tensor(kernel)
    sizes = kernel.shape.as_list()
    size, channels = sizes[: plan.ndim], sizes[-1 if transposed else -2]
    taps = reduce(operator.mul, size)
    if transposed and plan.inputs is None:
        return _whole_filters(kernel, plan, size, channels)
    if transposed:
        kernel = tf.transpose(tf.reshape(kernel, [taps, plan.stored, channels]), [0, 2, 1])
    rows = tf.reshape(kernel, [taps, channels, plan.stored])

    def orbit(part: tf.Tensor, block: Block) -> tf.Tensor:
        if not block.kind:
            return part
        letters = mirrors(block.kind)
        order = tf.constant([taps_seen(tuple(size), mirrored) for mirrored in letters])
        if plan.inputs is not None:
            exchange = [plan.inputs.exchange(mirrored) if mirrored else tuple(range(channels)) for mirrored in letters]
            order = order[:, :, tf.newaxis] * channels + tf.constant(exchange)[:, tf.newaxis]
            part = tf.reshape(part, [taps * channels, block.orbits])
        # member after member, then side by side: of all ways, transposing a matrix is the quickest
        members = tf.reshape(tf.gather(part, order), [block.size, -1])
        return tf.reshape(tf.transpose(members), [taps, channels, block.filters])

    full = _per_run(rows, [block.orbits for block in plan.blocks], plan, -1, orbit)
    if transposed:
        full = tf.transpose(full, [0, 2, 1])
    return tf.reshape(full, _written(plan, size, channels, transposed))


def expand_bias(bias: tf.Variable, plan: Plan) -> tf.Tensor:
    """One bias per filter from one per representative."""
    if not plan.orbits:
        return tf.convert_to_tensor(bias)
    # through `reshape` a gradient becomes an ordinary tensor: optimizers treat the indexed ones in their own way
    return tf.gather(tf.reshape(bias, [plan.stored]), tf.constant(plan.representative))


def per_block(x: tf.Tensor, plan: Plan, axis: int, move: Callable[[tf.Tensor, Block], tf.Tensor]) -> tf.Tensor:
    """Cuts the channels along `axis` (negative) into the runs of one kind, moves each, and joins them again."""
    return _per_run(x, [block.filters for block in plan.blocks], plan, axis, move)


def frozen(argument: str, symmetry: Mapping | None, ndim: int) -> tuple[tuple[str, Any], ...] | None:
    """What a `symmetry=` asks for, as a layer keeps it for its config: Keras leaves a tuple as it is, no dict.

    What no number of channels could fit is refused; the rest is for `plan` to judge, once there are channels.
    """
    kept = readable(symmetry, ndim, argument)
    return None if kept is None else tuple((kind, _plain(value)) for kind, value in kept.items())


def thawed(symmetry: tuple[tuple[str, Any], ...] | None) -> dict[str, Any] | None:
    """What `frozen` kept, as it came."""
    return None if symmetry is None else dict(symmetry)


def _plain(value: Any) -> Any:
    """A NumPy whole number as an `int`, which a config can hold; everything else as it is."""
    return operator.index(value) if hasattr(value, "__index__") and not isinstance(value, bool) else value


def _whole_filters(kernel: tf.Tensor, plan: Plan, size: list[int], channels: int) -> tf.Tensor:
    """The whole bank of a transposed convolution: there the channels of one filter and tap lie side by side."""
    taps = reduce(operator.mul, size)
    order = tf.constant([taps_seen(tuple(size), mirrored) for mirrored in plan.mirror])
    order = tf.transpose(order) * plan.stored + tf.constant(plan.representative)
    full = tf.gather(tf.reshape(kernel, [taps * plan.stored, channels]), order)
    return tf.reshape(full, _written(plan, size, channels, transposed=True))


def _written(plan: Plan, size: list[int], channels: int, transposed: bool) -> list[int]:
    """The shape of the whole bank."""
    return size + ([plan.filters, channels] if transposed else [channels, plan.filters])


def _per_run(
    x: tf.Tensor, sizes: Sequence[int], plan: Plan, axis: int, move: Callable[[tf.Tensor, Block], tf.Tensor]
) -> tf.Tensor:
    if len(sizes) == 1:
        return move(tf.convert_to_tensor(x), plan.blocks[0])
    moved = [move(part, block) for part, block in zip(tf.split(x, sizes, axis), plan.blocks)]
    return tf.concat(moved, axis)
