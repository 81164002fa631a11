"""The last layer of a twin whose classes have sides: in a mirror, the left one of a pair is the right one."""

from typing import Any

import torch
from torch import Tensor, nn

from symmetric_layers import SymmetryError
from symmetric_layers.compare.labels import Pairs, answers_seen
from symmetric_layers.letters import axes
from symmetric_layers.torch.answers import call_alike, difference, undisturbed
from symmetric_layers.torch.convert.banks import arguments
from symmetric_layers.torch.convert.measure import ALLOWED, random_input, randomised

_HOSTS = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)


class PairedHead(nn.Module):
    """Gives maps of classes, of which those of a pair are each other's mirror image along `h`.

    Equivalent to: `one(x)` for the first classes of the pairs, `one` of the mirrored `x`, mirrored back, for the
    second ones, and the invariant convolution that stood here for all other classes.

    Law: `head(mirrored(x)) == mirrored(head(x))`, classes of pairs exchanged along `h`, at every size.
    """

    other: Tensor
    order: Tensor

    def __init__(self, conv: Any, pairs: Pairs, kind: str) -> None:
        super().__init__()
        inputs = conv.invariance.inputs
        left, right = ([pair[side] for pair in pairs] for side in (0, 1))
        rest = [place for place in range(conv.out_channels) if place not in (*left, *right)]
        self.one = _alike(conv, len(pairs), kind.replace("h", ""))
        self.alone = _alike(conv, len(rest), kind) if rest else None
        order = torch.tensor([*left, *right, *rest]).argsort()
        self.register_buffer("other", torch.tensor(inputs.exchange("h")), persistent=False)
        self.register_buffer("order", order, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """`(N, channels, *positions)` to `(N, classes, *positions)`."""
        flip = axes("h")
        answers = [self.one(x), self.one(x.index_select(1, self.other).flip(flip)).flip(flip)]
        answers += [] if self.alone is None else [self.alone(x)]
        return torch.cat(answers, 1).index_select(1, self.order)


def _alike(conv: Any, classes: int, letters: str) -> nn.Module:
    """A convolution with the arguments of the last one, for other classes, invariant along these letters."""
    how = {**arguments(conv), "out_channels": classes, "device": conv.weight.device}
    if letters:
        made: nn.Module = type(conv)(**how, in_symmetry=conv.invariance.inputs.counts or None, axes=letters)
        return made
    return next(host for host in _HOSTS if isinstance(conv, host))(**how)


def paired(net: nn.Module, last: str | None, pairs: Pairs, kind: str, classes: int) -> nn.Module:
    """The twin with its last convolution exchanged for a head that knows the pairs."""
    conv: Any = net.get_submodule(last) if last is not None else None
    if getattr(conv, "invariance", None) is None or conv.groups != 1 or conv.out_channels != classes:
        raise _refusal("its last convolution does not give the classes")
    net.set_submodule(str(last), PairedHead(conv, pairs, kind))
    return net


def check_paired(net: nn.Module, picture: Tensor, pairs: Pairs, kind: str) -> nn.Module:
    """The same network; refused unless it obeys the law, in double precision, with random numbers everywhere."""
    model = randomised(net)
    for training in (False, True):
        error = law_error(model.train(training), random_input(model, picture, training), pairs, kind)
        if error > ALLOWED:
            raise _refusal("classes of a pair are not exchanged where their last convolution is")
    return net


def law_error(model: nn.Module, x: Tensor, pairs: Pairs, kind: str) -> float:
    """How far the answers are from mirroring with the picture, relative to the largest, along the worst letter."""
    with undisturbed(model):
        straight = call_alike(model, x)
        seen = [(letter, call_alike(model, x.flip(axes(letter)))) for letter in kind]
    return max(difference(answers_seen(straight, letter, pairs), answer)[1] for letter, answer in seen)


def _refusal(reason: str) -> SymmetryError:
    return SymmetryError(
        f"model: left and right labels cannot be exchanged in its twin, because {reason}. Expected a network that ends "
        "in one convolution to the classes. Use one."
    )
