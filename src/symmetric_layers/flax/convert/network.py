"""Networks of ordinary layers become networks that obey the law."""

import warnings
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from typing import Any

import jax
from flax import nnx

from symmetric_layers.errors import SymmetryError, known_names, yes_or_no
from symmetric_layers.flax.convert.average import refuse_other_than_average
from symmetric_layers.flax.convert.chance import without_chance
from symmetric_layers.flax.convert.follow import Follower
from symmetric_layers.flax.convert.kinds import CONVS, WRITES
from symmetric_layers.flax.convert.measure import ALLOWED, Report, law_error, refuse_breach
from symmetric_layers.flax.convert.spied import host_of, is_ours, modules_of, no_module
from symmetric_layers.flax.convert.surgeon import Surgeon
from symmetric_layers.flax.convert.traced import Traced, accepted, arrays_of, quiet, traced
from symmetric_layers.flax.convert.width import as_many_parameters, parameters_of, refuse_too_wide
from symmetric_layers.letters import canonical_kind, orbit_size
from symmetric_layers.start import Start, check_start

_NAMES = "names like 'encoder.layers.0'"


def equivariant(
    model: nnx.Module,
    axes: str,
    *,
    example: Any,
    width: int | str = 1,
    init: str = "own",
    keep: Iterable[str] = (),
    plain: Iterable[str] = (),
    measure: bool = True,
    report: Report = None,
    rngs: nnx.Rngs | None = None,
) -> Any:
    """Turns a network of ordinary layers into one that obeys the law: mirrored picture, mirrored answer.

    First convolutions lift pictures to orbits, the ones between carry orbits to orbits, norms follow, and the last
    ones give ordinary maps and classes again. The channels stay as many as they were, so that a half, a quarter or an
    eighth of the weights is left for one, two or three letters.

    What is first and what is last is found by following channels through the graph that JAX makes of the model, not by
    names. The result is measured before it is handed back: in double precision, with random numbers in all variables,
    in training and in evaluation mode.

    Equivalent to: writing the model with `SymmetricConv(..., symmetry={axes: out_features}, in_symmetry={axes:
    in_features}, grid='mirrored')`, `OrbitBatchNorm`, ..., and `InvariantConv` or `OrbitLinear` at the end. Each orbit
    starts from the numbers that stood where its representative stands.

    Law: at every size that the model accepts, as far as it is made of modules, and of functions that are attributes of
    modules (`self.pool = functools.partial(nnx.max_pool, ...)`, which becomes `Mirrored` where its windows lie
    otherwise in the mirror); what a `__call__` does by itself is held to it at the size of the example.

    Args:
        model: the network. It stays as it is.
        axes: the letters along which the answer is to mirror: `'h'`, `'hv'`, `'hvz'`, ...
        example: an input, of a size and kind that the model accepts: an array, a tuple of inputs, or a dict of keyword
            arguments.
        width: how many times as many channels lie between the first layers and the last. The weights between them are
            `width ** 2 / 2 ** len(axes)` times as many as before; those of a wider network are drawn afresh, as layers
            of nnx draw theirs if they are not told otherwise. `'parameters'`: as many times as brings the number of
            weights nearest to that of before (about 1.4, 2 and 2.8 for one, two and three letters), of all the widths
            that make whole orbits in every layer.
        init: `'own'`: each orbit starts from the numbers that stood where its representative stands. `'average'`: the
            network starts as the average of the old one over all mirrored inputs (what test-time augmentation
            computes), exactly. That takes one orbit for every old channel: `width=2 ** len(axes)`.
        keep: names of modules that stay ordinary, like `'encoder.layers.0'`. Channels that reach them are led out of
            their orbits before. The result is then handed back whatever it measures: `report` is told, and without a
            report a network that breaks the law warns.
        plain: names of layers whose channels are ordinary, inside the network too: the latents of an autoencoder, the
            codes of a book. What they make then knows no mirror, and whatever reads it begins anew.
        measure: False hands the result back unmeasured. Measuring compiles the model twice, and runs each once and once
            more for each letter.
        report: is called with a sentence for whatever is worth knowing, as with `report=print`.
        rngs: draws the filters of a wider network; None: `nnx.Rngs(0)`.

    Returns:
        A copy of the model with other layers, in the same mode. An optimizer for it is to be made anew.

    Raises:
        SymmetryError: for axes that the pictures do not have, channels that are no whole orbits, what cannot be
            converted (with the module's name and a way out), and a result that breaks the law (with the first module
            that does).

    Example:
        >>> rngs = nnx.Rngs(0)
        >>> model = nnx.Sequential(
        ...     nnx.Conv(1, 16, (3, 3), rngs=rngs), nnx.relu, lambda x: x.mean((1, 2)), nnx.Linear(16, 2, rngs=rngs)
        ... )
        >>> x = jax.random.normal(jax.random.key(0), (1, 9, 9, 1))
        >>> new = equivariant(model, 'h', example=x)
        >>> bool(jnp.allclose(new(x), new(jnp.flip(x, 2)), atol=1e-5))
        True

    Source: Cohen and Welling, "Group equivariant convolutional networks", ICML 2016; Weiler and Cesa, "General
    E(2)-equivariant steerable CNNs", NeurIPS 2019, for networks that are made so layer by layer.
    """
    no_module(model)
    yes_or_no("measure", measure)
    kind = canonical_kind(axes, _rank(example), "axes")
    check_start(width, init, kind)
    kept = _checked(model, keep)
    wider = width if isinstance(width, int) else 1
    led_out = known_names("plain", plain, dict(modules_of(model)), _NAMES)
    follower = followed(model, example, kind, lambda name: _inside(name, kept), wider, led_out)

    def make(start: Start) -> Surgeon:
        return Surgeon(kind, follower, bool(kept), start, rngs or nnx.Rngs(0))

    times = as_many_parameters(model, kind, make) if width == "parameters" else Fraction(width)
    new, start = nnx.clone(model), Start(times, orbit_size(kind), init == "average")
    unreached = make(start).operate(new)
    if start.width != 1:
        refuse_too_wide(model, new, example, width)
    if start.average:
        refuse_other_than_average(model, new, example, kind, follower)
    if measure and not kept:
        refuse_breach(new, example, kind, follower)
    if report is not None:
        if led_out:
            report(f"{', '.join(map(repr, led_out))}: plain, as asked for.")
        if width == "parameters":
            counts = f"{parameters_of(new)} parameters, and {parameters_of(model)} before"
            report(f"{float(times):.3g} times as many channels: {counts}.")
        for name in unreached:
            report(f"{name!r} was not reached by the example, and stays ordinary.")
    if measure and kept:
        worst, ordinary = max(law_error(new, example, kind, follower).values()), ", ".join(map(repr, kept))
        if report is not None:
            report(f"With {ordinary} ordinary, the largest relative deviation is {worst:.1e}.")
        elif worst > ALLOWED:
            warnings.warn(
                f"With {ordinary} ordinary, the network breaks the law: the largest relative deviation is "
                f"{worst:.1e}. Pass report= to read this instead of being warned.",
                UserWarning,
                stacklevel=2,
            )
    return new


def followed(
    model: nnx.Module,
    example: Any,
    kind: str,
    kept: Callable[[str], bool],
    times: int = 1,
    plain: Iterable[str] = (),
) -> Follower:
    """Follows the example's channels through a model, in both modes; refuses an example that it does not accept."""
    watched = without_chance(model)
    follower = Follower(dict(modules_of(model)), kind, kept, times)
    for mode in ("evaluation", "training"):
        (watched.eval if mode == "evaluation" else watched.train)()
        graph = accepted(lambda: traced(watched, example), example, mode)
        follower.follow(graph)
    if follower.pads_before:
        follower.compare(_larger(watched, example))
    for name in plain:
        follower.lead_out(name)
    follower.check()
    return follower


def _larger(watched: nnx.Module, example: Any) -> Traced | None:
    """The graph for pictures one pixel larger; nothing where a model does not accept such ones."""
    arrays, filled = arrays_of(example)
    axes = max(array.ndim for array in arrays)

    def grown(array: Any) -> Any:
        sizes = tuple(size + (axes == array.ndim and 0 < axis < axes - 1) for axis, size in enumerate(array.shape))
        return jax.ShapeDtypeStruct(sizes, array.dtype)

    try:
        with quiet():
            return traced(watched, filled([grown(array) for array in arrays]))
    except Exception:  # whatever a model says of a size that it is not made for
        return None


def _checked(model: nnx.Module, keep: Any) -> list[str]:
    names = dict(modules_of(model))
    ours = next((name for name, module in names.items() if is_ours(module)), None)
    if ours is not None:
        raise SymmetryError(
            f"model: {ours or 'it'!r} is a layer of this package already. Expected a network of ordinary layers. "
            "Convert the network that it was made from."
        )
    if not any(host_of(module, CONVS) for module in names.values()):
        raise SymmetryError(
            "model: no convolution is in it. Expected nnx.Conv or nnx.ConvTranspose. Pass a model that has some."
        )
    kept = known_names("keep", keep, names, _NAMES)
    _refuse_writers(names, kept)
    return kept


def _refuse_writers(modules: Mapping[str, Any], kept: Iterable[str]) -> None:
    """Refuses norms of weights: what they write are all filters, of which orbits store one."""
    for name, module in modules.items():
        if isinstance(module, WRITES) and not _inside(name, kept):
            raise SymmetryError(
                f"model: {name!r}, {type(module).__name__}, writes the filters of its layer anew in every call. "
                "Expected layers that keep their filters. Take it off, or keep that part ordinary with keep."
            )


def _inside(name: str, kept: Iterable[str]) -> bool:
    return any(name == one or name.startswith(f"{one}.") for one in kept)


def _rank(example: Any) -> int:
    shapes = [tuple(array.shape) for array in arrays_of(example)[0]]
    rank = max((len(shape) - 2 for shape in shapes), default=0)
    if rank not in (1, 2, 3):
        raise SymmetryError(
            f"example: {shapes} holds no pictures. Expected an array (batch, *positions, channels) with 1 to 3 axes of "
            "positions. Pass a batch of pictures."
        )
    return rank
