"""Writing a bank of filters out, and moving along the channels of a plan."""

from __future__ import annotations

import operator

import tensorflow as tf

from symmetric_layers.counts import Bank
from symmetric_layers.letters import axes, mirrors

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
    bank, inputs = (-2, -1) if transposed else (-1, -2)

    def orbit(part: tf.Tensor, block: Block) -> tf.Tensor:
        if not block.kind:
            return part
        members = [_mirror(part, plan, letters, inputs) for letters in mirrors(block.kind)]
        return _reshape_along(tf.stack(members, part.shape.ndims + bank + 1), part.shape, bank, [block.filters])

    return _per_run(kernel, [block.orbits for block in plan.blocks], plan, bank, orbit)


def expand_bias(bias: tf.Variable, plan: Plan) -> tf.Tensor:
    """One bias per filter from one per representative."""

    def orbit(part: tf.Tensor, block: Block) -> tf.Tensor:
        return tf.reshape(tf.tile(part[:, tf.newaxis], [1, block.size]), [block.filters]) if block.kind else part

    return _per_run(bias, [block.orbits for block in plan.blocks], plan, -1, orbit)


def per_block(x: tf.Tensor, plan: Plan, axis: int, move: Callable[[tf.Tensor, Block], tf.Tensor]) -> tf.Tensor:
    """Cuts the channels along `axis` (negative) into the runs of one kind, moves each, and joins them again."""
    return _per_run(x, [block.filters for block in plan.blocks], plan, axis, move)


def frozen(argument: str, symmetry: Mapping | None, ndim: int) -> tuple[tuple[str, Any], ...] | None:
    """What a `symmetry=` asks for, as a layer keeps it for its config: Keras leaves a tuple as it is, no dict.

    What no number of channels could fit is refused; the rest is for `plan` to judge, once there are channels.
    """
    if symmetry is None:
        return None
    bank = Bank(argument, "channels", 0, ndim, 1)
    for kind, value in bank.entries(symmetry).items():
        if isinstance(value, str):
            bank.share(kind, value)
    return tuple((kind, _plain(value)) for kind, value in symmetry.items())


def thawed(symmetry: tuple[tuple[str, Any], ...] | None) -> dict[str, Any] | None:
    """What `frozen` kept, as it came."""
    return None if symmetry is None else dict(symmetry)


def _plain(value: Any) -> Any:
    """A NumPy whole number as an `int`, which a config can hold; everything else as it is."""
    return operator.index(value) if hasattr(value, "__index__") and not isinstance(value, bool) else value


def _mirror(kernel: tf.Tensor, plan: Plan, letters: str, inputs: int) -> tf.Tensor:
    if not letters:
        return kernel
    mirrored = tf.reverse(kernel, [plan.ndim + axis for axis in axes(letters)])
    return mirrored if plan.inputs is None else _exchange(mirrored, plan.inputs, letters, inputs)


def _exchange(kernel: tf.Tensor, plan: Plan, letters: str, axis: int) -> tf.Tensor:
    """Exchanges the channels along `axis` (negative) with their mirrors.

    Equivalent to: `tf.gather(kernel, plan.exchange(letters), axis=axis)`, whose gradient is slow.
    """

    def swap(part: tf.Tensor, block: Block) -> tf.Tensor:
        # the members of an orbit, one axis per letter: the first letter of the kind changes fastest, so it is last
        last = part.shape.ndims + axis + len(block.kind)
        mirrored = [last - bit for bit, letter in enumerate(block.kind) if letter in letters]
        if not mirrored:
            return part
        unfolded = _reshape_along(part, part.shape, axis, [block.orbits] + [2] * len(block.kind))
        return _reshape_along(tf.reverse(unfolded, mirrored), part.shape, axis, [block.filters])

    return per_block(kernel, plan, axis, swap)


def _reshape_along(x: tf.Tensor, like: tf.TensorShape, axis: int, sizes: list[int]) -> tf.Tensor:
    """Reshapes to the (known) shape `like`, but for these sizes in the place of its `axis`."""
    shape = like.as_list()
    place = len(shape) + axis
    return tf.reshape(x, shape[:place] + sizes + shape[place + 1 :])


def _per_run(
    x: tf.Tensor, sizes: Sequence[int], plan: Plan, axis: int, move: Callable[[tf.Tensor, Block], tf.Tensor]
) -> tf.Tensor:
    if len(sizes) == 1:
        return move(tf.convert_to_tensor(x), plan.blocks[0])
    moved = [move(part, block) for part, block in zip(tf.split(x, sizes, axis), plan.blocks)]
    return tf.concat(moved, axis)
