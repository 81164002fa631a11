"""The last word on a converted network: the law in double precision, with random numbers everywhere."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from symmetric_layers.errors import SymmetryError
from symmetric_layers.letters import axes as positions
from symmetric_layers.letters import mirrors
from symmetric_layers.start import no_average
from symmetric_layers.torch.answers import call, difference, mapped, mirrored, tensors
from symmetric_layers.torch.convert.banks import NORMS
from symmetric_layers.torch.convert.operators import is_operator
from symmetric_layers.torch.convert.parts import spreads_of
from symmetric_layers.torch.convert.products import Products
from symmetric_layers.torch.convert.remember import Remembered
from symmetric_layers.torch.convert.surgery import copy_of
from symmetric_layers.torch.doubles import Doubles, or_without
from symmetric_layers.torch.law import Breakage, Deviation, compared, where_it_breaks

_TRIES = 4
OWN = -1  # the numbers of the model itself
ALLOWED = 1e-10  # relative; rounding is below 1e-12, and breaches of networks have been as small as 3e-5
_SINGLE, _ROUNDING = 1e-6, 1e-2  # what rounding to single and to half precision may deviate by


def randomised(model: nn.Module, seed: int = 0) -> nn.Module:
    """A copy in double precision whose parameters and statistics are all random, of a size that networks can bear.

    Other buffers are no state of the model (filters of a blur, frequencies): they stay what they are.
    """
    model = copy_of(model).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in {id(tensor): (name, tensor) for name, tensor in _state(model)}.values():
            if tensor.is_floating_point():
                tensor.copy_(_random(name, tensor.shape, generator))
    return model


def _state(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """What is learnt or gathered, by its last name."""
    for module in model.modules():
        yield from module.named_parameters(recurse=False)
        spread = {found.name for found in spreads_of(module)}
        for name, buffer in module.named_buffers(recurse=False):
            if isinstance(module, NORMS) or name in spread:
                yield name, buffer


def _random(name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Filters with the variance that keeps signals at their size; variances and scales positive, biases of any sign."""
    if len(shape) > 1 and math.prod(shape[1:]) > 1:
        return torch.randn(shape, generator=generator, dtype=torch.float64) / math.sqrt(math.prod(shape[1:]))
    signed = name in ("bias", "running_mean", "mean")
    return torch.rand(shape, generator=generator, dtype=torch.float64) + (-0.5 if signed else 0.5)


def numbered(model: nn.Module, seed: int) -> nn.Module:
    """A copy in double precision with these random numbers, or the model's own."""
    return copy_of(model).double() if seed == OWN else randomised(model, seed)


def random_input(model: nn.Module, example: Any, training: bool, seed: int = 1) -> Any:
    """Pictures of the example's sizes, with nothing alike in them; two of them where batch norms may need two."""
    generator = torch.Generator().manual_seed(seed)
    batches = any("BatchNorm" in type(module).__name__ for module in model.modules())
    twice = training and batches and all(tensor.shape[:1] == (1,) for _, tensor in tensors(example))

    def change(tensor: Tensor) -> Tensor:
        tensor = torch.cat([tensor, tensor]) if twice else tensor
        if not tensor.is_floating_point():
            return tensor.clone()  # the caller's own is not to be marked
        return torch.randn(tensor.shape, generator=generator, dtype=torch.float64).to(tensor.device)

    return mapped(example, change)


def run_once(run: Callable[[Any], Any], model: nn.Module, example: Any, training: bool) -> None:
    """Runs a model, and refuses an example that it does not accept in one sentence."""
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    given = mapped(random_input(model, example, training), lambda t: t.to(dtype) if t.is_floating_point() else t)
    try:
        with torch.random.fork_rng(devices=[]):
            run(given)
    except SymmetryError:
        raise
    except Exception as error:
        shapes = [tuple(tensor.shape) for _, tensor in tensors(example)]
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        mode = "training" if training else "evaluation"
        raise SymmetryError(
            f"example: the model does not accept {shapes} in {mode} mode ({reason}). "
            "Expected an input that it runs on. Pass one of another size or sort."
        ) from error


class Measured(NamedTuple):
    """What was found in one mode: the largest relative deviation, and the random numbers that showed it."""

    worst: float
    seed: int


class Law(NamedTuple):
    """What a network is held to: the letters, and which of its answers, by name, are orbits."""

    axes: str
    stays: Callable[[str], bool] = lambda name: False

    def compared(self, model: nn.Module, x: Any, axes: str = "") -> tuple[dict[str, Tensor], list[Deviation]]:
        """The answers, and how far they are from the law along some letters, or all."""
        return compared(model, x, axes or self.axes, symmetry={self.axes: "100%"}, arranged=self.stays)


def law_error(model: nn.Module, example: Any, law: Law) -> dict[bool, Measured]:
    """The largest relative deviation, by whether the model is in training mode.

    Answers that do not see their picture, as behind a ReLU that is never active, would hide any breach: then other
    numbers are tried, at last the model's own, and where none help, the law is measured on the way. Deviations as small
    as rounding are measured again, with constants in double precision as well.
    """
    found: dict[bool, Measured] = {}
    for seed in (*range(_TRIES), OWN):
        tried, sees = _measured(model, example, law, seed)
        if any(ALLOWED < worst < _ROUNDING for worst in tried.values()):
            with Doubles(constants=True):
                tried, sees = _measured(model, example, law, seed)
        for training, worst in tried.items():
            if training not in found or worst > found[training].worst:
                found[training] = Measured(worst, seed)
        if sees or any(one.worst > ALLOWED for one in found.values()):
            return found
    broken = where_it_breaks(randomised(model).eval(), random_input(model, example, False), law.axes).offender
    return {**found, False: Measured(broken.relative, 0)} if broken else found


def _measured(model: nn.Module, example: Any, law: Law, seed: int) -> tuple[dict[bool, float], bool]:
    """The deviations with these random numbers, and whether any answer sees its picture."""
    model = numbered(model, seed)
    found, sees = {}, False
    with Products(), Remembered(model) as memory:
        for training in (False, True):
            memory.learning = not training
            straight, rows = law.compared(model.train(training), random_input(model, example, training))
            found[training] = max((row.relative for row in rows), default=0.0)
            sees = sees or any(bool((answer != answer.flatten()[:1]).any()) for answer in straight.values())
        if not sees:  # the same number everywhere: one number, or none that depends on anything
            other = law.compared(model, random_input(model, example, True, 2), law.axes[:1])[0]
            sees = any(not torch.equal(answer, other[name]) for name, answer in straight.items() if name in other)
    return found, sees


def refuse_breach(model: nn.Module, example: Any, law: Law) -> None:
    """Refuses a network that breaks the law, and names the module that does."""
    for training, (worst, seed) in law_error(model, example, law).items():
        if worst <= ALLOWED:
            continue
        with Doubles(constants=worst < _ROUNDING):
            broken = where_it_breaks(
                numbered(model, seed).train(training), random_input(model, example, training), law.axes
            ).offender
        mode = "training" if training else "evaluation"
        raise SymmetryError(
            f"model: the converted network breaks the law by {worst:.1e} in {mode} mode, first at {_place(broken)}. "
            f"Expected at most {ALLOWED:.0e}. {_way_out(model, broken, worst)}, or keep it ordinary with keep."
        )


def _place(broken: Breakage | None) -> str:
    if broken is None:
        return "the answer, where it does not lie as (N, channels, *positions)"
    return f"{broken.module or 'its forward'!r} ({broken.sort}): {broken.reason}"


def _way_out(model: nn.Module, broken: Breakage | None, worst: float) -> str:
    if worst < _SINGLE:
        return (
            "Let that part compute in the precision of its input, if it rounds where PyTorch's functions are not seen "
            "(TorchScript, NumPy)"
        )
    if broken is None:
        return "Answer with channels before positions"
    if is_operator(model.get_submodule(broken.module)):  # channels are plain there, and have no mirrors
        return "Use sizes, strides and padding that leave nothing over there, or answers='orbits'"
    return (
        "Write that part with modules of torch.nn that mirror (nn.MaxPool2d for F.max_pool2d, padding on both sides, "
        "no tables of positions)"
    )


@contextmanager
def runs_on_its_example() -> Iterator[None]:
    """Says in a sentence what a converted network stumbles over."""
    try:
        yield
    except SymmetryError:
        raise
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise SymmetryError(
            f"model: the converted network does not run on the example ({reason}). Expected a forward that reads no "
            "layer's weight or bias, of which fewer are stored than there are filters, and makes nothing of its own "
            "type. Let it call layers, full_weight() or full_bias(), make what it is given ordinary with plain, or "
            "keep that part ordinary with keep."
        ) from error


def refuse_other_than_average(old: nn.Module, new: nn.Module, example: Any, axes: str) -> None:
    """Refuses a network that does not compute the old one's average over all mirrored inputs, in evaluation mode."""
    old, new = copy_of(old).double().eval(), copy_of(new).double().eval()
    x = random_input(old, example, training=False)
    rank = max(tensor.dim() - 2 for _, tensor in tensors(x))

    def run(doubles: bool) -> tuple[list[Tensor], list[Tensor]]:
        with torch.no_grad(), Doubles() if doubles else nullcontext():
            return _average(old, x, rank, axes), [tensor for _, tensor in tensors(call(new, x))]

    expected, answers = or_without(run)
    worst = max((difference(*pair)[1] for pair in zip(expected, answers, strict=True)), default=0.0)
    if worst > ALLOWED:
        raise no_average(worst)


def _average(model: nn.Module, x: Any, rank: int, axes: str) -> list[Tensor]:
    """The average of the answers to all mirrored inputs, mirrored back."""
    total: list[Tensor] = []
    for letters in mirrors(axes):
        seen = x
        for letter in letters:
            seen = mirrored(seen, rank, letter)
        found = [tensor for _, tensor in tensors(call(model, seen))]
        found = [tensor.flip(positions(letters)) if tensor.dim() >= rank + 2 else tensor for tensor in found]
        total = [sum_ + tensor for sum_, tensor in zip(total, found, strict=True)] if total else found
    return [tensor / len(mirrors(axes)) for tensor in total]
