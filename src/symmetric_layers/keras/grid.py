"""The mirrored grid: a mirror is `flip . convolution . flip`, whatever the size of the picture.

Where stride and size do not fit together, or padding is lopsided, the flipped filter sits on the wrong grid. A mirror
that is *defined* as the representative's convolution seen in a mirror samples the mirrored grid, and the law holds at
every size. Where the geometry is symmetric both are the same thing.
"""

from collections.abc import Callable, Sequence
from typing import Any

from keras import ops

from symmetric_layers.keras.bank import expand_kernel
from symmetric_layers.keras.channels import cut, exchange, flip, join
from symmetric_layers.letters import LETTERS, letters_where, mirrors
from symmetric_layers.orbits import Block, Plan

Run = Callable[[Any, Any], Any]  # pictures and filters to an answer without biases


def lopsided(layer: Any, sizes: Sequence[int | None]) -> str:
    """The letters along which a convolution's grid is not (or, at unknown sizes, may not be) its own mirror image."""
    geometry = zip(sizes, _reaches(layer), layer.strides, strict=True)
    return letters_where(is_lopsided(layer.padding, *axis) for axis in geometry)


def lopsided_transposed(layer: Any) -> str:
    """The letters along which a transposed convolution cuts off, or adds, more on one side than on the other."""
    spread = layer.output_padding is not None and any(_each(layer.output_padding, layer.strides))
    geometry = zip(_reaches(layer), layer.strides, strict=True)
    if layer.padding == "valid":
        return letters_where(spread or stride > reach for reach, stride in geometry)
    same = layer.output_padding is None
    return letters_where(not same or stride > reach or (reach - stride) % 2 == 1 for reach, stride in geometry)


def in_the_mirror(run: Run, x: Any, kernel: Any, plan: Plan, transposed: bool, crooked: str, axis: int) -> Any:
    """All filters' answers, those mirrored along a crooked letter in the mirror.

    Args:
        run: the host's convolution, without its biases.
        x: pictures.
        kernel: the stored filters.
        plan: which filters are mirrors of which.
        transposed: whether the kernel is laid out as a transposed convolution's.
        crooked: along which letters the grid is not its own mirror image.
        axis: where the channels of pictures are, -1 or 1.
    """
    straight = "".join(letter for letter in LETTERS if letter not in crooked)
    answers = {}
    for letters in mirrors(crooked):
        kinds = [block for block in plan.blocks if set(letters) <= set(block.kind)]
        if kinds:
            filters = expand_kernel(kernel, plan, transposed, straight=straight, containing=letters)
            seen = flip(x, letters, axis)
            if plan.depthwise:
                here = [index for index, mirror in enumerate(plan.mirror) if set(mirror) & set(crooked) == set(letters)]
                seen = ops.take(seen, here, axis=axis)
            elif plan.inputs is not None:  # of filters there are fewer than of pixels
                filters = exchange(filters, plan.inputs, letters, -1 if transposed else -2)
            answer = ops.moveaxis(flip(run(seen, filters), letters, axis), axis, -1)
            positions = ops.shape(answer)[:-1]
            sizes = [_seen(block, straight) for block in kinds]
            parts = cut(ops.reshape(answer, [-1, plan.banks, sum(sizes)]), sizes, -1)
            answers.update({(letters, block.kind): part for block, part in zip(kinds, parts, strict=True)})
    full = join([_side_by_side(answers, block, plan.banks, crooked) for block in plan.blocks], -1)
    return ops.moveaxis(ops.reshape(full, [*positions, plan.filters]), -1, axis)


def _seen(block: Block, straight: str) -> int:
    """How many filters of a run are mirrored along straight letters only."""
    return int(block.orbits * 2 ** len(set(block.kind) & set(straight)))


def _side_by_side(answers: dict[tuple[str, str], Any], block: Block, banks: int, crooked: str) -> Any:
    """The members of the orbits of one kind in their order, from the answers for each set of crooked letters."""
    here = "".join(letter for letter in block.kind if letter in crooked)
    if not here:
        return answers["", block.kind]
    others = [letter for letter in block.kind if letter not in crooked]
    orbits = [-1, banks, block.orbits]
    parts = [ops.reshape(answers[letters, block.kind], [*orbits, 2 ** len(others)]) for letters in mirrors(here)]
    # (rows, banks, orbits, crooked members, straight members), the last letter changing slowest
    unfolded = ops.reshape(ops.stack(parts, axis=3), [*orbits, *[2] * len(block.kind)])
    standing = [*reversed(here), *reversed(others)]
    order = [3 + standing.index(letter) for letter in reversed(block.kind)]
    return ops.reshape(ops.transpose(unfolded, [0, 1, 2, *order]), [-1, banks, block.filters])


def is_lopsided(padding: str, size: int | None, reach: int, stride: int) -> bool:
    """Whether windows lie otherwise seen from the other side of an axis; at unknown sizes, whether they may."""
    if padding == "causal" and reach > 1:
        return True
    if stride == 1:
        return padding == "same" and reach % 2 == 0
    if size is None:
        return True
    total = max((-(-size // stride) - 1) * stride + reach - size, 0) if padding == "same" else 0
    return total % 2 == 1 or (size + total - reach) % stride != 0


def _reaches(layer: Any) -> list[int]:
    """How many pixels a filter spans along each axis."""
    return [d * (k - 1) + 1 for k, d in zip(layer.kernel_size, layer.dilation_rate, strict=True)]


def _each(value: int | Sequence[int], axes: Sequence[int]) -> Sequence[int]:
    return [value] * len(axes) if isinstance(value, int) else value
