"""The way back: ordinary layers with the full weights, for tools that know nothing else."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from symmetric_layers.errors import SymmetryError
from symmetric_layers.orbits import Plan
from symmetric_layers.torch.answers import call
from symmetric_layers.torch.convert.attention import OrbitMultiheadAttention, ordinary_attention
from symmetric_layers.torch.convert.banks import NORMS
from symmetric_layers.torch.convert.derived import derived, written_out
from symmetric_layers.torch.convert.flat import FlatConv, as_linear
from symmetric_layers.torch.convert.operators import is_lopsided_pad
from symmetric_layers.torch.convert.ordinary_conv import Sizes, ordinary_conv, remainders, shapes_seen
from symmetric_layers.torch.convert.own import OwnConv, answers_alike, as_it_was
from symmetric_layers.torch.convert.padded import PaddedBeforePool
from symmetric_layers.torch.convert.parts import PadAfter, SymmetricLinear, UpCat, spreads_of
from symmetric_layers.torch.convert.pools import (
    ordinary_operator,
    ordinary_orbit_pool,
    ordinary_pixels,
    padded_after,
)
from symmetric_layers.torch.convert.surgery import (
    HOSTS,
    Numbers,
    Report,
    computes_its_own,
    copy_of,
    exchange_modules,
    hand_on_extras,
    home_of,
    inherit,
    is_ours,
    no_module,
    renew,
    tell_of_hooks,
)  # fmt: skip
from symmetric_layers.torch.invariant import OrbitLinear
from symmetric_layers.torch.kernels import spread
from symmetric_layers.torch.mirrored import Mirrored
from symmetric_layers.torch.pixels import OrbitPixelShuffle, OrbitPixelUnshuffle
from symmetric_layers.torch.pool import OrbitPool

_MEANING = ("_job", "full_weight", "full_bias")
_GATHERED = ("running_mean", "running_var", "num_batches_tracked")


def desymmetrize(
    model: nn.Module,
    example: Any = None,
    *,
    inplace: bool = False,
    optimizer: Any = None,
    report: Report = None,
) -> nn.Module:
    """Turns a model with symmetric layers back into one of ordinary layers: same answers, nothing of this package left.

    ONNX, TorchScript, TensorRT, fusion of convolution and batch norm, quantization: they all know `nn.Conv2d`. The
    weights are written out in full, so trained further the model would lose its symmetry. So are those that layers of
    this package make out of others (pruning, weight_norm, parametrizations), as they are in evaluation mode.

    Equivalent to: `nn.Conv2d` with `full_weight()` and `full_bias()`, and so on. A mirrored grid becomes a convolution
    with a kernel wider by what stride and size leave over, a mirrored pool a shift before the pool.

    In training mode only batch norms differ: an ordinary one knows no orbits to take statistics over.

    Law: what held before holds after; where grids are mirrored, at the sizes of `example` and at all that leave the
    same remainder of the stride in every layer (the sizes of `example` plus multiples of the product of all strides).
    `report` is told which.

    Args:
        model: a model with layers of this package. It stays as it is, unless `inplace`.
        example: an input of the sizes that the result is for: a tensor, a tuple or a dict. Only needed where strides
            and sizes may leave something over (mirrored grids).
        inplace, optimizer, report: as in `symmetrize`.

    Returns:
        The ordinary model, in the same mode.

    Raises:
        SymmetryError: for a model without such layers, for mirrored grids without an example, for what has no ordinary
            form at these sizes, and for a class derived from this package's that computes something of its own.

    Example:
        >>> plain = desymmetrize(nn.Sequential(SymmetricConv2d(1, 4, 3, symmetry={'h': 4})))
        >>> type(plain[0]), plain[0].weight.shape
        (<class 'torch.nn.modules.conv.Conv2d'>, torch.Size([4, 1, 3, 3]))
    """
    no_module(model)
    if not any(is_ours(module) or spreads_of(module) for module in model.modules()):
        raise SymmetryError(
            "model: no layer of this package is in it. Expected symmetric layers. Nothing is left to be done."
        )
    target = model if inplace else copy_of(model)
    before = dict(model.named_parameters(remove_duplicate=False))
    sizes = _sizes(target, example)
    sized: list[str] = []
    numbers = Numbers()
    new: dict[int, nn.Module] = {}
    names: dict[int, str] = {}
    twins: list[tuple[str, nn.Module]] = []
    for name, module in target.named_modules():
        made = _ordinary(name, _as_it_computes(name, module, sizes, twins), sizes, numbers, sized)
        if isinstance(made, nn.Sequential):  # a pool behind a shift, which needs the type of what it shifts
            made = _like(model, made)
        if made is not None:
            new[id(module)], names[id(made)] = made, name
    shared = [(module, found) for module in target.modules() for found in spreads_of(module)]
    result = exchange_modules(target, new)
    for module, found in shared:
        full = found.full(module)
        found.remove(module)
        if found.name in module._buffers:
            module._buffers[found.name] = full
        else:
            numbers.put(module, found.name, module._parameters[found.name], full)
    result = _without_ours(result, sizes)
    renew(optimizer, before, result)
    tell_of_hooks(result, names, report)
    _tell_of_derived(dict.fromkeys(name for name, _ in twins), report)
    if sized and report is not None:
        report(f"Mirrored grids at {', '.join(sized)}: right where sizes leave these remainders, as in the example.")
    return result


def _like(model: nn.Module, made: Any) -> Any:
    """With numbers of the model's type, where the model is."""
    some = next((parameter for parameter in model.parameters() if parameter.is_floating_point()), None)
    return made if some is None else made.to(some)


def _sizes(model: nn.Module, example: Any) -> Sizes | None:
    """The sizes of the pictures that every layer of this package sees, where there is an example."""
    if example is None:
        return None
    seen: Sizes = {}

    def note(module: nn.Module, args: Any) -> None:
        shape = tuple(args[0].shape)
        if isinstance(module, Mirrored) and isinstance(module.operator, PadAfter):  # what it adds, not what it sees
            shape = (*shape[:2], *(more - n for n, more in zip(shape[2:], args[1].shape[2:], strict=True)))
        seen.setdefault(id(module), set()).add(shape)

    handles = [module.register_forward_pre_hook(note) for module in model.modules() if is_ours(module)]
    mode = model.training
    try:
        with torch.no_grad():
            modes = {id(module): module.training for module in model.modules()}
            model.eval()
            call(model, example)
    finally:
        for handle in handles:
            handle.remove()
        model.train(mode)
        for module in model.modules():
            module.training = modes[id(module)]
    return seen


def _as_it_computes(name: str, module: nn.Module, sizes: Sizes | None, twins: list[tuple[str, nn.Module]]) -> nn.Module:
    """A layer with what it computes with as its own numbers; twins are noted, by what was made out of other numbers."""
    deep = isinstance(module, (OwnConv, OrbitMultiheadAttention))
    layer = written_out(module, deep) if is_ours(module) else module
    if layer is not module:
        twins += [(found, layer) for found in derived(name, module, deep)]
        if sizes is not None and id(module) in sizes:
            sizes[id(layer)] = sizes[id(module)]
    return layer


def _tell_of_derived(names: Iterable[str], report: Report) -> None:
    for name in names:
        if report is not None:
            report(f"{name!r} was made out of other numbers, and is written out as it is in evaluation mode.")


def _ordinary(name: str, module: Any, sizes: Sizes | None, numbers: Numbers, sized: list[str]) -> nn.Module | None:
    """The ordinary form of one module, or None where it may stay."""
    home = home_of(module)
    if home is None:
        return None
    if computes_its_own(module, home, _MEANING):
        raise SymmetryError(
            f"model: {name!r} is a {type(module).__name__}, which computes something of its own. Expected a "
            f"{home.__name__} that computes what the package's does. Exchange it yourself first, or take it out of the "
            "part that is converted."
        )
    if isinstance(module, OwnConv):
        return _own(name, module, sizes, numbers, sized)
    if isinstance(module, OrbitMultiheadAttention):
        return ordinary_attention(module, numbers)
    if isinstance(module, FlatConv):
        return as_linear(module, numbers)
    if isinstance(module, HOSTS):
        return ordinary_conv(name, module, sizes, numbers, sized)
    if isinstance(module, (OrbitLinear, SymmetricLinear)):
        return _linear(module, numbers)
    if isinstance(module, NORMS):
        return _norm(module, numbers)
    if isinstance(module, PaddedBeforePool):
        raise _formless(name, "a pool behind padding on one side")
    if isinstance(module, Mirrored) and not isinstance(module.operator, PadAfter):
        made = ordinary_operator(module, None)
        if made is None:
            shapes = shapes_seen(name, module, sizes)
            made = ordinary_operator(module, shapes)
            if not is_lopsided_pad(module.operator):
                sized.append(f"{name!r} ({remainders(module.operator, shapes)})")
        return made
    if isinstance(module, (OrbitPixelShuffle, OrbitPixelUnshuffle)):
        return ordinary_pixels(module, shapes_seen(name, module, sizes, "a layer of pixels"))
    if isinstance(module, OrbitPool):
        return ordinary_orbit_pool(module, shapes_seen(name, module, sizes, "an OrbitPool"))
    if isinstance(module, UpCat) and module.is_pad:
        shapes_seen(name, module, sizes)
        sized.append(f"{name!r} (as much padding as there)")
    elif not isinstance(module, (Mirrored, PadAfter, UpCat)):
        raise _formless(name, f"a {type(module).__name__}")
    return None


def _own(name: str, layer: OwnConv, sizes: Sizes | None, numbers: Numbers, sized: list[str]) -> nn.Module:
    made = as_it_was(layer, numbers)
    if layer.is_strided:
        shapes = shapes_seen(name, layer, sizes)
        other = next((shape[2:] for shape in sorted(shapes) if not answers_alike(layer, made, shape)), None)
        if other is not None:
            raise SymmetryError(
                f"model: {name!r}, a {type(made).__name__} with strides, has no ordinary form for pictures of {other}, "
                "which its mirrors sample elsewhere. Expected sizes at which they do not. Pass an example of another "
                "size, or take the layer out of the part that is converted."
            )
        sized.append(f"{name!r} ({remainders(layer.conv, shapes)})")
    return made


def _formless(name: str, sort: str) -> SymmetryError:
    return SymmetryError(
        f"model: {name!r}, {sort}, has no ordinary form. Expected convolutions, norms, pools and linear layers. Take "
        "it out of the part that is converted."
    )


def _linear(layer: Any, numbers: Numbers) -> nn.Module:
    new = nn.Linear(layer.in_features, layer.out_features, layer.bias is not None, "meta", layer.weight.dtype)
    with torch.no_grad():
        numbers.put(new, "weight", layer.weight, layer.full_weight())
        numbers.put(new, "bias", layer.bias, layer.full_bias() if isinstance(layer, SymmetricLinear) else layer.bias)
    inherit(layer, new)
    vars(new).pop("plan", None)
    return new


def _norm(layer: Any, numbers: Numbers) -> nn.Module:
    host = next(host for host in NORMS if isinstance(layer, host))
    if host is nn.LayerNorm and layer.data_format == "channels_first":
        raise SymmetryError(
            "model: an OrbitLayerNorm with data_format='channels_first' has no ordinary form. "
            "Expected 'channels_last'. Move the channels last around it."
        )
    new = host.__new__(host)
    nn.Module.__init__(new)
    for name, value in vars(layer).items():
        if name not in ("_parameters", "_buffers", "_modules", "plan", "data_format"):
            vars(new)[name] = value
    for name in ("weight", "bias"):
        new.register_parameter(name, None)
        if getattr(layer, name) is not None:
            numbers.put(new, name, getattr(layer, name), _full(getattr(layer, name), layer.plan))
    for name in [name for name in _GATHERED if name in layer._buffers]:
        buffer = layer._buffers[name]
        full = buffer if buffer is None or not buffer.dim() else _full(buffer, layer.plan).detach().clone()
        new.register_buffer(name, full, name not in layer._non_persistent_buffers_set)
    hand_on_extras(layer, new)
    return new


def _full(values: Tensor, arranged: Plan) -> Tensor:
    return spread(values.detach(), arranged)


def _without_ours(model: nn.Module, sizes: Sizes | None) -> nn.Module:
    """Gives blocks of other packages back their classes."""
    back: dict[int, nn.Module] = {}
    for module in model.modules():
        if isinstance(module, UpCat):
            block: Any = object.__new__(module.host)
            nn.Module.__init__(block)
            back[id(module)] = block
            inherit(module, block)
            del vars(block)["host"], block._modules["fit"]
            block.is_pad, block.convs, block.upsample = module.is_pad, module.convs, module.upsample
            added = (sizes or {}).get(id(module.fit), set())
            for shape in sorted(added)[:1]:
                fit = _like(model, padded_after(module.fit, shape))
                block.upsample = nn.Sequential(module.upsample, *fit)
    return exchange_modules(model, back)
