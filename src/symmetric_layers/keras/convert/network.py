"""Networks of ordinary layers become networks that obey the law."""

import warnings
from collections.abc import Iterable
from fractions import Fraction
from itertools import accumulate
from typing import Any

from symmetric_layers.errors import SymmetryError, yes_or_no
from symmetric_layers.keras.channels import channel_axis
from symmetric_layers.keras.convert.average import refuse_other_than_average
from symmetric_layers.keras.convert.drawn import labels_of, random_input, rank_of
from symmetric_layers.keras.convert.films import spread_out
from symmetric_layers.keras.convert.follow import Follower
from symmetric_layers.keras.convert.kinds import CONVS, DEPTHWISE, SEPARABLE, each_of
from symmetric_layers.keras.convert.measure import (
    ALLOWED,
    Report,
    law_error,
    randomised,
    reason_of,
    refuse_breach,
    refuse_other_batches,
    refuse_other_shapes,
    runs,
)
from symmetric_layers.keras.convert.rebuild import compile_like, outside, rebuilt
from symmetric_layers.keras.convert.surgeon import Surgeon
from symmetric_layers.keras.convert.walk import article, data_format_of, is_ours, layers_of, no_network
from symmetric_layers.keras.convert.width import as_many_weights
from symmetric_layers.letters import canonical_kind, orbit_size
from symmetric_layers.start import Start, check_start, too_wide


def equivariant(
    model: Any,
    axes: str,
    *,
    example: Any = None,
    width: int | str = 1,
    init: str = "own",
    keep: Iterable[str] = (),
    plain: Iterable[str] = (),
    measure: bool = True,
    report: Report = None,
) -> Any:
    """Turns a network of ordinary layers into one that obeys the law: mirrored picture, mirrored answer.

    First convolutions lift pictures to orbits, the ones between carry orbits to orbits, norms and pools follow, and
    the last ones give ordinary maps and classes again. The channels stay as many as they were, so that a half, a
    quarter or an eighth of the weights is left for one, two or three letters.

    What is first and what is last is found by following channels through the graph, not by names, also through what
    `TimeDistributed` calls for each moment, and through a `Flatten` into a `Dense` layer behind it. The result is
    measured before it is handed back: in double precision where the backend has it, with random numbers for all
    weights, in evaluation and in training mode.

    Equivalent to: writing the model with `SymmetricConv2D(..., symmetry={axes: filters}, in_symmetry={axes: channels},
    grid='mirrored')`, `OrbitBatchNormalization`, `Mirrored(MaxPooling2D(2))`, ..., and `InvariantConv2D` or
    `OrbitDense` at the end. Each orbit starts from the numbers that stood where its representative stands.

    Law: at every size that the model accepts, between the first convolutions and the last ones; what pools or pads
    pictures before and answers after, and operations of `keras.ops`, are held to it at the size of the measurement.

    Args:
        model: a Sequential or functional network, with others inside it or not. It stays as it is.
        axes: the letters along which the answer is to mirror: `'h'`, `'hv'`, `'hvz'`, ...
        example: pictures of the size at which the result is measured, needed where the model leaves sizes open. Of
            inputs that are whole numbers and no pictures (labels, tokens) it is measured with these numbers, too;
            without an example with numbers that the model's embeddings know.
        width: how many times as many channels lie between the first layers and the last. The weights between them are
            `width ** 2 / 2 ** len(axes)` times as many as before; those of a wider network are drawn afresh.
            `'parameters'`: as many times as brings the number of weights nearest to that of before (about 1.4, 2 and
            2.8 for one, two and three letters), of all the widths that make whole orbits in every layer.
        init: `'own'`: each orbit starts from the numbers that stood where its representative stands. `'average'`: the
            network starts as the average of the old one over all mirrored inputs (what test-time augmentation
            computes), exactly; before the activations of its last layers, so that of classes the logits are averaged.
            That takes one orbit for every old channel: `width=2 ** len(axes)`.
        keep: names of layers (and of models inside the model) that stay ordinary. Channels that reach them are led
            out of their orbits before. The result is then handed back whatever it measures, and `report` is told; a
            warning says it where there is none and the law is broken.
        plain: names of layers (and of models inside the model) whose answers are ordinary channels, inside the network
            too: the latents of an autoencoder, the codes of a book. What reads them begins anew.
        measure: False hands the result back unmeasured.
        report: is called with a sentence for whatever is worth knowing, as with `report=print`.

    Returns:
        A new model with the same names, compiled like the old one; its optimizer starts afresh.

    Raises:
        SymmetryError: for a model without a graph, axes that the pictures do not have, channels that are no whole
            orbits, what cannot be converted (with the layer's name and a way out), and a result that breaks the law
            (with the first layer that does).

    Example:
        >>> from keras import Sequential, layers
        >>> head = [layers.GlobalAveragePooling2D(), layers.Dense(2)]
        >>> model = Sequential([layers.Input((9, 9, 1)), layers.Conv2D(16, 3, activation='relu'), *head])
        >>> new = equivariant(model, 'h')
        >>> x = keras.random.normal((1, 9, 9, 1))
        >>> bool(keras.ops.all(keras.ops.isclose(new(x), new(keras.ops.flip(x, 2)), atol=1e-5)))
        True

    Source: Cohen and Welling, "Group equivariant convolutional networks", ICML 2016; Weiler and Cesa, "General
    E(2)-equivariant steerable CNNs", NeurIPS 2019, for networks that are made so layer by layer.
    """
    no_network(model)
    yes_or_no("measure", measure)
    original, model = model, spread_out(model)
    labels, axis = labels_of(model), channel_axis(data_format_of(model))
    kind = canonical_kind(axes, rank_of(model, labels), "axes")
    check_start(width, init, kind)
    kept, led_out = _names(keep, "keep"), _names(plain, "plain")
    x = random_input(model, example, labels, axis) if measure or init == "average" else None
    _check(model, kept, led_out)
    follower = Follower(model, kept, rank_of(model, labels), orbit_size(kind), led_out)

    def made(start: Start) -> Any:
        return _made(model, Surgeon(kind, follower, bool(kept), start), start.width != 1, width)

    usual = Surgeon(kind, follower, bool(kept), Start())
    times = as_many_weights(model, kind, usual, made) if width == "parameters" else Fraction(width)
    new = made(Start(times, orbit_size(kind), init == "average"))
    with runs(model):
        if init == "average":
            refuse_other_than_average(model, new, x, kind, axis)
        if kept and measure:
            _tell_what_it_costs(kept, law_error(randomised(new), x, kind, axis), report)
        elif measure:
            refuse_breach(new, x, kind, axis, report, follower)
    if led_out and report is not None:
        report(f"{', '.join(map(repr, led_out))}: plain, as asked for.")
    if width == "parameters" and report is not None:
        counts = f"{new.count_params()} parameters, and {model.count_params()} before"
        report(f"{float(times):.3g} times as many channels: {counts}.")
    if original is not model:
        compile_like(original, new)
    return new


def _made(model: Any, surgeon: Surgeon, other: bool, width: int | str) -> Any:
    """The network; of other channels than before, refused where the model has written its own numbers against them."""
    try:
        new = rebuilt(model, surgeon.made, shapes=surgeon.shapes)
        refuse_other_shapes(model, new)
        if other:
            refuse_other_batches(model, new)
    except SymmetryError:
        raise
    except Exception as error:
        if not other:
            raise
        raise too_wide(width, reason_of(error)) from error
    return new


def _tell_what_it_costs(kept: list[str], worst: float, report: Report) -> None:
    """Says how far a network with ordinary layers is from the law; by a warning where nobody reads."""
    what = f"With {', '.join(map(repr, kept))} ordinary, the"
    if report is not None:
        report(f"{what} largest relative deviation is {worst:.1e}.")
    elif worst > ALLOWED:
        warnings.warn(
            f"{what} network breaks the law: the largest relative deviation is {worst:.1e}. Pass report= to read this "
            "instead of being warned.",
            stacklevel=outside(),
        )


def _names(given: Any, argument: str) -> list[str]:
    names = [given] if isinstance(given, str) else list(given) if isinstance(given, Iterable) else [given]
    if not all(isinstance(name, str) for name in names):
        raise SymmetryError(
            f"{argument}: {given!r} holds no names. Expected names of layers, like ['head']. Pass such."
        )
    return names


def _check(model: Any, kept: list[str], led_out: list[str]) -> None:
    found = list(layers_of(model))
    ours = next((name for name, layer in found if is_ours(layer)), None)
    if ours is not None:
        raise SymmetryError(
            f"model: {ours!r} is a layer of this package already. Expected a network of ordinary layers. "
            "Convert the network that it was made from."
        )
    convs = (*CONVS, *DEPTHWISE, *SEPARABLE)
    if not any(isinstance(each_of(layer), convs) for _, layer in found):
        for name, layer in found:
            if any(isinstance(one, convs) for one in layer._flatten_layers()):
                raise SymmetryError(
                    f"model: its convolutions are inside {name!r}, {article(layer)}. Expected convolutions that stand "
                    "in its graph by themselves. Write that part with layers of Keras, as a functional model, or alone "
                    "in a TimeDistributed."
                )
        raise SymmetryError(
            "model: no convolution is in it. Expected Conv1D, 2D, 3D or transposed ones. Pass a model that has some."
        )
    paths = {path for name, _ in found for path in accumulate(name.split("/"), "{}/{}".format)}
    for argument, name in [("keep", name) for name in kept] + [("plain", name) for name in led_out]:
        if name not in paths | {path.split("/")[-1] for path in paths}:
            raise SymmetryError(
                f"{argument}: {name!r} is no layer of the model. Expected names of its layers, or paths like "
                "'encoder/conv' into models inside it. Use such."
            )
