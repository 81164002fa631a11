"""The mirrored grid: a mirror is `flip . convolution . flip`, whatever the size of the picture.

Where stride and size do not fit together, or padding is lopsided, the flipped filter sits on the wrong grid. A mirror
that is *defined* as the representative's convolution seen in a mirror samples the mirrored grid, and the law holds at
every size. Where the geometry is symmetric both are the same thing, and nothing is done here.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from symmetric_layers.letters import axes, letters_where
from symmetric_layers.orbits import Plan
from symmetric_layers.torch.kernels.channels import turned
from symmetric_layers.torch.kernels.geometry import are_channels_last

Run = Callable[[Tensor, Tensor, Tensor | None, int], Tensor]  # input, filters, biases, groups


def lopsided(
    sizes: Sequence[int],
    pads: Sequence[tuple[int, int]],
    kernel_size: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
) -> str:
    """The letters along which a convolution's grid is not its own mirror image, for pictures of this size."""
    geometry = zip(sizes, pads, kernel_size, stride, dilation, strict=True)
    crooked = [
        before != after or (s != 1 and (is_open(n) or (n + before + after - d * (k - 1) - 1) % s != 0))
        for n, (before, after), k, s, d in geometry
    ]
    return letters_where(crooked)


def is_open(size: Any) -> bool:
    """Whether a program is written for any such size: a mirror then has a grid of its own, which is right for all.

    Compilers must not be asked for remainders: they would compile once for each, of every layer after the other.
    """
    is_known = told_by_compilers()
    if is_known is not None:
        return not is_known(size)
    return not isinstance(size, int) and (torch.compiler.is_exporting() or torch.jit.is_tracing())


def told_by_compilers() -> Callable[[Any], bool] | None:
    """What compilers understand as the question whether a size is known; None before PyTorch 2.8, or where none asks.

    To them sizes look like whole numbers, and any other question makes them so.
    """
    if torch.compiler.is_compiling() and not torch.jit.is_tracing():
        return getattr(torch.fx.experimental.symbolic_shapes, "has_static_value", None)
    return None


def is_left_open(sizes: Sequence[int], stride: Sequence[int], letters: str) -> bool:
    """Whether a program is compiled for sizes among which the grids of such mirrors lie now here, now there.

    Operators then find out where it runs. Not in programs that are to run without this package.

    Args:
        sizes: of pictures, per axis.
        stride: one number per axis.
        letters: along which there are mirrors.
    """
    if not torch.compiler.is_compiling() or torch.compiler.is_exporting() or torch.jit.is_tracing():
        return False
    return any(stride[axis] != 1 and is_open(sizes[axis]) for axis in axes(letters))


def on_mirrored_grid(
    run: Run, x: Tensor, weight: Tensor, bias: Tensor | None, plan: Plan, letters: str, filters_dim: int
) -> Tensor:
    """Runs the filters that are mirrored along any of the letters in the mirror, the others as they are.

    Args:
        run: the convolution, without its mirrors.
        x: the input.
        weight: all filters, `bias` their biases.
        plan: which of them are mirrored along what.
        letters: along which the grid is lopsided.
        filters_dim: the axis of `weight` that counts the filters (of one group, where they are not the first axis).
    """
    dim = -plan.ndim - 1

    def answer(mirrored: str, index: Tensor) -> Tensor:
        flipped = list(axes(mirrored))
        filters = turned(_pick(weight, index, plan, filters_dim), flipped)
        biases = None if bias is None else bias.index_select(0, index)
        inputs = x.index_select(dim, index) if plan.depthwise else x
        groups = len(index) if plan.depthwise else plan.groups
        return turned(run(turned(inputs, flipped), filters, biases, groups), flipped)

    return by_mirror(answer, plan, letters, dim, x.device)


def by_mirror(
    answer: Callable[[str, Tensor], Tensor], plan: Plan, letters: str, dim: int, device: torch.device
) -> Tensor:
    """Asks for the channels that are mirrored along the same of the letters together, and puts the answers in order.

    Args:
        answer: gives the channels whose indices it gets, for the letters along which they are mirrored.
        plan: which channels are mirrored along what.
        letters: the letters that matter.
        dim: the axis that counts the channels of the answers.
        device: where the indices are needed.
    """
    classes = alike(plan, letters)
    answers = [answer(mirrored, torch.tensor(chosen, device=device)) for mirrored, chosen in classes.items()]
    order = [channel for chosen in classes.values() for channel in chosen]
    back = sorted(range(len(order)), key=order.__getitem__)
    found, places = torch.cat(answers, dim), torch.tensor(back, device=device)
    # picking channels would undo the memory format
    if not torch.jit.is_tracing() and are_channels_last(found.shape, found.stride()):
        return found.movedim(dim, -1).index_select(-1, places).movedim(-1, dim)
    return found.index_select(dim, places)


def alike(plan: Plan, letters: str) -> dict[str, list[int]]:
    """The channels that are mirrored along the same of the letters."""
    classes: dict[str, list[int]] = {}
    for channel, mirror in enumerate(plan.mirror):
        classes.setdefault("".join(letter for letter in mirror if letter in letters), []).append(channel)
    return classes


def one_sided(output_padding: Sequence[int]) -> str:
    """The letters along which a transposed convolution adds output padding, which is lopsided."""
    return letters_where([more != 0 for more in output_padding])


def _pick(weight: Tensor, index: Tensor, plan: Plan, filters_dim: int) -> Tensor:
    if filters_dim == 0 or plan.depthwise:
        return weight.index_select(0, index)
    per_group = weight.shape[filters_dim]
    inside = index[: len(index) // plan.groups] if plan.groups > 1 else index
    return weight.index_select(filters_dim, inside % per_group)
