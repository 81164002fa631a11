"""The layers that have to work with everything else PyTorch has: every kind of mirror, every argument somewhere."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from symmetric_layers.torch import (
    GlobalConv1d,
    OrbitBatchNorm2d,
    OrbitPool,
    SymmetricConv1d,
    SymmetricConv2d,
    SymmetricConv3d,
    SymmetricConvTranspose2d,
    TopKPool,
)

MIXED = {"h": 2, "v": 4, "hv": 8}


class Case(NamedTuple):
    """A layer that can be built anywhere, and the shape of its input, the batch first."""

    name: str
    build: Callable[..., nn.Module]  # takes device= and dtype=
    shape: tuple[int, ...]
    training: bool = True

    def layer(self, seed: int = 3, **where: Any) -> nn.Module:
        """The layer, the same numbers every time; biases and statistics are no longer what they started as."""
        torch.manual_seed(seed)
        layer = self.build(**where).train(self.training)
        with torch.no_grad():
            for value in layer.state_dict().values():
                if value.is_floating_point() and value.dim() == 1:
                    value.uniform_(0.5, 1.5)
        return layer

    def input(self, batch: int | None = None, dtype: torch.dtype | None = None) -> Tensor:
        """Random input of so many pictures; no two values are alike, so that the largest is one and the same."""
        shape = self.shape if batch is None else (batch, *self.shape[1:])
        size = torch.Size(shape).numel()
        order = torch.randperm(size, generator=torch.Generator().manual_seed(5))
        return (order.to(dtype or torch.get_default_dtype()) / size * 4 - 2).reshape(shape)


class Masked(nn.Module):
    """`GlobalConv1d` that reads its mask from the last channel, so that it has one input."""

    def __init__(self, **where: Any) -> None:
        super().__init__()
        self.layer = GlobalConv1d(3, 4, **where)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x[:, :3], mask=x[:, 3] > -0.501)


class Network(nn.Module):
    """Every kind of layer once: mirrored filters, shared statistics, orbits into one answer, the best of it counted."""

    def __init__(self, **where: Any) -> None:
        super().__init__()
        wide = {"h": 8, "hv": 8}
        self.first = SymmetricConv2d(1, 16, 3, padding=1, symmetry=wide, **where)
        self.norm = OrbitBatchNorm2d(16, symmetry=wide, **where)
        self.second = SymmetricConv2d(16, 8, 3, stride=2, padding=1, symmetry={"h": 4}, in_symmetry=wide, **where)
        self.up = SymmetricConvTranspose2d(8, 8, 3, symmetry={"h": "50%"}, share_bias=False, **where)
        self.pool = OrbitPool({"h": 4}, reduce="max")
        self.best = TopKPool(3)
        self.mix = GlobalConv1d(6, 4, **where)
        self.head = nn.Linear(12, 3, **where)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.first(x)))
        x = self.best(self.pool(self.up(self.second(x))))
        return self.head(self.mix(x).flatten(1))


def _case(name: str, layer: type[nn.Module], *arguments: Any, shape: tuple[int, ...], **options: Any) -> Case:
    return Case(name, lambda **where: layer(*arguments, **options, **where), shape)


def _fixed(name: str, layer: nn.Module, shape: tuple[int, ...]) -> Case:
    """A layer that stores nothing, and so takes neither `device` nor `dtype`."""
    return Case(name, lambda **_: layer, shape)


_IN_GROUPS = {
    "stride": (2, 1),
    "padding": (0, 2),
    "dilation": (1, 2),
    "groups": 2,
    "symmetry": {"h": "25%", "hv": 8},
    "share_bias": False,
}
_MIRRORED_CHANNELS = {
    "padding": 1,
    "padding_mode": "reflect",
    "symmetry": {"hv": 4, "h": 2},
    "in_symmetry": {"hv": 8},
}
_WRAPPED = {"bias": False, "padding": "same", "padding_mode": "circular", "symmetry": {"v": 4}}
_DEEP = {"symmetry": {"z": 2, "hz": 4, "hvz": 8}}
_UP = {
    "stride": 2,
    "padding": 1,
    "output_padding": 1,
    "groups": 2,
    "symmetry": {"h": 4},
    "in_symmetry": {"h": 4},
}

CONVOLUTIONS = [
    _case("conv1d", SymmetricConv1d, 2, 5, 4, stride=2, padding=1, symmetry={"h": "80%"}, shape=(3, 2, 9)),
    _case("mixed", SymmetricConv2d, 2, 16, 3, padding=1, symmetry=MIXED, shape=(3, 2, 6, 5)),
    _case("groups", SymmetricConv2d, 4, 16, (2, 3), **_IN_GROUPS, shape=(3, 4, 6, 7)),
    _case("in_symmetry", SymmetricConv2d, 10, 8, 3, **_MIRRORED_CHANNELS, shape=(3, 10, 5, 5)),
    _case("circular", SymmetricConv2d, 1, 6, 3, **_WRAPPED, shape=(3, 1, 5, 6)),
    _case("conv3d", SymmetricConv3d, 1, 16, 2, **_DEEP, shape=(3, 1, 4, 3, 3)),
    _case("transposed", SymmetricConvTranspose2d, 4, 6, 3, **_UP, shape=(3, 4, 3, 4)),
]
NORM = _case("norm", OrbitBatchNorm2d, 16, symmetry=MIXED, shape=(3, 16, 3, 4))
NORM_EVAL = NORM._replace(name="norm_eval", training=False)
POOLS = [
    _fixed("pool_mean", OrbitPool({"h": "50%"}), shape=(3, 6, 4, 5)),
    _fixed("pool_max", OrbitPool({"hv": 8, "h": 4}, reduce="max"), shape=(3, 16, 4, 3)),
    _fixed("top_k", TopKPool(2), shape=(3, 4, 3, 3)),
]
GLOBAL = [_case("global", GlobalConv1d, 3, 4, shape=(3, 3, 5)), _case("masked", Masked, shape=(3, 4, 5))]
NETWORK = _case("network", Network, shape=(4, 1, 6, 6))
NETWORK_EVAL = NETWORK._replace(name="network_eval", training=False)

SINGLE_PICTURES = [
    *CONVOLUTIONS,
    NORM_EVAL,
    *POOLS,
    *GLOBAL,
    NETWORK_EVAL,
]  # one picture does not change another's answer
STORING = [*CONVOLUTIONS, NORM, *GLOBAL, NETWORK]
EVERYTHING = [*CONVOLUTIONS, NORM, NORM_EVAL, *POOLS, *GLOBAL, NETWORK, NETWORK_EVAL]


def name(case: Case) -> str:
    """What pytest calls a case."""
    return case.name


def written_out(layer: Any) -> Tensor:
    """All filters of a convolution, one after the other, `(filters, in_channels / groups, *kernel)`, by its plan."""
    plan, weight = layer.plan, _filters_first(layer, layer.weight)
    inputs, bank = weight.shape[1], []
    for filter, (representative, letters) in enumerate(zip(plan.representative, plan.mirror, strict=True)):
        mirrored = weight[representative].flip(plan.axes[filter])
        if plan.inputs is not None and letters:
            first = filter // (plan.filters // plan.groups) * inputs
            mirrored = mirrored[[place - first for place in plan.inputs.exchange(letters)[first : first + inputs]]]
        bank.append(mirrored)
    return torch.stack(bank)


def all_filters(layer: Any) -> Tensor:
    """What the layer itself says all its filters are, in the shape of `written_out`."""
    return _filters_first(layer, layer.full_weight())


def _filters_first(layer: Any, weight: Tensor) -> Tensor:
    if not layer.transposed:
        return weight
    return weight.unflatten(0, (layer.groups, -1)).transpose(1, 2).flatten(0, 1)


def host(layer: Any) -> nn.Module:
    """PyTorch's own layer with all filters of this one, made from the plan and not by the layer."""
    of = next(base for base in type(layer).__mro__ if base.__module__ == "torch.nn.modules.conv")
    names = ["in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode"]
    if layer.transposed:
        names.append("output_padding")
    options = {option: getattr(layer, option) for option in names}
    twin = of(**options, bias=layer.bias is not None, dtype=layer.weight.dtype)
    bank = written_out(layer)
    if layer.transposed:
        bank = bank.unflatten(0, (layer.groups, -1)).transpose(1, 2).flatten(0, 1)
    with torch.no_grad():
        twin.weight.copy_(bank)
        if layer.bias is not None:
            twin.bias.copy_(layer.bias[list(layer.plan.representative)] if layer.share_bias else layer.bias)
    return twin


def backward(layer: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """The output, and the gradients of the input and of all that is stored, for a loss that tells all outputs apart."""
    x = x.clone().requires_grad_()
    layer.zero_grad()
    y = layer(x)
    (y.float() * torch.linspace(-1, 1, y.numel()).reshape(y.shape)).sum().backward()
    stored = {f"gradient of {name}": value.grad for name, value in layer.named_parameters()}
    state = {f"{name} afterwards": value for name, value in layer.named_buffers()}
    return {"output": y.detach(), "gradient of the input": x.grad} | stored | state
