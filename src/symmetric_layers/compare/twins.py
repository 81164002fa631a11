"""The networks of the rows: the plain one, and what the converters make of it."""

import json
from typing import Any

import torch
from torch import nn

from symmetric_layers.compare.data import Task
from symmetric_layers.compare.heads import check_paired, paired
from symmetric_layers.compare.models import OURS, equal_weights, example, plain
from symmetric_layers.torch import equivariant, symmetrize

_CONVOLUTIONS = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def build(task: Task, net: str, measure: bool = False) -> nn.Module:
    """The network of a row: `'plain'`, `'bank'`, `'twin'` or `'wide'`.

    Twins are measured once, before anything is trained (`measure=True`): the law is in the layers and not in their
    numbers, so that the same conversion, made again for another seed or for a checkpoint, obeys it as well.
    """
    if net == "plain":
        return plain(task)
    if net == "bank":
        return banked(task)
    wide = net == "wide"
    model = plain(task, equal_weights(task) if wide and task.model in OURS else None)
    width = "parameters" if wide and task.model not in OURS else 1
    how: dict[str, Any] = {"width": width, "measure": measure, "inplace": not measure}
    twin = equivariant(model, task.kind, example=example(task), **how)
    if not task.pairs:
        return twin
    twin = paired(twin, _last_convolution(twin, task), task.pairs, task.kind, len(task.classes))
    return check_paired(twin, example(task), task.pairs, task.kind) if measure else twin


def banked(task: Task) -> nn.Module:
    """The plain network with mirrored banks dropped into its layers, except where a mirror would be no other filter."""
    model = plain(task)
    last = _last_convolution(model, task) if task.maps else None

    def bears(name: str, layer: nn.Module) -> bool:
        return name != last and any(size > 1 for size in layer.kernel_size)  # type: ignore[union-attr]

    symmetry = json.loads(task.symmetry) if task.symmetry else {task.kind: "50%"}
    return symmetrize(model, symmetry, where=bears)


def _last_convolution(model: nn.Module, task: Task) -> str | None:
    """The layer whose channels are the classes: two of them with one filter could not be told apart."""
    order: list[str] = []
    hooks = [
        module.register_forward_hook(lambda *_, name=name: order.append(name))
        for name, module in model.named_modules()
        if isinstance(module, _CONVOLUTIONS)
    ]
    with torch.no_grad():
        model.eval()(example(task))
    model.train()
    for hook in hooks:
        hook.remove()
    return order[-1] if order else None
