"""Networks of ordinary layers become networks that obey the law."""

from collections.abc import Iterable
from itertools import accumulate
from typing import Any

import keras

from symmetric_layers.errors import SymmetryError, yes_or_no
from symmetric_layers.keras.convert.follow import Follower
from symmetric_layers.keras.convert.kinds import CONVS, DEPTHWISE, NORMS, OPERATORS, SEPARABLE, WEIGHS, kind_of
from symmetric_layers.keras.convert.made import (
    Made,
    Orbits,
    conv,
    dense,
    depthwise,
    in_the_mirror,
    invariant_conv,
    orbit_norm,
    orbit_prelu,
    passing,
    separable,
    shared,
)
from symmetric_layers.keras.convert.measure import (
    Report,
    channels_of,
    law_error,
    random_input,
    randomised,
    refuse_breach,
    refuse_other_shapes,
)
from symmetric_layers.keras.convert.rebuild import rebuilt
from symmetric_layers.keras.convert.walk import article, layers_of, no_network, unreadable
from symmetric_layers.letters import canonical_kind, orbit_size

_OURS = "symmetric_layers."


def equivariant(
    model: Any,
    axes: str,
    *,
    example: Any = None,
    keep: Iterable[str] = (),
    measure: bool = True,
    report: Report = None,
) -> Any:
    """Turns a network of ordinary layers into one that obeys the law: mirrored picture, mirrored answer.

    First convolutions lift pictures to orbits, the ones between carry orbits to orbits, norms and pools follow, and
    the last ones give ordinary maps and classes again. The channels stay as many as they were, so that a half, a
    quarter or an eighth of the weights is left for one, two or three letters.

    What is first and what is last is found by following channels through the graph, not by names. The result is
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
        example: pictures of the size at which the result is measured, needed where the model leaves sizes open.
        keep: names of layers (and of models inside the model) that stay ordinary. Channels that reach them are led
            out of their orbits before. The result is then handed back whatever it measures, and `report` is told.
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
    kind = canonical_kind(axes, _rank(model), "axes")
    kept = _names(keep)
    x = random_input(model, example) if measure else None
    _check(model, kept)
    follower = Follower(model, kept)
    new = rebuilt(model, _Surgeon(kind, follower, bool(kept)).made)
    refuse_other_shapes(model, new)
    if not measure:
        return new
    axis = channels_of(model)
    if not kept:
        refuse_breach(new, x, kind, axis, report, follower)
    elif report is not None:
        worst = law_error(randomised(new), x, kind, axis, False)
        report(f"With {', '.join(map(repr, kept))} ordinary, the largest relative deviation is {worst:.1e}.")
    return new


def _names(keep: Any) -> list[str]:
    kept = [keep] if isinstance(keep, str) else list(keep) if isinstance(keep, Iterable) else [keep]
    if not all(isinstance(name, str) for name in kept):
        raise SymmetryError(f"keep: {keep!r} holds no names. Expected names of layers, like ['head']. Pass such.")
    return kept


def _rank(model: Any) -> int:
    inputs = model.inputs
    rank = max((len(tensor.shape) - 2 for tensor in inputs), default=0)
    if rank not in (1, 2, 3):
        raise SymmetryError(
            f"model: its inputs {[tuple(tensor.shape) for tensor in inputs]} hold no pictures. Expected (batch, "
            "*positions, channels) with 1 to 3 axes of positions. Pass a network for pictures."
        )
    return rank


def _check(model: Any, kept: list[str]) -> None:
    found = list(layers_of(model))
    ours = next((name for name, layer in found if type(layer).__module__.startswith(_OURS)), None)
    if ours is not None:
        raise SymmetryError(
            f"model: {ours!r} is a layer of this package already. Expected a network of ordinary layers. "
            "Convert the network that it was made from."
        )
    if not any(isinstance(layer, (*CONVS, *DEPTHWISE, *SEPARABLE)) for _, layer in found):
        raise SymmetryError(
            "model: no convolution is in it. Expected Conv1D, 2D, 3D or transposed ones. Pass a model that has some."
        )
    paths = {path for name, _ in found for path in accumulate(name.split("/"), "{}/{}".format)}
    for name in kept:
        if name not in paths | {path.split("/")[-1] for path in paths}:
            raise SymmetryError(
                f"keep: {name!r} is no layer of the model. Expected names of its layers, or paths like "
                "'encoder/conv' into models inside it. Use such."
            )


class _Surgeon:
    """Makes the new layers, once it is known what meets pictures and what gives answers."""

    def __init__(self, kind: str, follower: Follower, hybrid: bool) -> None:
        self._kind, self._follower = kind, follower
        self._hybrid = hybrid  # whether something stays ordinary, and with it what is between that and pictures

    def made(self, layer: Any) -> Made | None:
        """What becomes of a layer; None where it stays."""
        if id(layer) in self._follower.kept:
            return None
        name = self._follower.layers[id(layer)][0]
        try:
            return self._form(name, layer)
        except ValueError as refusal:
            if str(refusal).startswith("model:"):
                raise
            raise SymmetryError(f"model: {name!r} cannot be converted. {refusal}") from None

    def _form(self, name: str, layer: Any) -> Made | None:
        if kind_of(layer, WEIGHS):
            return self._weighing(name, layer)
        if any(layer is pad and self._pads(reader) for reader, pad in self._follower.pads.items()):
            return passing(layer)
        if self._follower.is_plain(layer):
            if kind_of(layer, DEPTHWISE):
                self._refuse_pictures(name, layer)
            return None
        if kind_of(layer, DEPTHWISE):
            return depthwise(layer, Orbits(*[self._through(name, layer)] * 2), self._follower.pads.get(id(layer)))
        if kind_of(layer, NORMS):
            return orbit_norm(layer, {self._kind: "100%"})
        if kind_of(layer, (keras.layers.PReLU,)):
            return self._slopes(name, layer)
        if id(layer) in self._follower.vectors:
            return shared(layer, {self._kind: "100%"})
        if kind_of(layer, OPERATORS):
            return in_the_mirror(layer, {self._kind: "100%"})
        return None

    def _weighing(self, name: str, layer: Any) -> Made | None:
        unreadable(name, layer)
        plain, answers = self._follower.is_plain(layer), self._follower.answers_plain(layer)
        whole = {self._kind: "100%"}
        if plain and (kind_of(layer, SEPARABLE) or (answers and kind_of(layer, CONVS))):
            self._refuse_pictures(name, layer)
            return None
        if kind_of(layer, SEPARABLE):
            reads = self._through(name, layer)

            def out(second: Any) -> Made:
                return (
                    invariant_conv(second, reads)
                    if answers
                    else conv(second, self._orbits(name, layer, whole), "mirrored")
                )

            return separable(layer, reads, out, self._follower.pads.get(id(layer)))
        if kind_of(layer, (keras.layers.Dense,)):
            if plain and answers:
                return None
            return dense(layer, Orbits(None if plain else whole, None if answers else self._whole(name, layer.units)))
        if not answers:
            orbits = self._orbits(name, layer, None if plain else whole)
            return conv(layer, orbits, "mirrored", self._follower.pads.get(id(layer)))
        return invariant_conv(layer, whole)

    def _refuse_pictures(self, name: str, layer: Any) -> None:
        """Refuses layers that read pictures and cannot make orbits of them; beside what is kept they are ordinary."""
        if self._hybrid:
            return
        if kind_of(layer, CONVS):
            raise SymmetryError(
                f"model: {name!r} reads a picture and gives an answer, with no orbits between. Expected two layers at "
                "least, one into orbits and one out of them. Add one, or keep it ordinary with keep."
            )
        raise SymmetryError(
            f"model: {name!r}, {article(layer)}, reads a picture channel by channel. Expected an ordinary "
            "convolution there. Use one, or keep that part ordinary with keep."
        )

    def _pads(self, reader: int) -> bool:
        """Whether the convolution of this id can do the padding before it by itself."""
        _, layer = self._follower.layers[reader]
        if kind_of(layer, CONVS):
            return not self._follower.answers_plain(layer)
        return not self._follower.is_plain(layer)

    def _orbits(self, name: str, layer: Any, inputs: Any) -> Orbits:
        groups = getattr(layer, "groups", 1)
        depthwise = inputs is not None and groups == layer.filters and layer.kernel.shape[-2] == 1
        return Orbits(inputs, self._whole(name, layer.filters, 1 if depthwise else groups))

    def _whole(self, name: str, channels: int, groups: int = 1) -> dict[str, int]:
        size = orbit_size(self._kind) * groups
        if channels % size:
            raise SymmetryError(
                f"model: {name!r} has {channels} output channels, which are no whole orbits of {self._kind!r}. "
                f"Expected a multiple of {size}. Use such a number, or keep that part ordinary with keep."
            )
        return {self._kind: channels}

    def _through(self, name: str, layer: Any) -> dict[str, str]:
        """How the channels of a depthwise convolution are arranged, before and after."""
        if layer.depth_multiplier != 1:
            raise SymmetryError(
                f"model: {name!r} makes {layer.depth_multiplier} channels of each one. Expected depth_multiplier=1. "
                "Use that, or keep that part ordinary with keep."
            )
        return {self._kind: "100%"}

    def _slopes(self, name: str, layer: Any) -> Made | None:
        long = [size for size in layer.alpha.shape if size > 1]
        if not long:
            return None
        if len(long) > 1:
            raise SymmetryError(
                f"model: {name!r} has slopes for each position. Expected slopes for channels alone. "
                "Use shared_axes, or keep that part ordinary with keep."
            )
        return orbit_prelu(layer, {self._kind: "100%"})
