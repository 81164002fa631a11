"""What the kernels are asked for: answers and gradients of one block of a bank, in boxes where these can be read."""

import torch
from torch import Tensor

from symmetric_layers.torch.kernels.bank import Part
from symmetric_layers.torch.kernels.geometry import Geometry
from symmetric_layers.torch.kernels.triton import by_pointers, in_boxes
from symmetric_layers.torch.kernels.triton.filter_calls import pack, unpack
from symmetric_layers.torch.kernels.triton.order import are_moved, in_order, put_back


def to_answers(x: Tensor, weight: Tensor, bias: Tensor | None, y: Tensor, geometry: Geometry, part: Part) -> None:
    """The answers of one block of a bank, into y."""
    x, weight = in_order(x, part), in_order(weight, part)
    if in_boxes.fits(x, geometry, part.inputs) and not by_pointers.are_side_by_side(x, geometry, part):
        packed = pack(weight, part, in_boxes.pieces(x.dtype))
        in_boxes.run_answers(in_boxes.as_pictures(x, part), packed, bias, y, geometry, part)
    else:
        by_pointers.run_answers(x, pack(weight, part, by_channel=True), bias, y, geometry, part)


def to_orbits(gradient: Tensor, weight: Tensor, x: Tensor, geometry: Geometry, part: Part) -> None:
    """The gradient of channels that are orbits, into x: a deep layer again, whose geometry is given."""
    back = part._replace(in_order=part.out_order, inputs=part.orbits, orbits=part.inputs)
    weight, y = in_order(weight, part), torch.empty_like(x) if are_moved(part) else x
    if in_boxes.fits(gradient, geometry, part.orbits) and not by_pointers.are_side_by_side(gradient, geometry, part):
        packed = pack(weight, part, in_boxes.pieces(x.dtype), by_channel=True, backwards=True)
        in_boxes.run_answers(in_boxes.as_pictures(gradient, back), packed, None, y, geometry, back)
    else:
        by_pointers.run_answers(gradient, pack(weight, part, backwards=True), None, y, geometry, back)
    put_back(y, x, part)


def to_pictures(gradient: Tensor, weight: Tensor, x: Tensor, geometry: Geometry, part: Part) -> None:
    """The gradient of channels that are pictures, into x; the geometry is that of the convolution backwards."""
    if in_boxes.fits(gradient, geometry, part.orbits):
        packed = pack(weight, part, in_boxes.pieces(x.dtype), by_channel=True)
        in_boxes.run_pictures(in_boxes.as_parts(gradient, part), packed, x, geometry, part)
    else:
        by_pointers.run_pictures(gradient, pack(weight, part), x, geometry, part)


def to_filters(gradient: Tensor, x: Tensor, weight: Tensor, geometry: Geometry, part: Part) -> None:
    """The gradient of the stored filters of one block, into weight."""
    x = in_order(x, part)
    if in_boxes.fits(x, geometry, part.inputs, *[part.orbits] * (x.dtype != torch.float32)):
        sums = in_boxes.run_filters(in_boxes.as_pictures(x, part), gradient, geometry, part)
    else:
        sums = by_pointers.run_filters(x, gradient, geometry, part)
    if are_moved(part):
        own = torch.empty_like(weight)
        unpack(sums, own, part)
        put_back(own, weight, part)
    else:
        unpack(sums, weight, part)
