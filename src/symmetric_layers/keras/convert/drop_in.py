"""The drop-in use on a whole model: mirrored filter banks in every convolution, nothing else changes."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

from symmetric_layers.counts import readable
from symmetric_layers.errors import SymmetryError
from symmetric_layers.keras.convert.kinds import CONVS, each_of, kind_of
from symmetric_layers.keras.convert.made import Made, Orbits, around, conv
from symmetric_layers.keras.convert.rebuild import rebuilt
from symmetric_layers.keras.convert.walk import layers_of, no_network, unreadable
from symmetric_layers.letters import LETTERS
from symmetric_layers.start import Start


def symmetrize(
    model: Any, symmetry: Mapping[str, int | str], *, where: Callable[[str, Any], bool] | None = None
) -> Any:
    """Gives every convolution of a model mirrored filter banks; nothing else changes.

    Half, a quarter or an eighth of the weights are left, and features come in mirror images. The network as a whole
    does not obey the law, its layers do: `equivariant` is for that.

    Equivalent to: writing `SymmetricConv2D(..., symmetry=symmetry)` for every `Conv2D(...)`, likewise in 1-D, 3-D and
    transposed. Each orbit starts from the filter and the bias that stood where its representative stands.

    Args:
        model: a Sequential or functional model, with others inside it or not. It stays as it is.
        symmetry: how many filters of every layer belong to each kind; percentages fit all layers, and a layer too
            small for a whole orbit keeps its filters free.
        where: which convolutions, by name and layer: `lambda name, conv: conv.kernel_size != (1, 1)`. None: all.
            Layers of models inside the model have paths for names: `'encoder/conv'`.

    Returns:
        A new model with the same names, compiled like the old one; its optimizer starts afresh.

    Raises:
        SymmetryError: for a symmetry that does not fit a layer, for a layer that cannot be read, for a model without a
            graph, and where no layer is left to convert.

    Example:
        >>> from keras import Sequential, layers
        >>> model = Sequential([layers.Input((28, 28, 1)), layers.Conv2D(16, 3), layers.ReLU(), layers.Conv2D(4, 1)])
        >>> tuple(symmetrize(model, {'hv': '50%'}).layers[0].kernel.shape)
        (3, 3, 1, 10)
    """
    no_network(model)
    readable(symmetry, len(LETTERS))
    names = {id(layer): name for name, layer in layers_of(model)}
    found = [(name, each_of(layer)) for name, layer in layers_of(model)]
    chosen = [layer for name, layer in found if kind_of(layer, CONVS) and (not where or where(name, layer))]
    if not chosen:
        raise SymmetryError(
            "model: no ordinary convolution is left in it. Expected Conv1D, 2D, 3D or transposed ones. "
            "Pass a model that has some, or a wider where."
        )
    mine = {id(layer) for layer in chosen}

    def make(layer: Any) -> Made | None:
        own = each_of(layer)
        if id(own) not in mine:
            return None
        unreadable(names[id(layer)], own)
        try:
            new, fill = conv(own, Orbits(None, symmetry), "shared", Start())
            return (new if own is layer else around(layer, new)), fill
        except SymmetryError as refusal:
            raise SymmetryError(f"model: {names[id(layer)]!r} cannot have this symmetry. {refusal}") from None

    with warnings.catch_warnings():  # a layer that is too small for a percentage keeps its filters free
        warnings.filterwarnings("ignore", message=".*leaves no whole orbit", category=UserWarning)
        return rebuilt(model, make)
