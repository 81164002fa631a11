"""Any channelwise operator, made to obey the mirror law on orbits of channels at every size."""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax import Array

from symmetric_layers.counts import readable
from symmetric_layers.flax.channels import flip, per_block, plan_of, unfold
from symmetric_layers.letters import LETTERS, mirrors
from symmetric_layers.orbits import Block


class Mirrored(nnx.Module):
    """An operator that treats every channel by itself, seen in the mirror by the mirrors of an orbit.

    Max pooling with stride 2 pairs columns 0 and 1, 2 and 3, ...: on a picture of odd width its mirror image pairs
    others, and the law is lost. Here the mirrors of an orbit are pooled in the mirror.

    Equivalent to: `flip . operator . flip` on the channels that are mirrored, the operator on the others.

    Law: where the channels of the input are orbits, mirroring the input and exchanging its channels mirrors the output
    and exchanges its channels; at every size.

    Args:
        operator: a module or function that maps `(..., *positions, C)` to `(..., *new positions, C)`, channel by
            channel, for any C: pooling, resizing, blurring.
        symmetry: how the channels are arranged: the `symmetry` of the layer before.

    Shape:
        What the operator gives.

    Raises:
        SymmetryError: for a symmetry that cannot be read, or (when called) that the channels do not fit.

    Example:
        >>> pool = Mirrored(lambda x: nnx.max_pool(x, (2, 2), (2, 2)), {'h': 4})
        >>> x = jax.random.normal(jax.random.key(0), (1, 7, 7, 4))
        >>> exchanged = jnp.array([1, 0, 3, 2])
        >>> bool(jnp.array_equal(pool(jnp.flip(x, 2)[..., exchanged]), jnp.flip(pool(x), 2)[..., exchanged]))
        True
    """

    def __init__(self, operator: Callable[..., Array], symmetry: Mapping[str, int | str] | None) -> None:
        self.operator = operator
        self.symmetry = tuple((readable(symmetry, len(LETTERS)) or {}).items())

    def __call__(self, inputs: Array, *arguments: Any, **others: Any) -> Array:
        """Applies the operator to `(..., *positions, C)`, in the mirror where channels are mirrors.

        Further arguments are the operator's.
        """

        def seen(channels: Array, letters: str) -> Array:
            answer = self.operator(flip(channels, letters), *arguments, **others)
            return flip(answer, letters) if answer.ndim == channels.ndim else answer  # nothing to be mirrored back

        def answer(channels: Array, block: Block) -> Array:
            members: Any = unfold(channels, -1, [block.orbits, block.size])
            found = [seen(members[..., index], letters) for index, letters in enumerate(mirrors(block.kind))]
            return jnp.stack(found, -1).reshape(*found[0].shape[:-1], block.filters)

        return per_block(inputs, plan_of(dict(self.symmetry), inputs.shape[-1]), -1, answer)
