"""Filters on their way to the kernels, as their parts, and gradients of parts on their way back."""

from torch import Tensor

from symmetric_layers.torch.kernels.bank import Part
from symmetric_layers.torch.kernels.triton.launch import lies, start, three
from symmetric_layers.torch.kernels.triton.standing import slots
from symmetric_layers.torch.kernels.triton.weights import SIDE, packing, unpacking


def pack(weight: Tensor, part: Part, pieces: int = 1, by_channel: bool = False, backwards: bool = False) -> Tensor:
    """The parts of filters, `(pieces, slots, orbits, channels of a member)`, the last two the other way `by_channel`.

    Args:
        weight: the stored filters of one block, `(orbits, channels, *kernel)`, channels of an orbit side by side.
        part: the block.
        pieces: two where float32 is multiplied as TF32 thrice.
        by_channel: whether channels come before orbits.
        backwards: for the gradient of orbits: filters are read backwards, and by the other member.
    """
    kernel = three(weight.shape[2:], 1)
    number, sides = slots(kernel, part.kind, part.deep), (part.orbits, part.inputs)
    packed = weight.new_empty((pieces, number, *(sides[::-1] if by_channel else sides)))
    start(
        packing, lambda tile: (number, *(-(-size // SIDE) for size in sides)), weight, packed, *sides, lies(weight),
        kernel=kernel, kind=part.kind, deep=part.deep, backwards=backwards, by_channel=by_channel, pieces=pieces,
        side=SIDE,
    )  # fmt: skip
    return packed


def unpack(sums: Tensor, weight: Tensor, part: Part) -> None:
    """The gradient of stored filters, into weight, from shares of that of their parts.

    Args:
        sums: `(splits, slots, channels of a member, orbits)`, in float32.
        weight: `(orbits, channels, *kernel)`, channels of an orbit side by side.
        part: the block.
    """
    kernel = three(weight.shape[2:], 1)
    programs = kernel[0] * kernel[1] * kernel[2] * (part.members if part.deep else 1)
    sides = (part.inputs, part.orbits)
    start(
        unpacking, lambda tile: (programs, *(-(-size // SIDE) for size in sides)), sums, weight, sums.shape[0],
        part.orbits, part.inputs, lies(weight), kernel=kernel, kind=part.kind, deep=part.deep, side=SIDE,
    )  # fmt: skip
