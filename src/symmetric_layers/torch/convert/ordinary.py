"""The way back: ordinary layers with the full weights, for tools that know nothing else."""

from typing import Any

import torch
from torch import Tensor, nn

from symmetric_layers.errors import SymmetryError
from symmetric_layers.letters import LETTERS
from symmetric_layers.orbits import Plan
from symmetric_layers.torch.answers import call
from symmetric_layers.torch.convert.attention import OrbitMultiheadAttention, ordinary_attention
from symmetric_layers.torch.convert.banks import NORMS, arguments
from symmetric_layers.torch.convert.flat import FlatConv, as_linear
from symmetric_layers.torch.convert.grids import Axis, around_zeros, axis_of, dense, lettered, placed
from symmetric_layers.torch.convert.operators import is_lopsided_pad
from symmetric_layers.torch.convert.own import OwnConv, as_it_was
from symmetric_layers.torch.convert.padded import PADDED_BEFORE, SamePaddedConv2d
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
    copy_of,
    exchange_modules,
    inherit,
    is_ours,
    no_module,
    renew,
    tell_of_hooks,
)  # fmt: skip
from symmetric_layers.torch.invariant import OrbitLinear
from symmetric_layers.torch.kernels import spread
from symmetric_layers.torch.kernels.reference import both_sides
from symmetric_layers.torch.mirrored import Mirrored
from symmetric_layers.torch.pixels import OrbitPixelShuffle, OrbitPixelUnshuffle
from symmetric_layers.torch.pool import OrbitPool

Sizes = dict[int, set[tuple[int, ...]]]


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
    weights are written out in full, so trained further the model would lose its symmetry.

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
        SymmetryError: for a model without such layers, for mirrored grids without an example, and for what has no
            ordinary form at these sizes.

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
    for name, module in target.named_modules():
        made = _ordinary(name, module, sizes, numbers, sized)
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


def _ordinary(name: str, module: Any, sizes: Sizes | None, numbers: Numbers, sized: list[str]) -> nn.Module | None:
    """The ordinary form of one module, or None where it may stay."""
    if not is_ours(module):
        return None
    if isinstance(module, OwnConv):
        if module.is_strided:
            raise _formless(name, f"a {type(module.conv).__name__} with strides")
        return as_it_was(module, numbers)
    if isinstance(module, OrbitMultiheadAttention):
        return ordinary_attention(module, numbers)
    if isinstance(module, FlatConv):
        return as_linear(module, numbers)
    if isinstance(module, HOSTS):
        return _conv(name, module, sizes, numbers, sized)
    if isinstance(module, (OrbitLinear, SymmetricLinear)):
        return _linear(module, numbers)
    if isinstance(module, NORMS):
        return _norm(module, numbers)
    if isinstance(module, Mirrored) and not isinstance(module.operator, PadAfter):
        made = ordinary_operator(module, None)
        if made is None:
            shapes = _shapes(name, module, sizes)
            made = ordinary_operator(module, shapes)
            if not is_lopsided_pad(module.operator):
                sized.append(f"{name!r} ({_remainders(module.operator, shapes)})")
        return made
    if isinstance(module, (OrbitPixelShuffle, OrbitPixelUnshuffle)):
        return ordinary_pixels(module, _shapes(name, module, sizes, "a layer of pixels"))
    if isinstance(module, OrbitPool):
        return ordinary_orbit_pool(module, _shapes(name, module, sizes, "an OrbitPool"))
    if isinstance(module, UpCat) and module.is_pad:
        _shapes(name, module, sizes)
        sized.append(f"{name!r} (as much padding as there)")
    elif not isinstance(module, (Mirrored, PadAfter, UpCat)):
        raise _formless(name, f"a {type(module).__name__}")
    return None


def _formless(name: str, sort: str) -> SymmetryError:
    return SymmetryError(
        f"model: {name!r}, {sort}, has no ordinary form. Expected convolutions, norms, pools and linear layers. Take "
        "it out of the part that is converted."
    )


def _conv(name: str, layer: Any, sizes: Sizes | None, numbers: Numbers, sized: list[str]) -> nn.Module:
    host = next(host for host in HOSTS if isinstance(layer, host))
    padded = isinstance(layer, (SamePaddedConv2d, *PADDED_BEFORE))
    shared = getattr(layer, "grid", "mirrored") == "shared" and not padded
    axes = [] if shared else _geometry(name, layer, sizes)
    arranged: Plan | None = getattr(layer, "plan", None)
    with torch.no_grad():
        weight = layer.full_weight()
        bias = layer.full_bias() if arranged is not None else layer.bias
        kernel, dilation, padding = list(layer.kernel_size), list(layer.dilation), []
        for axis, found in enumerate(axes):
            padding.append(found.padding)
            if found.offsets != (0, 0):
                weight = dense(weight, axis, dilation[axis])
                weight = placed(weight, axis, found.offsets, arranged, LETTERS[len(axes) - 1 - axis], layer)
                kernel[axis], dilation[axis] = weight.shape[2 + axis], 1
            if isinstance(layer, PADDED_BEFORE) and layer.padded[axis] != (0, 0):  # zeros that the input goes on having
                weight = dense(weight, axis, dilation[axis])
                weight, padding[-1] = around_zeros(weight, axis, padding[-1], layer.padded[axis], layer.stride[axis])
                kernel[axis], dilation[axis] = weight.shape[2 + axis], 1
    if any(not found.lasting for found in axes):
        sized.append(f"{name!r} ({_remainders(layer, _shapes(name, layer, sizes))})")
    given = arguments(layer)
    if axes:
        given.update(kernel_size=tuple(kernel), dilation=tuple(dilation), padding=tuple(padding))
    if axes and layer.transposed:
        more = zip(axes, layer.output_padding, strict=True)
        given["output_padding"] = tuple(0 if found.offsets != (0, 0) else size for found, size in more)
    new = host(**given)
    numbers.put(new, "weight", layer.weight, weight)
    numbers.put(new, "bias", layer.bias, bias)
    inherit(layer, new)
    for extra in ("plan", "share_bias", "grid", "invariance", "padded"):
        vars(new).pop(extra, None)
    return new


def _geometry(name: str, layer: Any, sizes: Sizes | None) -> list[Axis]:
    """Where the grids of a layer lie, along every axis."""
    rank = len(layer.kernel_size)
    if layer.transposed:
        letters = lettered(layer)
        return [
            Axis(int(p), (0, more if LETTERS[rank - 1 - axis] in letters else 0), True)
            for axis, (p, more) in enumerate(zip(layer.padding, layer.output_padding, strict=True))
        ]
    padded = isinstance(layer, (SamePaddedConv2d, *PADDED_BEFORE))
    around = layer.padded if isinstance(layer, PADDED_BEFORE) else ((0, 0),) * rank
    pads = None if padded else both_sides(layer.padding, layer.kernel_size, layer.dilation)
    unsized = pads is not None and all(stride == 1 for stride in layer.stride)
    shapes = {(0,) * rank} if unsized else _shapes(name, layer, sizes)
    found: list[list[Axis]] = []
    for shape in shapes:
        size = [n - low - high for n, (low, high) in zip(shape[-rank:], around, strict=True)]
        here = layer.pads(size) if pads is None else pads
        geometry = zip(size, here, layer.kernel_size, layer.stride, layer.dilation, strict=True)
        rests = [0 if unsized else (n + b + a - d * (k - 1) - 1) % s for n, (b, a), k, s, d in geometry]
        letters = lettered(layer)
        row = [
            axis_of(before, after, rest, LETTERS[rank - 1 - axis] in letters, unsized)
            for axis, ((before, after), rest) in enumerate(zip(here, rests, strict=True))
        ]
        if row not in found:
            found.append(row)
    if len(found) > 1:
        raise SymmetryError(
            f"example: {name!r} sees pictures of sizes that leave different remainders. Expected one ordinary "
            "convolution for all of them. Use an example of another size."
        )
    return found[0]


def _remainders(layer: Any, shapes: set[tuple[int, ...]]) -> str:
    """What the sizes of the pictures that a layer sees leave over of its stride, along every axis."""
    shape = min(shapes)
    rank = len(shape) - 2
    stride: Any = getattr(layer, "stride", None) or getattr(layer, "kernel_size", 1)
    strides = list(stride) if isinstance(stride, (tuple, list)) else [stride] * rank
    texts = [f"{n % s} modulo {s}" for n, s in zip(shape[2:], strides, strict=True)]
    return texts[0] if len(set(texts)) == 1 else ", ".join(texts)


def _shapes(
    name: str, module: nn.Module, sizes: Sizes | None, what: str = "which has a mirrored grid"
) -> set[tuple[int, ...]]:
    if sizes is None:
        raise SymmetryError(
            f"example: None does not say for which sizes {name!r}, {what}, is to be written out. "
            "Expected an input of the model. Pass one of the size that the result is for."
        )
    if id(module) not in sizes:
        raise SymmetryError(
            f"example: {name!r}, {what}, was not reached by it. Expected an input that reaches all "
            "layers. Pass another one, or take the layer out of the model."
        )
    return sizes[id(module)]


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
    for name, old in layer._parameters.items():
        new.register_parameter(name, None)
        if old is not None:
            numbers.put(new, name, old, _full(old, layer.plan))
    for name, buffer in layer._buffers.items():
        full = buffer if buffer is None or not buffer.dim() else _full(buffer, layer.plan).detach().clone()
        new.register_buffer(name, full, name not in layer._non_persistent_buffers_set)
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
            vars(block).pop("host", None)
            block.is_pad, block.convs, block.upsample = module.is_pad, module.convs, module.upsample
            added = (sizes or {}).get(id(module.fit), set())
            for shape in sorted(added)[:1]:
                fit = _like(model, padded_after(module.fit, shape))
                block.upsample = nn.Sequential(module.upsample, *fit)
    return exchange_modules(model, back)
