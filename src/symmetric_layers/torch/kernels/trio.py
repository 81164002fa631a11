"""A fused kernel as operators that PyTorch's compiler, exporter and autograd know.

Answer, gradient of the input and gradient of the weight are the three derivatives of one form that is linear in the
picture, the weight and the gradient. So each one's derivatives are the two others, to any order.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad

from symmetric_layers.torch.kernels import flops
from symmetric_layers.torch.kernels.bank import pairs, sizes
from symmetric_layers.torch.kernels.geometry import Geometry, empty_like

# what every operator is given, and what it gives
_FORM = {
    "answer": ("picture", "weight", "gradient"),
    "input_gradient": ("gradient", "weight", "picture"),
    "weight_gradient": ("gradient", "picture", "weight"),
}


class Trio(NamedTuple):
    """The operators of one kernel.

    All end with `bank, inputs, stride, padding, dilation`: the blocks of filters and of input channels in whole
    numbers, then one number per axis. Each calls its function at once where nothing looks on, and has the operator that
    compilers, tracers and profilers see as its attribute `op`.

    Attributes:
        answer: `(x, weight, bias, ...)`: the convolution with the whole bank; one bias per stored filter, or None.
        input_gradient: `(gradient, weight, sizes, ...)`: of the answer, for an input whose positions are `sizes`.
        weight_gradient: `(gradient, x, kernel_size, ...)`: of the answer, for the stored filters.
    """

    answer: Any
    input_gradient: Any
    weight_gradient: Any


def register(
    prefix: str,
    answer: Callable[..., Tensor],
    input_gradient: Callable[..., Tensor],
    weight_gradient: Callable[..., Tensor],
    device_types: str | Sequence[str] | None,
    fakes: Sequence[Callable[..., Tensor]] | None = None,
    kernel: flops.Kernel = flops.as_stored,
) -> Trio:
    """Makes operators of three functions, named by the prefix: what they give without data, and how to differentiate.

    Args:
        prefix: of the operators' names, `"symmetric_layers::..."`.
        answer, input_gradient, weight_gradient: with the arguments of a `Trio`'s operators, annotated.
        device_types: those of the tensors that the functions take; None for any.
        fakes: the same without data, where weights are not those that a bank stores.
        kernel: how many numbers filters have where they are multiplied, as `flops.tell` is told.
    """
    calls: dict[str, Any] = {}
    given = (answer, input_gradient, weight_gradient)
    for (name, operands), function, fake in zip(_FORM.items(), given, fakes or _FAKES, strict=True):
        operator = torch.library.custom_op(f"{prefix}{name}", function, mutates_args=(), device_types=device_types)
        operator.register_fake(fake)
        operator.register_vmap(_one_by_one(operator))
        backward = _with_bias(calls, operands) if name == "answer" else _backward(calls, operands)
        operator.register_autograd(backward, setup_context=_keep)
        flops.tell(f"{prefix}{name}", name, kernel, is_folded=fakes is None)
        calls[name] = _call(operator, function, backward)
    return Trio(**calls)


def _one_by_one(operator: Any) -> Callable[..., tuple[Tensor, int]]:
    """How `vmap` asks, for gradients of many answers at once: one after the other."""

    def ask(info: Any, dims: tuple, *given: Any) -> tuple[Tensor, int]:
        axes = [dim if isinstance(dim, int) else None for dim in dims]
        turns = [
            [one if dim is None else one.select(dim, turn) for one, dim in zip(given, axes, strict=True)]
            for turn in range(info.batch_size)
        ]
        return torch.stack([operator(*turn) for turn in turns]), 0

    return ask


def _call(operator: Any, function: Callable[..., Tensor], backward: Callable[..., tuple]) -> Any:
    """The function itself where nothing looks on: calling an operator takes as long as a small convolution."""

    def forward(ctx: Any, *given: Any) -> Tensor:
        _keep(ctx, given, None)
        return function(*given)

    how = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
    differentiable: Any = type(function.__name__, (torch.autograd.Function,), how)

    def call(*given: Any) -> Tensor:
        tensors = [one for one in given[:3] if isinstance(one, Tensor)]
        if is_watched(tensors):
            return operator(*given)
        if torch.is_grad_enabled() and any(one.requires_grad for one in tensors):
            return differentiable.apply(*given)
        return function(*given)

    call.op = operator  # type: ignore[attr-defined]
    return call


# asked before every small convolution: what is compiled, and no function of Python in between
_is_traced = getattr(torch._C, "_is_tracing", torch.jit.is_tracing)
_modes = getattr(torch._C, "_len_torch_dispatch_stack", lambda: 1)
_function_modes = getattr(torch._C, "_len_torch_function_stack", lambda: 1)
_is_profiled = getattr(torch.autograd, "_profiler_enabled", lambda: True)
_PLAIN = {Tensor, torch.nn.Parameter}


def is_watched(tensors: Sequence[Tensor]) -> bool:
    """Whether a compiler, tracer, mode, profiler, transform or kind of tensor has to see an operator.

    Transforms, views of negatives and zeros are kinds of tensors that only stand for numbers: what is in memory is not
    what they say.
    """
    if torch.compiler.is_compiling() or _is_traced() or _modes() or _function_modes() or _is_profiled():
        return True
    if forward_ad._current_level >= 0:
        return True
    try:
        for one in tensors:
            if type(one) not in _PLAIN or one.is_neg() or not (one.data_ptr() or not one.numel()):
                return True
    except RuntimeError:
        return True
    return False


def are_plain(tensors: Sequence[Tensor], dtypes: Sequence[torch.dtype]) -> bool:
    """Whether these are numbers of one of these types in the memory of the host, and nothing looks on."""
    if is_watched(tensors) or torch.is_autocast_enabled("cpu"):
        return False
    dtype = tensors[0].dtype
    return dtype in dtypes and all(one.is_cpu and one.dtype == dtype for one in tensors)


def _empty_answer(x, weight, bias, bank, inputs, stride, padding, dilation):
    geometry = Geometry(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    return empty_like(x, (x.shape[0], sum(sizes(bank)), *geometry.answer))


def _empty_input(gradient, weight, sizes, bank, inputs, stride, padding, dilation):
    return empty_like(gradient, (gradient.shape[0], weight.shape[1], *sizes))


def _empty_weight(gradient, x, kernel_size, bank, inputs, stride, padding, dilation):
    return x.new_empty((sum(orbits for _, orbits in pairs(bank)), x.shape[1], *kernel_size))


_FAKES = (_empty_answer, _empty_input, _empty_weight)


def _keep(ctx: Any, inputs: Any, output: Any) -> None:
    first, second, _, *ctx.bank = inputs
    ctx.save_for_backward(first, second)


def _backward(calls: dict[str, Any], operands: tuple[str, str, str]) -> Callable[..., tuple]:
    """How an operator is differentiated: the gradient of what it gives takes the third place of the form."""
    derive = {
        "gradient": lambda form, bank: calls["answer"](form["picture"], form["weight"], None, *bank),
        "picture": lambda form, bank: calls["input_gradient"](
            form["gradient"], form["weight"], form["picture"].shape[2:], *bank
        ),
        "weight": lambda form, bank: calls["weight_gradient"](
            form["gradient"], form["picture"], form["weight"].shape[2:], *bank
        ),
    }

    def backward(ctx: Any, gradient: Tensor) -> tuple:
        form = dict(zip(operands, (*ctx.saved_tensors, gradient), strict=True))
        wanted = zip(operands[:2], ctx.needs_input_grad, strict=False)
        given = [derive[name](form, ctx.bank) if needed else None for name, needed in wanted]
        return (*given, None, *[None] * len(ctx.bank))

    return backward


def _with_bias(calls: dict[str, Any], operands: tuple[str, str, str]) -> Callable[..., tuple]:
    """The same where the third argument is a bias."""
    rest = _backward(calls, operands)

    def backward(ctx: Any, gradient: Tensor) -> tuple:
        given = list(rest(ctx, gradient))
        given[2] = _shared_sum(gradient, ctx.bank[0]) if ctx.needs_input_grad[2] else None
        return tuple(given)

    return backward


def _shared_sum(gradient: Tensor, bank: Sequence[int]) -> Tensor:
    """The gradients of shared biases: sums over pictures, positions and the members of an orbit."""
    sums = gradient.sum([0, *range(2, gradient.dim())])
    runs = zip(sums.split(sizes(bank)), pairs(bank), strict=True)
    return torch.cat([run.reshape(orbits, -1).sum(1) for run, (_, orbits) in runs])
