"""Statistics of a batch in which every orbit of channels is one channel that is seen several times.

The members of an orbit are laid side by side as further positions. Where channels lie last that would move every pixel;
there the statistics of single channels are joined instead, and the host normalises with what they have in common.
Compilers that leave sizes open are given the sums and products themselves.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from symmetric_layers.orbits import Block, Plan
from symmetric_layers.torch.kernels.channels import cut, join, per_block, spread
from symmetric_layers.torch.kernels.geometry import CHANNELS_LAST, are_channels_last
from symmetric_layers.torch.kernels.grid import is_open
from symmetric_layers.torch.kernels.slowly import differentiated, wants_the_host
from symmetric_layers.torch.kernels.trio import are_plain

_Known = Mapping[str, Tensor]  # of `weight`, `bias`, `running_mean` and `running_var`, those that there are


def per_orbit(x: Tensor, plan: Plan, move: Callable[[Tensor, slice], Tensor]) -> Tensor:
    """Moves the orbits of every kind, `(N, orbits, members and positions)`, and puts them back.

    Args:
        x: `(N, C, *positions)`.
        plan: of the channels.
        move: is told where the entries of these orbits are stored, too.
    """

    def moved(channels: Tensor, block: Block) -> Tensor:
        orbits = channels.reshape(channels.shape[0], block.orbits, -1)
        return move(orbits, slice(block.representative, block.representative + block.orbits)).reshape(channels.shape)

    return per_block(x, plan, 1, moved)


def per_channel(plan: Plan, *stored: Tensor | None) -> list[Any]:
    """What is stored once per orbit, for every channel; None for None."""
    return [None if values is None else spread(values, plan) for values in stored]


def is_plain(given: Sequence[Tensor]) -> bool:
    """Whether these are numbers of one precision in the memory of the host, and nothing looks on."""
    return are_plain(given, (torch.float32, torch.float64))


def is_left_open(x: Tensor) -> bool:
    """Whether a program is compiled for pictures of any size.

    Compilers do not sort the strides of a view of such pictures, and give up where one is kept for the gradients.
    """
    if not torch.compiler.is_compiling() or torch.compiler.is_exporting() or torch.jit.is_tracing():
        return False
    return any(is_open(size) for size in x.shape[2:])


def normalise_open(x: Tensor, plan: Plan, known: _Known, rate: float, eps: float) -> Tensor:
    """The same as `normalise`, of pictures of any size, in operations that compilers join; nothing they keep is a view.

    Args:
        x, plan, known, rate, eps: as in `normalise`.
    """
    wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    runs = cut(wide, [block.filters for block in plan.blocks], 1)
    orbits = [run.reshape(x.shape[0], block.orbits, -1) for run, block in zip(runs, plan.blocks, strict=True)]
    found = [torch.var_mean(run, (0, 2), correction=0) for run in orbits]
    variances, means = (join([pair[place] for pair in found], 0) for place in (0, 1))
    if "running_mean" in known:
        _remember(known, means.detach(), variances.detach(), orbits, rate)
    shape: Any = (-1, *[1] * (x.dim() - 2))
    mean, scale, *affine = per_channel(plan, means, (variances + eps).rsqrt(), known.get("weight"), known.get("bias"))
    weight, bias = [None if values is None else values.view(shape) for values in affine]
    normal = (wide - mean.view(shape)) * scale.view(shape)
    normal = normal if weight is None else normal * weight
    return (normal if bias is None else normal + bias).to(x.dtype)


def _remember(known: _Known, means: Tensor, variances: Tensor, orbits: Sequence[Tensor], rate: float) -> None:
    """Keeps a share of the statistics of these runs of orbits."""
    with torch.no_grad():
        counts = [run.shape[0] * run.shape[2] for run in orbits]
        unbiased = [
            run * (count / (count - 1))
            for run, count in zip(cut(variances, [run.shape[1] for run in orbits], 0), counts, strict=True)
        ]
        for name, values in (("running_mean", means), ("running_var", join(unbiased, 0))):
            known[name].lerp_(values.to(known[name].dtype), rate)


def may_stay(x: Tensor, known: _Known) -> bool:
    """Whether `normalise` takes such pictures: plain ones of more than one pixel, whose channels lie last."""
    if not is_plain((x, *known.values())):  # first: compilers would guard the rest
        return False
    last = are_channels_last(x.shape, x.stride()) and x.is_contiguous(memory_format=CHANNELS_LAST[x.dim()])
    return last and x.numel() > x.shape[1]


def way_for(x: Tensor, known: _Known) -> Callable[..., Tensor] | None:
    """What normalises such pictures otherwise than by moving orbits; None where these are moved."""
    if may_stay(x, known):
        return normalise
    return normalise_open if is_left_open(x) else None


class _Arranged(NamedTuple):
    """How a plan's channels are arranged, as tensors.

    Attributes:
        stored: the entry of every channel; `twice`: the same for two rows of entries, one behind the other.
        sizes: how many members every entry has, `(stored,)`.
    """

    stored: Tensor
    twice: Tensor
    sizes: Tensor


@lru_cache(maxsize=256)
def _arranged(plan: Plan) -> _Arranged:
    with torch.inference_mode(False):
        stored = torch.tensor(plan.representative, device="cpu")
        sizes = stored.bincount(minlength=plan.stored)
        return _Arranged(stored, torch.cat([stored, stored + plan.stored]), sizes)


def at_once(plan: Plan, *stored: Tensor | None) -> list[Any]:
    """`per_channel` for plain numbers, in few operations: each takes longer than what it does."""
    given = [values for values in stored if values is not None]
    found = iter(torch.stack(given).index_select(1, _arranged(plan).stored).unbind() if given else ())
    return [None if values is None else next(found) for values in stored]


def _orbit_sums(plan: Plan, first: Tensor, second: Tensor) -> Tensor:
    """The sums over the members of all orbits, `(C,)` twice to `(2, stored)`."""
    sums = first.new_zeros(2 * plan.stored)
    return sums.index_add_(0, _arranged(plan).twice, torch.cat([first, second])).view(2, -1)


def normalise(x: Tensor, plan: Plan, known: _Known, rate: float, eps: float) -> Tensor:
    """Normalises pictures that may stay, with the batch's statistics, and remembers those in `known`.

    Args:
        x: `(N, C, *positions)`.
        plan: of the channels.
        known: affine terms and running statistics, one entry per orbit and free channel.
        rate: how much of the running statistics is new.
        eps: is added to variances.
    """
    with torch.no_grad():
        places, pixels = _arranged(plan), x.numel() // x.shape[1]
        mean, var = torch.batch_norm_update_stats(x, None, None, 0.0)
        means, inside = (_orbit_sums(plan, mean, var) / places.sizes).unbind()
        beside = mean - means.index_select(0, places.stored)
        between = torch.zeros_like(means).index_add_(0, places.stored, beside.square_())
        variances = inside + between / places.sizes
        if "running_mean" in known:
            counts = (places.sizes * pixels).to(x.dtype)
            known["running_mean"].lerp_(means, rate)
            known["running_var"].lerp_(variances * (counts / (counts - 1)), rate)
    return _Normalised.apply(x, known.get("weight"), known.get("bias"), means, variances, plan, eps)


class _Normalised(torch.autograd.Function):
    """Normalises with statistics of the input, which the gradient goes through."""

    @staticmethod
    def forward(ctx: Any, x, weight, bias, means, variances, plan: Plan, eps: float) -> Tensor:
        """Normalises x with the means and variances of its orbits."""
        mean, var, scale, shift = at_once(plan, means, variances, weight, bias)
        ctx.save_for_backward(x, weight, mean, var, scale)
        ctx.plan, ctx.eps = plan, eps
        return F.batch_norm(x, mean, var, scale, shift, False, 0.0, eps)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        """The gradients of x, weight and bias."""
        x, weight, mean, var, scale = ctx.saved_tensors
        needed = ctx.needs_input_grad[:3]
        if wants_the_host(x, gradient):
            bias = x.new_zeros(ctx.plan.stored)  # no gradient depends on it
            found = differentiated(partial(_moved, ctx.plan, ctx.eps), (x, weight, bias), needed, gradient)
        else:
            found = _gradients(gradient, x, mean, var, scale, ctx.plan, ctx.eps)
        return (*(one if asked else None for one, asked in zip(found, needed, strict=True)), *[None] * 4)


def _moved(plan: Plan, eps: float, x: Tensor, weight: Tensor | None, bias: Tensor) -> Tensor:
    """The same in operations that the host differentiates again."""

    def normal(orbits: Tensor, here: slice) -> Tensor:
        scale = None if weight is None else weight[here]
        return F.batch_norm(orbits, None, None, scale, bias[here], True, 0.0, eps)

    return per_orbit(x, plan, normal)


def _gradients(gradient, x, mean, var, scale, plan: Plan, eps: float) -> list[Tensor | None]:
    """Of the input, the weight and the bias: the gradient less what goes through mean and variance.

    The latter is a line in x for every channel, so that two passes over the pixels are enough.
    """
    gradient = gradient.contiguous(memory_format=CHANNELS_LAST[x.dim()])
    told: Any = (gradient, x, None, mean, var, None, None, False, eps, [False, True, True])
    _, slopes, shifts = torch.ops.aten.native_batch_norm_backward(*told)
    sums = _orbit_sums(plan, slopes, shifts)
    places, pixels, shape = _arranged(plan), x.numel() // x.shape[1], (-1, *[1] * (x.dim() - 2))
    slope, shift = (sums / (places.sizes * -pixels)).index_select(1, places.stored).unbind()
    spreads = (var + eps).rsqrt_()
    scale = spreads if scale is None else spreads * scale
    line = slope.mul_(spreads).mul_(scale)
    start = shift.mul_(scale).addcmul_(line, mean, value=-1)
    found = torch.addcmul(start.view(shape), x, line.view(shape), out=torch.empty_like(x))
    return [found.addcmul_(gradient, scale.view(shape)), *(one.clone() for one in sums)]
