"""What a converted network needs beside layers: linear layers between orbits, shared parameters, blocks."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx import Proxy

from symmetric_layers.letters import LETTERS
from symmetric_layers.orbits import Plan, plan
from symmetric_layers.torch.kernels import expand_bias, expand_weight, spread
from symmetric_layers.torch.leaves import noted
from symmetric_layers.torch.mirrored import Mirrored


class SymmetricLinear(nn.Linear):
    """A linear layer whose features are orbits: a 1x1 `SymmetricConv` for features that stand last, or alone.

    Equivalent to: an `nn.Linear` with the full weight of `SymmetricConv3d(in_features, out_features, 1, ...)`.

    Law: exchanging the input features with their mirrors exchanges the output features.

    Args:
        in_features, out_features, bias, device, dtype: as in the host.
        symmetry: how many features belong to each kind.
        in_symmetry: how the input features are arranged; None: plain numbers, which know no mirror.

    Attributes:
        weight: the stored rows, `(plan.stored, in_features)`; `bias`: one per orbit.
    """

    plan: Plan | None = None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        symmetry: Any = None,
        in_symmetry: Any = None,
    ) -> None:
        arranged = plan(symmetry, out_features, len(LETTERS), 1, in_symmetry, in_features)
        super().__init__(in_features, out_features, bias, device, dtype)
        self.plan = arranged
        self.weight = nn.Parameter(self.weight.detach()[: arranged.stored].clone())
        if self.bias is not None:
            self.bias = nn.Parameter(self.bias.detach()[: arranged.stored].clone())

    def full_weight(self) -> Tensor:
        """One row per feature: what the host's layer would hold as its `weight`."""
        return self.expanded(self.weight)

    def expanded(self, stored: Tensor) -> Tensor:
        """The same of other rows that are stored like its own."""
        return stored if self.plan is None else rows(stored, self.plan)

    def full_bias(self) -> Tensor | None:
        """One bias per feature."""
        return self.bias if self.plan is None else expand_bias(self.bias, self.plan, True)

    def forward(self, input: Tensor) -> Tensor:
        """Weighs `(..., in_features)`."""
        return F.linear(input, self.full_weight(), self.full_bias())


def rows(stored: Tensor, arranged: Plan) -> Tensor:
    """All rows of a linear layer, from those that are stored."""
    return expand_weight(stored[(...,) + (None,) * arranged.ndim], arranged).flatten(1)


class Spread:
    """Hooks that show a module one number per channel where it stores one per orbit.

    While its `forward` runs, the module finds the full parameter (or buffer) under its name; at all other times, and in
    every checkpoint, the name means what is stored. What a `forward` gathers in a buffer while it trains is kept as the
    mean over every orbit. No class is made up, so that pickling and copying work.
    """

    def __init__(self, name: str, arranged: Plan, dim: int) -> None:
        self.name, self.plan, self.dim = name, arranged, dim

    def full(self, module: nn.Module) -> Tensor:
        """The parameter or buffer with one entry per channel."""
        return self.full_of(self.stored(module))

    def full_of(self, stored: Tensor) -> Tensor:
        """The same of numbers that are stored like it."""
        return self._written_out(stored, self.dim - stored.dim())

    def _written_out(self, stored: Tensor, dim: int) -> Tensor:
        return spread(stored, self.plan, dim)

    def stored(self, module: nn.Module) -> Tensor:
        """The same as it is stored."""
        stored = module._parameters.get(self.name, module._buffers.get(self.name))
        if stored is None:
            raise AttributeError(f"{type(module).__name__} has lost its {self.name!r}")
        return stored

    def before(self, module: nn.Module, args: Any) -> None:
        """Shows the full parameter."""
        given = next((one for one in args if isinstance(one, Proxy)), None)
        vars(module)[self.name] = self.full(module) if given is None else self._traced(module, given)

    def _traced(self, module: nn.Module, given: Proxy) -> Any:
        """What stands for it while torch.fx traces."""
        tracer: Any = given.tracer
        place = f"{tracer.path_of_module(module)}.{self.name}"
        return self._written_out(tracer.create_proxy("get_attr", place, (), {}), self.dim - self.stored(module).dim())

    def after(self, module: nn.Module, args: Any, answer: Any) -> None:
        """Hides it again."""
        full = vars(module).pop(self.name, None)
        if full is not None and module.training and self.name in module._buffers:
            with torch.no_grad():
                stored = self.stored(module)
                stored.copy_(full.unflatten(self.dim, (stored.shape[self.dim], -1)).mean(self.dim + 1))

    def install(self, module: nn.Module) -> None:
        """Puts the hooks in place."""
        module.register_forward_pre_hook(self.before, prepend=True)
        module.register_forward_hook(self.after, always_call=True)

    def remove(self, module: nn.Module) -> None:
        """Takes the hooks away."""
        for hooks in (module._forward_pre_hooks, module._forward_hooks):
            for key in [key for key, hook in hooks.items() if getattr(hook, "__self__", None) is self]:
                del hooks[key]
                module._forward_hooks_always_called.pop(key, None)


def spreads_of(module: nn.Module) -> list[Spread]:
    """The shared parameters of a module."""
    owners = [getattr(hook, "__self__", None) for hook in module._forward_pre_hooks.values()]
    return [owner for owner in owners if isinstance(owner, Spread)]


class PadAfter(nn.Module):
    """Repeats the last row or column of a picture where another one has more."""

    def forward(self, x: Tensor, like: Tensor) -> Any:
        """Pads x by at most one along every axis where `like` is larger."""
        if isinstance(x, Proxy):
            return noted(self, x, (like,))
        rank = x.dim() - 2
        sides = [side for axis in range(1, rank + 1) for side in (0, int(like.shape[-axis] != x.shape[-axis]))]
        return F.pad(x, sides, "replicate")


class UpCat(nn.Module):
    """MONAI's `UpCat` (upsampling, concatenation with what the encoder saw, convolutions) for orbits, at odd sizes too.

    Args:
        old: the block that it replaces; its parts become this one's.
        symmetry: how the channels that are padded are arranged.
    """

    def __init__(self, old: Any, symmetry: Any) -> None:
        super().__init__()
        self.host = type(old)
        self.upsample, self.convs, self.is_pad = old.upsample, old.convs, old.is_pad
        self.fit = Mirrored(PadAfter(), symmetry)

    def forward(self, x: Tensor, x_e: Tensor | None) -> Any:
        """Upsamples x, and joins it with `x_e` where there is one."""
        if isinstance(x, Proxy):
            return noted(self, x, (x_e,))
        upsampled = self.upsample(x)
        if x_e is None:
            return self.convs(upsampled)
        if self.is_pad and upsampled.shape[2:] != x_e.shape[2:]:
            upsampled = self.fit(upsampled, x_e)
        return self.convs(torch.cat([x_e, upsampled], dim=1))
