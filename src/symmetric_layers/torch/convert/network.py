"""Networks of ordinary layers become networks that obey the law."""

import warnings
from collections.abc import Callable, Iterable
from contextlib import suppress
from fractions import Fraction
from typing import Any

from torch import Tensor, nn

from symmetric_layers.errors import SymmetryError, known_names, yes_or_no
from symmetric_layers.letters import canonical_kind, orbit_size
from symmetric_layers.start import Start, check_start, too_wide
from symmetric_layers.torch.answers import call, mapped, tensors
from symmetric_layers.torch.convert.answering import check_names, those_that_stay
from symmetric_layers.torch.convert.follow import Follower
from symmetric_layers.torch.convert.measure import (
    ALLOWED,
    Law,
    law_error,
    refuse_breach,
    refuse_other_than_average,
    run_once,
    runs_on_its_example,
)
from symmetric_layers.torch.convert.parts import spreads_of
from symmetric_layers.torch.convert.surgeon import Surgeon, inside
from symmetric_layers.torch.convert.surgery import (
    HOSTS,
    Report,
    copy_of,
    is_ours,
    no_module,
    renew,
    tell_of_hooks,
    unreadable,
)
from symmetric_layers.torch.convert.width import as_many_parameters

_NAMES = "names out of model.named_modules()"


def equivariant(
    model: nn.Module,
    axes: str,
    *,
    example: Any,
    width: int | str = 1,
    init: str = "own",
    answers: str | Iterable[str] = "plain",
    keep: Iterable[str] = (),
    plain: Iterable[str] = (),
    measure: bool = True,
    inplace: bool = False,
    optimizer: Any = None,
    report: Report = None,
) -> nn.Module:
    """Turns a network of ordinary layers into one that obeys the law: mirrored picture, mirrored answer.

    First convolutions lift pictures to orbits, the ones between carry orbits to orbits, norms and pools follow, and
    the last ones give ordinary maps and classes again. The channels stay as many as they were, so that a half, a
    quarter or an eighth of the weights is left for one, two or three letters.

    What is first and what is last is found by following the example through the model, not by names. The result is
    measured before it is handed back: in double precision, with random numbers for all parameters and buffers, in
    training and in evaluation mode.

    Equivalent to: writing the model with `SymmetricConv2d(..., symmetry={axes: out_channels}, in_symmetry={axes:
    in_channels}, grid='mirrored')`, `OrbitBatchNorm2d`, `Mirrored(nn.MaxPool2d(2))`, ..., and `InvariantConv2d` or
    `OrbitLinear` at the end. Each orbit starts from the numbers that stood where its representative stands.

    Law: at every size that the model accepts, as far as it is made of modules; what a `forward` does by itself (a
    one-sided `F.pad`, an `F.max_pool2d` that leaves something over) is held to it at the size of the example.

    Args:
        model: the network. It stays as it is, unless `inplace`.
        axes: the letters along which the answer is to mirror: `'h'`, `'hv'`, `'hvz'`, ...
        example: an input, of a size and kind that the model accepts: a tensor, a tuple of inputs, or a dict of keyword
            arguments.
        width: how many times as many channels lie between the first layers and the last. The weights between them are
            `width ** 2 / 2 ** len(axes)` times as many as before; those of a wider network are drawn afresh.
            `'parameters'`: as many times as brings the number of weights nearest to that of before (about 1.4, 2 and
            2.8 for one, two and three letters), of all the widths that make whole orbits in every layer.
        init: `'own'`: each orbit starts from the numbers that stood where its representative stands. `'average'`: the
            network starts as the average of the old one over all mirrored inputs (what test-time augmentation
            computes), exactly. That takes one orbit for every old channel: `width=2 ** len(axes)`.
        answers: `'plain'`: ordinary maps and numbers. `'orbits'`: the channels of all answers stay orbits, as a
            backbone hands its features on (`{axes: '100%'}` is then the `in_symmetry` of what reads them); otherwise a
            layer whose answer is handed out sees no more of its picture than a mirror leaves alone. Or the names of
            the answers that stay orbits, as `equivariance_error` names them: `['features.0', 'features.1']`.
        keep: names of modules that stay ordinary. The result is then handed back whatever it measures: `report` is
            told, and a warning given where there is none and the law is broken.
        plain: names of modules whose answers are ordinary channels, inside the network too: the latents of an
            autoencoder, the codes of a book. What they make then knows no mirror, and whatever reads it begins anew.
        measure: False hands the result back unmeasured. Measuring takes two forward passes in double precision, and
            two more for each letter; convolutions that are asked the same in both modes are computed once.
        inplace, optimizer, report: as in `symmetrize`.

    Returns:
        The network with new layers, in the same mode, on the same device.

    Raises:
        SymmetryError: for axes that the pictures do not have, channels that are no whole orbits, what cannot be
            converted (with the module's name and a way out), and a result that breaks the law (with the first module
            that does). Nothing is changed then.

    Example:
        >>> head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 2)]
        >>> model = nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), *head)
        >>> new = equivariant(model, 'h', example=torch.randn(1, 1, 9, 9))
        >>> x = torch.randn(1, 1, 9, 9)
        >>> torch.allclose(new(x), new(x.flip(-1)), atol=1e-5)
        True

    Source: Cohen and Welling, "Group equivariant convolutional networks", ICML 2016; Weiler and Cesa, "General
    E(2)-equivariant steerable CNNs", NeurIPS 2019, for networks that are made so layer by layer.
    """
    kept = _checked(model, keep)
    kind = canonical_kind(axes, _rank(example), "axes")
    yes_or_no("measure", measure)
    if measure and any(parameter.is_meta for parameter in model.parameters()):
        raise SymmetryError(
            "measure: True cannot be held to a model on the meta device, which has no numbers. Expected False, or "
            "numbers. Pass measure=False."
        )
    check_start(width, init, kind)
    answers = list(answers) if isinstance(answers, Iterable) and not isinstance(answers, str) else answers
    stays = those_that_stay(answers)
    law = Law(kind, stays)
    led_out = known_names("plain", plain, dict(model.named_modules()), _NAMES)
    follower = _followed(model, example, kept, stays, led_out)
    check_names(answers, follower.named, init)
    few = follower.make_plain_below(-(-orbit_size(kind) // (1 if width == "parameters" else int(width))))

    def make(one: nn.Module, start: Start) -> Surgeon:
        return Surgeon(one, kind, follower, kept, start)

    times = as_many_parameters(model, kind, make) if width == "parameters" else Fraction(width)
    start = Start(times, orbit_size(kind), init == "average")
    target = model if inplace else copy_of(model)
    before = dict(model.named_parameters(remove_duplicate=False))
    surgeon = make(target, start)
    trial = (make(copy_of(model), start) if inplace else surgeon).operate()
    if start.width != 1:
        _bears(trial, example, width)
    if start.average:
        refuse_other_than_average(model, trial, example, kind)
    if measure:
        _hold_to_the_law(trial, example, law, kept, report)
    result = surgeon.operate() if inplace else trial
    renew(optimizer, before, result)
    tell_of_hooks(result, surgeon.names, report)
    if width == "parameters" and report is not None:
        old, new = (sum(p.numel() for p in set(some)) for some in (before.values(), result.parameters()))
        report(f"{float(times):.3g} times as many channels: {new} parameters, and {old} before.")
    if report is not None:
        _tell(report, kind, follower, few, surgeon.unreached)
        for name in surgeon.evened:
            report(f"{name!r} knew each channel by a number of its own: of every orbit, the first one's is kept.")
    return result


def _hold_to_the_law(model: nn.Module, example: Any, law: Law, kept: list[str], report: Report) -> None:
    """Refuses what breaks the law; where parts are kept, says by how much it does."""
    with runs_on_its_example():
        if not kept:
            refuse_breach(model, example, law)
            return
        worst = max(found.worst for found in law_error(model, example, law).values())
    ordinary = f"With {', '.join(map(repr, kept))} ordinary, "
    if report is not None:
        report(f"{ordinary}the largest relative deviation is {worst:.1e}.")
    elif worst > ALLOWED:
        warnings.warn(
            f"{ordinary}the network breaks the law: the largest relative deviation is {worst:.1e}. "
            "Pass report= to read this instead of being warned.",
            stacklevel=3,
        )


def _tell(report: Callable[[str], Any], kind: str, follower: Follower, few: list[str], unreached: list[str]) -> None:
    """Reports which layers became no orbits, and why."""
    plain, picked = follower.plain_inside(), follower.picked_apart()
    if follower.led_out:
        report(f"{', '.join(map(repr, follower.led_out))}: plain, as asked for.")
    if plain:
        report(
            f"{', '.join(map(repr, plain))}: plain, because what they make meets inputs or answers of the model; "
            "answers= leaves answers orbits."
        )
    if picked:
        report(f"{', '.join(map(repr, picked))}: plain, because channels that they make are picked out one by one.")
    for name in few:
        report(f"{name!r} makes no whole orbits of {kind!r}: its channels are plain.")
    for name in unreached:
        report(f"{name!r} was not reached by the example, and stays ordinary.")


def _checked(model: Any, keep: Iterable[str]) -> list[str]:
    no_module(model)
    ours = next((name for name, module in model.named_modules() if is_ours(module) or spreads_of(module)), None)
    if ours is not None:
        raise SymmetryError(
            f"model: {ours or 'it'!r} is a layer of this package already. Expected a network of ordinary layers. "
            "Convert the network that it was made from."
        )
    if not any(isinstance(module, HOSTS) for module in model.modules()):
        raise SymmetryError(
            "model: no convolution is in it. Expected nn.Conv1d, 2d, 3d or transposed ones. Pass a model that has some."
        )
    layers: dict[str, nn.Module] = dict(model.named_modules())
    kept = known_names("keep", keep, layers, _NAMES)
    for name, layer in layers.items():
        if isinstance(layer, (*HOSTS, nn.Linear)) and not inside(name, kept):
            error = unreadable(name, layer)
            if error is not None:
                raise error
    return kept


def _bears(model: nn.Module, example: Any, width: int | str) -> None:
    """Refuses a width that a model has written its own numbers of channels against."""
    tried = copy_of(model).eval()
    try:
        run_once(lambda x: call(tried, x), tried, example, False)
    except SymmetryError as refusal:
        reason = str(refusal.__cause__).strip().splitlines()[0].rstrip(".")
        raise too_wide(width, reason) from None


def _rank(example: Any) -> int:
    rank = max((tensor.dim() - 2 for _, tensor in tensors(example)), default=0)
    if rank not in (1, 2, 3):
        shapes = [tuple(tensor.shape) for _, tensor in tensors(example)]
        raise SymmetryError(
            f"example: {shapes} holds no pictures. Expected a tensor (N, C, *positions) with 1 to 3 axes of positions. "
            "Pass a batch of pictures."
        )
    return rank


def _followed(
    model: nn.Module, example: Any, kept: list[str], stays: Callable[[str], bool], plain: list[str]
) -> Follower:
    """Follows the example through a copy of the model: by its shapes alone, if the model can be run on these."""
    shapes = mapped(example, lambda tensor: tensor.to("meta"))
    try:
        return _follow(copy_of(model).to("meta"), shapes, kept, stays, plain)
    except Exception:  # whatever asks for numbers, and all that is to be refused in the words for numbers
        return _follow(copy_of(model), example, kept, stays, plain)


def _larger(tensor: Tensor) -> Tensor:
    """A picture one pixel larger along every axis; anything else is left as it is."""
    if tensor.dim() < 3 or not tensor.is_floating_point():
        return tensor
    return tensor.new_zeros((*tensor.shape[:2], *(size + 1 for size in tensor.shape[2:])))


def _follow(
    watched: nn.Module, example: Any, kept: list[str], stays: Callable[[str], bool], plain: list[str]
) -> Follower:
    """Follows the example through a model, in evaluation and in training mode."""
    follower = Follower(watched, lambda name: inside(name, kept), stays, plain)
    for training in (False, True):
        run_once(follower.follow, watched.train(training), example, training)
    if any(found != {None} for found in follower.padded.values()):
        other = Follower(watched, lambda name: inside(name, kept), stays, plain)
        with suppress(Exception):  # whatever a model says of a size that it is not made for
            run_once(other.follow, watched.eval(), mapped(example, _larger), False)
            follower.forget_padding(other)
    follower.check()
    silent = next((name for name, made in follower.led_out.items() if not made), None)
    if silent is not None:
        raise SymmetryError(
            f"plain: {silent!r} makes no channels that are followed, with this example. Expected a module whose answer "
            "has some. Name the layer that makes them."
        )
    return follower
