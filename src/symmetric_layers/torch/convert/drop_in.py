"""The drop-in use on a whole model: mirrored filter banks in every convolution, nothing else changes."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from symmetric_layers.counts import readable
from symmetric_layers.errors import SymmetryError, one_of
from symmetric_layers.letters import LETTERS
from symmetric_layers.start import Start
from symmetric_layers.torch.convert.banks import symmetric_conv, symmetric_form
from symmetric_layers.torch.convert.near import bring_near
from symmetric_layers.torch.convert.surgery import (
    HOSTS,
    Numbers,
    Report,
    copy_of,
    exchange_modules,
    host_of,
    no_module,
    renew,
    tell_of_hooks,
    unreadable,
)  # fmt: skip


def symmetrize(
    model: nn.Module,
    symmetry: Mapping[str, int | str],
    *,
    where: Callable[[str, nn.Module], bool] | None = None,
    init: str = "own",
    example: Any = None,
    inplace: bool = False,
    optimizer: Any = None,
    report: Report = None,
) -> nn.Module:
    """Gives every convolution of a model mirrored filter banks; nothing else changes.

    Half, a quarter or an eighth of the weights are left, and features come in mirror images. The network as a whole
    does not obey the law, its layers do: `equivariant` is for that.

    Equivalent to: writing `SymmetricConv2d(..., symmetry=symmetry)` for every `nn.Conv2d(...)`, likewise in 1-D, 3-D
    and transposed. Each orbit starts from the filter and the bias that stood where its representative stands.

    Args:
        model: a network with ordinary convolutions. It stays as it is, unless `inplace`.
        symmetry: how many filters of every layer belong to each kind; percentages fit all layers, and a layer too
            small for a whole orbit keeps its filters free.
        where: which convolutions, by name and module: `lambda name, conv: conv.kernel_size != (1, 1)`. None: all.
        init: `'own'`: each orbit starts from what stood where its representative stands. `'nearest'`: as much of a
            trained model is kept as mirrored banks can hold. Filters that are nearly mirrors of each other become an
            orbit, which starts from their mean; those that fit worst stay free. Filters change places for that, and
            so do the channels of all layers that read them; where channels meet those of other layers (additions,
            concatenations), filters stay where they are. `report` is told how much of every bank is kept.
        example: an input of the model, which `init='nearest'` follows to see which layers read which channels.
        inplace: changes the model itself (its root can only be exchanged in what is returned).
        optimizer: gets the new parameters for the old ones of the same names.
        report: is called with a sentence for whatever is worth knowing, as with `report=print`.

    Returns:
        The model with symmetric layers, in the same mode, on the same device.

    Raises:
        SymmetryError: for a symmetry that does not fit a layer, for a layer that cannot be read, and where no layer
            is left to convert. Nothing is changed then.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 4, 1))
        >>> symmetrize(model, {'hv': '50%'})[0].weight.shape
        torch.Size([10, 1, 3, 3])
    """
    no_module(model)
    readable(symmetry, len(LETTERS))
    one_of("init", init, ("own", "nearest"))
    target = model if inplace else copy_of(model)
    before = dict(model.named_parameters(remove_duplicate=False))
    new = _made(target, symmetry, where)
    if init == "nearest":
        for name, kept, moved in bring_near(target, {name: made.plan for name, (_, made) in new.items()}, example):
            place = "" if moved else ", with its filters where they were"
            if report is not None:
                report(f"{name!r}: {kept:.1%} of its filters' squares are kept{place}.")
        new = _made(target, symmetry, where)
    result = exchange_modules(target, {id(old): made for old, made in new.values()})
    renew(optimizer, before, result)
    tell_of_hooks(result, {id(made): name for name, (_, made) in new.items()}, report)
    return result


def _made(model: nn.Module, symmetry: Mapping[str, int | str], where: Any) -> dict[str, tuple[Any, Any]]:
    """By name: the convolutions that are converted, and what they become."""
    numbers = Numbers()
    new: dict[str, tuple[Any, Any]] = {}
    for name, module in model.named_modules():
        if not isinstance(module, HOSTS) or hasattr(module, "plan") or hasattr(module, "invariance"):
            continue
        if where is not None and not where(name, module):
            continue
        host = host_of(module)
        error = unreadable(name, module) or (_strange(name, module) if host is None else None)
        if error is not None or host is None:
            raise error or _strange(name, module)
        try:
            with warnings.catch_warnings():  # a layer that is too small for a percentage keeps its filters free
                warnings.filterwarnings("ignore", message=".*leaves no whole orbit", category=UserWarning)
                build = symmetric_form(host)
                new[name] = (module, symmetric_conv(module, build, symmetry, None, "shared", numbers, Start()))
        except SymmetryError as refusal:
            raise SymmetryError(f"model: {name!r} cannot have this symmetry. {refusal}") from None
    if not new:
        raise SymmetryError(
            "model: no ordinary convolution is left in it. Expected nn.Conv1d, 2d, 3d or transposed ones. "
            "Pass a model that has some, or a wider where."
        )
    return new


def _strange(name: str, module: nn.Module) -> SymmetryError:
    return SymmetryError(
        f"model: {name!r} is a {type(module).__name__}, which computes something of its own. Expected a convolution "
        "of torch.nn. Leave it out with where."
    )
