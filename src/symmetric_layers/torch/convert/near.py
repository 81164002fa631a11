"""Makes the banks of a trained network mirrored ones that are as near as can be."""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from symmetric_layers.errors import SymmetryError
from symmetric_layers.orbits import Plan
from symmetric_layers.torch.convert.match import nearest, order_of
from symmetric_layers.torch.convert.places import settle
from symmetric_layers.torch.convert.surgery import Numbers


def bring_near(model: nn.Module, plans: Mapping[str, Plan], example: Any) -> Iterator[tuple[str, float, bool]]:
    """Changes the filters of these convolutions to the nearest mirrored banks: name, how much is kept, whether moved.

    Channels change places first, where that changes nothing else, so that filters that are nearly mirrors meet.
    """
    if example is None:
        raise SymmetryError(
            "example: None does not show which layers read the channels that init='nearest' brings in order. Expected "
            "an input of the model. Pass one."
        )
    layers: dict[str, Any] = dict(model.named_modules())
    orders: dict[str, list[int]] = {}
    for name, plan in plans.items():
        if plan.orbits:
            bias = layers[name].bias
            orders[name] = order_of(_rows(layers[name]), None if bias is None else bias.detach(), plan)
    moved = settle(model, orders, example)
    numbers = Numbers()
    for name in orders:
        conv, bias = layers[name], layers[name].bias
        filters, level, kept = nearest(_rows(conv), None if bias is None else bias.detach(), plans[name])
        numbers.put(conv, "weight", conv.weight, _back(filters, conv))
        numbers.put(conv, "bias", bias, level)
        yield name, kept, name in moved


def _rows(conv: Any) -> Tensor:
    """All filters one after the other, `(out_channels, in_channels / groups, *kernel)`."""
    weight = conv.weight.detach()
    return weight.unflatten(0, (conv.groups, -1)).transpose(1, 2).flatten(0, 1) if conv.transposed else weight


def _back(filters: Tensor, conv: Any) -> Tensor:
    """The filters as the layer holds them."""
    return filters.unflatten(0, (conv.groups, -1)).transpose(1, 2).flatten(0, 1) if conv.transposed else filters
