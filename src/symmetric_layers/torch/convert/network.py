"""Networks of ordinary layers become networks that obey the law."""

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from symmetric_layers.errors import SymmetryError, yes_or_no
from symmetric_layers.letters import LETTERS, canonical_kind, orbit_size
from symmetric_layers.orbits import plan
from symmetric_layers.torch.answers import tensors
from symmetric_layers.torch.convert.banks import (
    NORMS,
    invariant_conv,
    orbit_linear,
    orbit_norm,
    symmetric_conv,
    symmetric_linear,
)  # fmt: skip
from symmetric_layers.torch.convert.follow import Follower, is_operator
from symmetric_layers.torch.convert.measure import law_error, refuse_breach, run_once
from symmetric_layers.torch.convert.parts import Spread, UpCat, spreads_of
from symmetric_layers.torch.convert.surgery import (
    HOSTS,
    Numbers,
    Report,
    copy_of,
    exchange_modules,
    host_of,
    is_ours,
    no_module,
    renew,
    tell_of_hooks,
    unreadable,
)  # fmt: skip
from symmetric_layers.torch.mirrored import Mirrored


def equivariant(
    model: nn.Module,
    axes: str,
    *,
    example: Any,
    keep: Iterable[str] = (),
    measure: bool = True,
    inplace: bool = False,
    optimizer: Any = None,
    report: Report = None,
) -> nn.Module:
    """Turns a network of ordinary layers into one that obeys the law: mirrored picture, mirrored answer.

    First convolutions lift pictures to orbits, the ones between carry orbits to orbits, norms and pools follow, and
    the last ones give ordinary maps and classes again. The channels stay as many as they were, so that a half, a
    quarter or an eighth of the weights is left for one, two or three letters.

    What is first and what is last is found by following the example through the model, not by names. The result is
    measured before it is handed back: in double precision, with random numbers for all parameters and buffers, in
    training and in evaluation mode.

    Equivalent to: writing the model with `SymmetricConv2d(..., symmetry={axes: out_channels}, in_symmetry={axes:
    in_channels}, grid='mirrored')`, `OrbitBatchNorm2d`, `Mirrored(nn.MaxPool2d(2))`, ..., and `InvariantConv2d` or
    `OrbitLinear` at the end. Each orbit starts from the numbers that stood where its representative stands.

    Law: at every size that the model accepts, as far as it is made of modules; what a `forward` does by itself (a
    one-sided `F.pad`, an `F.max_pool2d` that leaves something over) is held to it at the size of the example.

    Args:
        model: the network. It stays as it is, unless `inplace`.
        axes: the letters along which the answer is to mirror: `'h'`, `'hv'`, `'hvz'`, ...
        example: an input, of a size and kind that the model accepts: a tensor, a tuple of inputs, or a dict of keyword
            arguments.
        keep: names of modules that stay ordinary. The result is then handed back whatever it measures, and `report`
            is told.
        measure: False hands the result back unmeasured. Measuring takes two forward passes in double precision, and
            two more for each letter.
        inplace, optimizer, report: as in `symmetrize`.

    Returns:
        The network with new layers, in the same mode, on the same device.

    Raises:
        SymmetryError: for axes that the pictures do not have, channels that are no whole orbits, what cannot be
            converted (with the module's name and a way out), and a result that breaks the law (with the first module
            that does). Nothing is changed then.

    Example:
        >>> head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 2)]
        >>> model = nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), *head)
        >>> new = equivariant(model, 'h', example=torch.randn(1, 1, 9, 9))
        >>> x = torch.randn(1, 1, 9, 9)
        >>> torch.allclose(new(x), new(x.flip(-1)), atol=1e-5)
        True

    Source: Cohen and Welling, "Group equivariant convolutional networks", ICML 2016; Weiler and Cesa, "General
    E(2)-equivariant steerable CNNs", NeurIPS 2019, for networks that are made so layer by layer.
    """
    kept = _checked(model, keep)
    kind = canonical_kind(axes, _rank(example), "axes")
    yes_or_no("measure", measure)
    follower = _followed(model, example, kept)
    target = model if inplace else copy_of(model)
    before = dict(target.named_parameters(remove_duplicate=False))
    surgeon = _Surgeon(target, kind, follower, kept)
    trial = (_Surgeon(copy_of(model), kind, follower, kept) if inplace else surgeon).operate()
    if kept and measure:
        worst = max(law_error(trial, example, kind).values())
        if report is not None:
            report(f"With {', '.join(map(repr, kept))} ordinary, the largest relative deviation is {worst:.1e}.")
    elif measure:
        refuse_breach(trial, example, kind)
    result = surgeon.operate() if inplace else trial
    renew(optimizer, before, result)
    tell_of_hooks(result, surgeon.names, report)
    for name in surgeon.unreached if report is not None else ():
        report(f"{name!r} was not reached by the example, and stays ordinary.")  # type: ignore[misc]
    return result


def _checked(model: Any, keep: Iterable[str]) -> list[str]:
    no_module(model)
    ours = next((name for name, module in model.named_modules() if is_ours(module) or spreads_of(module)), None)
    if ours is not None:
        raise SymmetryError(
            f"model: {ours or 'it'!r} is a layer of this package already. Expected a network of ordinary layers. "
            "Convert the network that it was made from."
        )
    if not any(isinstance(module, HOSTS) for module in model.modules()):
        raise SymmetryError(
            "model: no convolution is in it. Expected nn.Conv1d, 2d, 3d or transposed ones. Pass a model that has some."
        )
    names: dict[str, nn.Module] = dict(model.named_modules())
    kept = [keep] if isinstance(keep, str) else list(keep)
    for name in kept:
        if name not in names:
            raise SymmetryError(
                f"keep: {name!r} is no module of the model. Expected names out of model.named_modules(). Use such."
            )
    for name, layer in names.items():
        if isinstance(layer, (*HOSTS, nn.Linear)) and not _inside(name, kept):
            error = unreadable(name, layer)
            if error is not None:
                raise error
    return kept


def _inside(name: str, kept: list[str]) -> bool:
    return any(name == one or name.startswith(one + ".") or not one for one in kept)


def _rank(example: Any) -> int:
    rank = max((tensor.dim() - 2 for _, tensor in tensors(example)), default=0)
    if rank not in (1, 2, 3):
        shapes = [tuple(tensor.shape) for _, tensor in tensors(example)]
        raise SymmetryError(
            f"example: {shapes} holds no pictures. Expected a tensor (N, C, *positions) with 1 to 3 axes of positions. "
            "Pass a batch of pictures."
        )
    return rank


def _followed(model: nn.Module, example: Any, kept: list[str]) -> Follower:
    """Follows the example through a copy of the model, in evaluation and in training mode."""
    watched = copy_of(model)
    follower = Follower(watched, lambda name: _inside(name, kept))
    for training in (False, True):
        run_once(follower.follow, watched.train(training), example, training)
    follower.check()
    return follower


class _Surgeon:
    """Makes the new layers of one model, all of them before the first one is put in."""

    def __init__(self, model: nn.Module, kind: str, follower: Follower, kept: list[str]) -> None:
        self._model, self._kind, self._follower, self._kept = model, kind, follower, kept
        self._numbers = Numbers()
        self.result = model
        self.names: dict[int, str] = {}
        self.unreached: list[str] = []

    def operate(self) -> nn.Module:
        """Converts the model."""
        new: dict[int, nn.Module] = {}
        for name, module in self._model.named_modules():
            made = None if _inside(name, self._kept) else self._made(name, module)
            if made is not None:
                new[id(module)], self.names[id(made)] = made, name
        shared = list(self._shared())
        for module, key, spread, values in shared:
            self._numbers.put(module, key, module._parameters[key], values)
            spread.install(module)
        for module in self._model.modules():
            if _pads_itself(module) and any(id(child) in new for child in module.children()):
                config: Any = copy.copy(module.config)
                config.tf_padding = False  # the convolution pads now
                module.config = config
        self.result = exchange_modules(self._model, new)
        return self.result

    def _made(self, name: str, module: Any) -> nn.Module | None:
        try:
            if isinstance(module, HOSTS):
                return self._conv(name, module)
            if isinstance(module, nn.Linear):
                return self._linear(name, module)
            if isinstance(module, NORMS):
                return self._norm(name, module)
            if is_operator(module) and self._follower.state(name) is False:
                return Mirrored(module, {self._kind: "100%"}).train(module.training)
            if _is_up_cat(module) and not self._plain(self._follower.answers.get(f"{name}.upsample".lstrip("."))):
                return UpCat(module, {self._kind: "100%"}).train(module.training)
        except SymmetryError as refusal:
            if str(refusal).startswith("model:"):
                raise
            raise SymmetryError(f"model: {name!r} cannot be converted. {refusal}") from None
        return None

    def _plain(self, source: int | None) -> bool:
        return source is None or self._follower.sets.is_plain(source)

    def _whole(self, name: str, channels: int, groups: int = 1) -> dict[str, int]:
        size = orbit_size(self._kind) * groups
        if channels % size:
            raise SymmetryError(
                f"model: {name!r} has {channels} output channels, which are no whole orbits of {self._kind!r}. "
                f"Expected a multiple of {size}. Use such a number, or keep that part ordinary with keep."
            )
        return {self._kind: channels}

    def _conv(self, name: str, conv: Any) -> nn.Module | None:
        host = host_of(conv)
        state = self._follower.state(name)
        if state is None:
            self.unreached.append(name)
            return None
        if host is None:
            raise _strange(name, conv)
        in_symmetry = None if state else {self._kind: conv.in_channels}
        if self._plain(self._follower.writes[name]):
            return invariant_conv(conv, host, in_symmetry, self._kind, self._numbers)
        depthwise = not state and conv.groups == conv.in_channels == conv.out_channels
        symmetry = self._whole(name, conv.out_channels, 1 if depthwise else conv.groups)
        padded = any(_pads_itself(parent) and parent.convolution is conv for parent in self._model.modules())
        return symmetric_conv(conv, host, symmetry, in_symmetry, "mirrored", self._numbers, padded)

    def _linear(self, name: str, linear: Any) -> nn.Module | None:
        state = self._follower.state(name)
        if state is None:
            self.unreached.append(name)
            return None
        answers = self._plain(self._follower.writes[name])
        if state and answers:
            return None
        if host_of(linear, (nn.Linear,)) is None:
            raise _strange(name, linear)
        in_symmetry = None if state else {self._kind: linear.in_features}
        if answers:
            return orbit_linear(linear, in_symmetry, self._numbers)
        return symmetric_linear(linear, self._whole(name, linear.out_features), in_symmetry, self._numbers)

    def _norm(self, name: str, norm: Any) -> nn.Module | None:
        own = [*norm.parameters(recurse=False), *norm.buffers(recurse=False)]
        if self._follower.state(name) is not False or not own:
            return None
        host = host_of(norm, NORMS)
        if host is None:  # it computes something of its own, which was followed function by function
            return None
        channels = norm.num_channels if host is nn.GroupNorm else getattr(norm, "num_features", None)
        whole = self._whole(name, channels) if channels else {self._kind: "100%"}
        return orbit_norm(norm, host, whole, self._numbers)

    def _shared(self) -> Any:
        """The parameters outside layers that meet orbits: module, name, hooks, stored values."""
        modules = dict(self._model.named_modules())
        for (name, key), (source, axis) in self._follower.parameters.items():
            if self._follower.sets.is_plain(source) or _inside(name, self._kept):
                continue
            parameter = modules[name]._parameters[key]
            if parameter is None or not self._follower.meets(source):
                continue
            channels = parameter.shape[axis]
            arranged = plan(self._whole(f"{name}.{key}".lstrip("."), channels), channels, len(LETTERS))
            first = [channel for channel, mirror in enumerate(arranged.mirror) if not mirror]
            values = parameter.detach().index_select(axis, torch.tensor(first, device=parameter.device))
            yield modules[name], key, Spread(key, arranged, axis), values


def _pads_itself(module: Any) -> bool:
    """Whether a block (as in transformers' MobileNets) pads like TensorFlow before it convolves."""
    return bool(getattr(getattr(module, "config", None), "tf_padding", False)) and hasattr(module, "convolution")


def _is_up_cat(module: nn.Module) -> bool:
    return type(module).__name__ == "UpCat" and type(module).__module__.startswith("monai.")


def _strange(name: str, module: nn.Module) -> SymmetryError:
    parametrized = " derives its weight from something else" if parametrize.is_parametrized(module) else ""
    return SymmetryError(
        f"model: {name!r} is a {type(module).__name__}, which {parametrized or 'computes something of its own'}. "
        "Expected a layer of torch.nn. Use one, or keep that part ordinary with keep."
    )
