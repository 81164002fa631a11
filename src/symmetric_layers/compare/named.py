"""Networks by name: MONAI's, and those of a function that anybody wrote."""

import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import torch
from torch import nn

from symmetric_layers import SymmetryError

# what MONAI leaves to be said, for pictures of moderate size
_USUAL: dict[str, dict[str, Any]] = {
    "BasicUNet": {"features": (16, 16, 32, 32, 64, 16)},
    "DynUNet": {
        "kernel_size": [3, 3, 3],
        "strides": [1, 2, 2],
        "upsample_kernel_size": [2, 2],
        "filters": [16, 32, 64],
    },
    "UNet": {"channels": (16, 32, 64), "strides": (2, 2)},
}


def named(model: str, arguments: Mapping[str, Any], shape: tuple[int, ...], classes: int) -> nn.Module:
    """The network that a name and its arguments stand for, for pictures of this shape and so many classes."""
    maker = found(model)
    known = {"spatial_dims": len(shape) - 1, "in_channels": shape[0], "out_channels": classes, "num_classes": classes}
    takes = inspect.signature(maker).parameters
    usual = _USUAL.get(model.removeprefix("monai:"), {}) if model.startswith("monai:") else {}
    given = {**{name: value for name, value in known.items() if name in takes}, **usual, **arguments}
    try:
        net = maker(**given)
    except Exception as error:  # whatever the maker finds wrong
        raise SymmetryError(
            f"--model: {model!r} cannot be made ({_first_line(error)}). Expected a network from "
            f"{', '.join(sorted(given)) or 'no arguments'}. Give what it needs with --model-args."
        ) from error
    if not isinstance(net, nn.Module):
        raise SymmetryError(
            f"--model: {model!r} makes a {type(net).__name__}. Expected an nn.Module. Name a function that returns one."
        )
    return net


def found(model: str) -> Callable[..., Any]:
    """The class or function behind `'monai:NAME'` or `'package.module:function'`."""
    module, _, name = model.partition(":")
    where = "monai.networks.nets" if module == "monai" else module
    try:
        maker: Callable[..., Any] = getattr(import_module(where), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise SymmetryError(
            f"--model: {model!r} is not to be found ({_first_line(error)}). Expected 'small', 'unet', 'monai:NAME' or "
            "'package.module:function'. Name one that can be imported."
        ) from None
    return maker


def check_answer(model: str, net: nn.Module, example: torch.Tensor, classes: int, maps: bool) -> None:
    """Refuses a network whose answers are no classes of these pictures."""
    expected = (len(example), classes, *(example.shape[2:] if maps else ()))
    try:
        with torch.no_grad():
            net.train()(example)
            answer = net.eval()(example)
    except Exception as error:  # whatever the network finds wrong
        raise SymmetryError(
            f"--model: {model!r} does not take pictures of {tuple(example.shape)} ({_first_line(error)}). Expected a "
            "network that does. Try another --size, or other --model-args."
        ) from error
    shape = tuple(answer.shape) if isinstance(answer, torch.Tensor) else type(answer).__name__
    if shape != expected:
        raise SymmetryError(
            f"--model: {model!r} answers {shape} to pictures of {tuple(example.shape)}. Expected {expected}. Give "
            "--model-args that make it so."
        )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
