"""Follows a picture and its mirror image through the modules of a network, and finds where they part."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn

from symmetric_layers.letters import axes
from symmetric_layers.orbits import Plan
from symmetric_layers.torch.answers import (
    Tree,
    answered,
    bank,
    call_alike,
    difference,
    exchanged,
    mirrored,
    pictures,
    tensors,
    undisturbed,
    usual_tolerance,
)  # fmt: skip
from symmetric_layers.torch.doubles import or_without, really
from symmetric_layers.torch.mirrored import Mirrored
from symmetric_layers.torch.tokens import Tokens, explained

_SIZED = (
    nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d,
    nn.LPPool1d, nn.LPPool2d, nn.LPPool3d,
)  # fmt: skip

Row = tuple[str, str, float, float, str]


class _Event:
    """What went into or came out of a module, once."""

    def __init__(self, module: str, entering: bool, inside: str, values: list[Tensor]) -> None:
        self.module, self.entering, self.inside, self.values = module, entering, inside, values
        self.absolute = self.relative = 0.0
        self.axis = ""


def watch(
    model: nn.Module, x: Tree, letters: str, rank: int, symmetry: Mapping[str, int | str] | None
) -> Iterator[Row]:
    """The rows of the table: module, class, absolute and relative deviation, reason; the offender first."""
    straight = _record(model, x)
    arrangements = _arrangements(model)
    maps = {value[0].numel(): value.shape[1:] for value in _maps(straight, rank)}
    tokens = Tokens(pictures(x, rank), (tuple(value.shape[2:]) for value in _maps(straight, rank)))
    for letter in letters:
        seen = _record(model, mirrored(x, rank, letter, symmetry))
        for event, other in zip(straight, seen, strict=False):
            for value, answer in zip(event.values, other.values, strict=False):
                absolute, relative = _explained(value, answer, rank, letter, arrangements)
                if relative > 0 and value.dim() == 2 and value.shape[1] in maps and value.shape == answer.shape:
                    one, two = (line.unflatten(1, maps[value.shape[1]]) for line in (value, answer))
                    absolute, relative = min((absolute, relative), _explained(one, two, rank, letter, arrangements))
                if rank and relative > usual_tolerance(value):
                    expected = partial(_exchanged_in_any_way, answer=answer, letter=letter, arrangements=arrangements)
                    laid_out = explained(value, answer, tokens.seen(value, letter), expected)
                    absolute, relative = laid_out or (absolute, relative)
                if relative > event.relative:
                    event.absolute, event.relative, event.axis = absolute, relative, letter
    modules = dict(model.named_modules())
    first = next((event for event in straight if event.relative > _allowed(event)), None)
    rows: dict[str, Row] = {}
    for event in straight:
        if not event.entering:
            known = rows.get(event.module)
            if known is None or event.relative > known[3]:
                sort = type(modules[event.module]).__name__
                rows[event.module] = (event.module, sort, event.absolute, event.relative, "")
    if first is not None:
        name = first.inside if first.entering else first.module
        sort = type(modules[name]).__name__
        reason = _reason(modules[name], name, first, straight, letters)
        rows.pop(name, None)
        yield name, sort, first.absolute, first.relative, reason
    yield from rows.values()


def map_sizes(model: Any, x: Tree, rank: int) -> list[tuple[int, ...]]:
    """The positions of all maps that modules are given or answer, in the order in which they are seen."""
    events = _record(model, x) if isinstance(model, nn.Module) else []
    return [tuple(value.shape[2:]) for value in _maps(events, rank)]


def _maps(events: list[_Event], rank: int) -> list[Tensor]:
    return [value for event in events for value in event.values if value.dim() == rank + 2]


def _record(model: nn.Module, x: Tree) -> list[_Event]:
    """Everything that goes into and comes out of modules, in the order in which it happens."""
    events: list[_Event] = []
    stack = [""]
    handles = []

    def note(name: str, entering: bool, tree: Tree) -> None:
        numbers = [value for _, value in tensors(tree) if value.is_floating_point() or value.is_complex()]
        values = [really(value.detach().clone()) for value in numbers]
        events.append(_Event(name, entering, stack[-1], values))

    hidden = [f"{name}." for name, module in model.named_modules() if isinstance(module, Mirrored)]
    for name, module in model.named_modules():
        if name.startswith(tuple(hidden)):  # sees pictures and mirror images side by side
            continue

        def before(module: nn.Module, args: Any, kwargs: Any, name: str = name) -> None:
            note(name, True, (args, kwargs))
            stack.append(name)

        def after(module: nn.Module, args: Any, answer: Any, name: str = name) -> None:
            stack.pop()
            note(name, False, answer)

        handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
        handles.append(module.register_forward_hook(after))

    def run(doubles: bool) -> None:
        events.clear()
        del stack[1:]
        with undisturbed(model, x, doubles):
            answered(call_alike(model, x))

    try:
        or_without(run)
    finally:
        for handle in handles:
            handle.remove()
    return events


def _arrangements(model: nn.Module) -> list[dict[str, Any]]:
    """Every way in which layers of the model arrange their channels."""
    found: list[dict[str, Any]] = []
    for module in model.modules():
        own = getattr(module, "plan", None)
        plans = [own, own.inputs] if isinstance(own, Plan) else []
        counts = [known.counts for known in plans if known is not None and known.orbits]
        symmetry = getattr(module, "symmetry", None)
        counts += [dict(symmetry)] if isinstance(symmetry, Mapping) else []
        invariance = getattr(module, "invariance", None)
        counts += [invariance.inputs.counts] if invariance is not None else []
        found += [dict(symmetry) for symmetry in counts if symmetry and dict(symmetry) not in found]
    return found


def _explained(
    value: Tensor, answer: Tensor, rank: int, letter: str, arrangements: list[dict[str, Any]]
) -> tuple[float, float]:
    """The deviation that is left when the answer is mirrored and its channels exchanged in the way that fits best."""
    best = difference(value, answer)
    for channels, flipped in _readings(value, rank, letter):
        picture = value.flip(flipped) if flipped else value
        best = min(best, difference(picture, answer))
        for arrangement in _fitting(arrangements, value.shape[channels]) if best[1] > 0 else ():
            best = min(best, difference(exchanged(picture, arrangement, letter, channels), answer))
    return best


def _exchanged_in_any_way(
    picture: Tensor, channels: list[int], answer: Tensor, letter: str, arrangements: list[dict[str, Any]]
) -> Iterator[tuple[Tensor, Tensor]]:
    """What may be expected where positions lie in a row, as in transformers: channels as they are, or exchanged."""
    yield picture, answer
    for place in channels:
        for arrangement in _fitting(arrangements, picture.shape[place]):
            yield exchanged(picture, arrangement, letter, place), answer


def _readings(value: Tensor, rank: int, letter: str) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Where channels may stand in a tensor, and which axes the letter then reads backwards."""
    (axis,) = axes(letter)
    if rank and value.dim() >= rank + 2:
        yield value.dim() - rank - 1, (axis,)
        yield value.dim() - 1, (axis - 1,)
    elif value.dim() >= 2:
        yield 1, ()
        if value.dim() > rank:
            yield value.dim() - 1, ()
            yield 1, (axis,)


def _fitting(arrangements: list[dict[str, Any]], channels: int) -> list[Plan]:
    """The plans that so many channels may have: those of the layers, and banks of one kind."""
    kinds = sorted({kind for symmetry in arrangements for kind in symmetry})
    wanted = [{kind: channels} for kind in kinds if channels % 2 ** len(kind) == 0]
    wanted += [symmetry for symmetry in arrangements if all(isinstance(n, int) for n in symmetry.values())]
    plans = []
    for symmetry in wanted:
        if sum(symmetry.values()) <= channels and bank(symmetry, channels) not in plans:
            plans.append(bank(symmetry, channels))
    return plans


def _allowed(event: _Event) -> float:
    return max((usual_tolerance(value) for value in event.values), default=0.0)


def _reason(module: nn.Module, name: str, event: _Event, events: list[_Event], letters: str) -> str:
    """Why a module breaks the law: its sizes where these are to blame, else where in its `forward` it happens."""
    if event.entering:
        return f"in its own forward, before it calls {event.module!r}"
    entered = next((other for other in events if other.entering and other.module == name and other.values), None)
    if isinstance(module, _SIZED) and entered is not None:
        for letter in letters:
            n, k, s, p, d = _sizes(module, entered.values[0], letter)
            rest = (n + 2 * p - d * (k - 1) - 1) % s
            if rest:
                return f"along {letter!r}: n={n}, k={k}, s={s}, p={p}, d={d} leave a remainder of {rest}"
    if any(True for _ in module.children()):
        return "in its own forward, after the last module that it calls"
    return f"mirroring along {event.axis!r} does not mirror its answer"


def _sizes(module: nn.Module, picture: Tensor, letter: str) -> tuple[int, int, int, int, int]:
    (axis,) = axes(letter)

    def along(name: str, usual: int) -> int:
        value = getattr(module, name, usual)
        if value is None or isinstance(value, str):  # a pool's own stride, or 'same', which strides of one have
            return usual
        return int(value[axis]) if isinstance(value, (tuple, list)) else int(value)

    kernel = along("kernel_size", 1)
    stride = along("stride", kernel)
    return picture.shape[axis], kernel, stride, along("padding", 0), along("dilation", 1)
