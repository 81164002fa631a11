"""What the kernels are told that read in boxes: pictures as runs of channels, and how the work is shared out."""

import math
from functools import lru_cache

import torch
from torch import Tensor

from symmetric_layers.torch.kernels.bank import Part
from symmetric_layers.torch.kernels.geometry import Geometry
from symmetric_layers.torch.kernels.triton.box_answers import box_answers
from symmetric_layers.torch.kernels.triton.box_filters import box_filters
from symmetric_layers.torch.kernels.triton.box_launch import ACROSS, number_of
from symmetric_layers.torch.kernels.triton.box_pictures import box_pictures
from symmetric_layers.torch.kernels.triton.boxes import box, can_be_read, counts
from symmetric_layers.torch.kernels.triton.launch import (
    INTERPRETED,
    Grid,
    bucket,
    is_wide,
    lies,
    precision,
    start,
    three,
)
from symmetric_layers.torch.kernels.triton.members import members_across
from symmetric_layers.torch.kernels.triton.order import sorted_members
from symmetric_layers.torch.kernels.triton.standing import entries_before, number, slots

_ENGINE = (9, 10)  # the compute capabilities that have a copy engine, and the memory that the tiles are cut for
_PROGRAMS = 264  # that the gradient of the weight is shared out over, to keep all of a GPU busy
_SIDES = {1: (128, 128), 2: (64, 64), 3: (64, 32)}  # about the channels and orbits of a program
_LEAST = 8  # boxes of a program


def fits(x: Tensor, geometry: Geometry, *dense: int) -> bool:
    """Whether boxes can be read: steps of one pixel, and `dense` channels or orbits in runs of 16 bytes."""
    if max(geometry.stride) > 1 or any(channels * x.element_size() % 16 for channels in dense):
        return False
    return INTERPRETED or has_engine(x.device)


@lru_cache(maxsize=None)
def has_engine(device: torch.device) -> bool:
    """Whether a GPU has an engine that copies boxes."""
    return not torch.version.hip and torch.cuda.get_device_capability(device)[0] in _ENGINE


def pieces(dtype: torch.dtype) -> int:
    """How many tensors hold the filters: two where TF32 makes products of float32."""
    return 2 if precision(dtype) == "tf32x3" else 1


def as_pictures(x: Tensor, part: Part) -> Tensor:
    """`(pictures, three axes, channels)`, member after member where channels are orbits."""
    seen = sorted_members(x, part, False).flatten(0, 1) if part.deep else x.movedim(1, -1)
    if not can_be_read(seen):
        seen = seen.clone(memory_format=torch.contiguous_format)  # what begins between 16 bytes, too
    return _with_three_axes(seen)


def as_parts(gradient: Tensor, part: Part) -> Tensor:
    """The parts of gradients, `(parts times pictures, three axes, orbits)`."""
    return _with_three_axes(sorted_members(gradient, part, True).flatten(0, 1))


def _with_three_axes(x: Tensor) -> Tensor:
    return x.view(x.shape[0], *three(x.shape[1:-1], 1), x.shape[-1])


def run_answers(x: Tensor, packed: Tensor, bias: Tensor | None, y: Tensor, geometry: Geometry, part: Part) -> None:
    """The answers of pictures, or of gradients whose channels are orbits, into y."""
    orbits, channels = packed.shape[-2:]
    start(
        box_answers, _tiles(orbits), x=x, packed=packed, bias=packed if bias is None else bias, y=y,
        pictures=y.shape[0], orbits=orbits, channels=channels, into=lies(y), deep=part.deep, biased=bias is not None,
        wide=is_wide(y, packed), **_shared(y, geometry, part),
    )  # fmt: skip


def run_pictures(x: Tensor, packed: Tensor, y: Tensor, geometry: Geometry, part: Part) -> None:
    """The gradient of pictures, from the parts of gradients, into y."""
    channels, orbits = packed.shape[-2:]
    start(
        box_pictures, _tiles(channels), x=x, packed=packed, y=y, pictures=y.shape[0], orbits=orbits,
        channels=channels, into=lies(y), wide=is_wide(y, packed), **_shared(y, geometry, part),
    )  # fmt: skip


def run_filters(x: Tensor, gradient: Tensor, geometry: Geometry, part: Part) -> Tensor:
    """Shares of the gradients of the parts of filters, `(splits, slots, channels, orbits)`."""
    kernel, across = three(geometry.kernel_size, 1), x.dtype == torch.float32
    answer, pictures = three(geometry.answer, 1), gradient.shape[0]
    parts = _across(gradient, answer, part) if across else as_parts(gradient, part)
    taps = entries_before(kernel, part.kind, part.kind, part.deep) + number(kernel, part.kind, part.kind, part.deep)
    rows, columns = _SIDES[part.kind.bit_count()]
    programs = taps * -(-part.inputs // rows) * -(-part.orbits // columns)
    boxes = pictures * math.prod(answer) // ACROSS
    splits = max(1, min(_PROGRAMS // programs, boxes // _LEAST))
    sums = x.new_empty((splits, slots(kernel, part.kind, part.deep), part.inputs, part.orbits), dtype=torch.float32)
    start(
        box_filters, _shares(part, taps, splits), x=x, parts=parts, sums=sums, pictures=pictures,
        pixels=pictures * math.prod(answer), orbits=part.orbits,
        channels=part.inputs, splits=splits, deep=part.deep, across=across, **_shared(gradient, geometry, part),
    )  # fmt: skip
    return sums


def _across(gradient: Tensor, answer: tuple[int, ...], part: Part) -> Tensor:
    """The parts of gradients, box after box, `(pieces, parts, boxes, orbits, pixels)`."""
    pictures = gradient.shape[0]
    shape = box(ACROSS, pictures, answer)
    number = counts(shape, pictures, answer)
    boxes, several, columns = number_of(number), pieces(gradient.dtype), 16 if INTERPRETED else 32
    y = gradient.new_empty((several, part.members, boxes, part.orbits, ACROSS))
    start(
        members_across, lambda tile: (boxes, -(-part.orbits // columns)), gradient, y, pictures, boxes, part.orbits,
        answer, lies(gradient), number, letters=part.kind.bit_count(), pieces=several, wide=is_wide(gradient, y),
        rows=ACROSS, columns=columns, shape=shape,
    )  # fmt: skip
    return y


def _shared(y: Tensor, geometry: Geometry, part: Part) -> dict:
    """What all kernels are told; `y` has the pixels of the answer."""
    return {
        "answer": three(geometry.answer, 1), "kernel": three(geometry.kernel_size, 1),
        "padding": three(geometry.padding, 0), "dilation": three(geometry.dilation, 1),
        "bucket": bucket(y.shape[0] * math.prod(geometry.answer)), "kind": part.kind,
        "precision": precision(y.dtype), "exact": INTERPRETED,
    }  # fmt: skip


def _tiles(columns: int) -> Grid:
    return lambda tile: (number_of(tile["counts"]) * -(-columns // tile["columns"]),)


def _shares(part: Part, taps: int, splits: int) -> Grid:
    return lambda tile: (-(-part.inputs // tile["rows"]) * -(-part.orbits // tile["columns"]), taps, splits)
