"""The drop-in use on a whole model: mirrored filter banks in every convolution, nothing else changes."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

from flax import nnx

from symmetric_layers.counts import readable
from symmetric_layers.errors import SymmetryError
from symmetric_layers.flax.convert.kinds import CONVS
from symmetric_layers.flax.convert.made import conv
from symmetric_layers.flax.convert.numbers import Numbers
from symmetric_layers.flax.convert.spied import host_of, modules_of, no_module
from symmetric_layers.letters import LETTERS
from symmetric_layers.start import Start


def symmetrize(
    model: nnx.Module, symmetry: Mapping[str, int | str], *, where: Callable[[str, Any], bool] | None = None
) -> Any:
    """Gives every convolution of a model mirrored filter banks; nothing else changes.

    Half, a quarter or an eighth of the weights are left, and features come in mirror images. The network as a whole
    does not obey the law, its layers do: `equivariant` is for that.

    Equivalent to: writing `SymmetricConv(..., symmetry=symmetry)` for every `nnx.Conv(...)`, likewise transposed. Each
    orbit starts from the filter and the bias that stood where its representative stands.

    Args:
        model: the network. It stays as it is.
        symmetry: how many filters of every layer belong to each kind; percentages fit all layers, and a layer too
            small for a whole orbit keeps its filters free.
        where: which convolutions, by name and layer: `lambda name, conv: conv.kernel_size != (1, 1)`. None: all.

    Returns:
        A copy of the model with other layers. An optimizer for it is to be made anew.

    Raises:
        SymmetryError: for a symmetry that does not fit a layer, for what is no module, and where no layer is left to
            convert.

    Example:
        >>> rngs = nnx.Rngs(0)
        >>> model = nnx.Sequential(nnx.Conv(1, 16, (3, 3), rngs=rngs), nnx.relu, nnx.Conv(16, 4, (1, 1), rngs=rngs))
        >>> symmetrize(model, {'hv': '50%'}).layers[0].kernel.shape
        (3, 3, 1, 10)
    """
    no_module(model)
    readable(symmetry, len(LETTERS))
    new, numbers = nnx.clone(model), Numbers()
    found = [(name, layer) for name, layer in modules_of(new) if host_of(layer, CONVS)]
    chosen = [(name, layer) for name, layer in found if where is None or where(name, layer)]
    if not chosen:
        raise SymmetryError(
            "model: no ordinary convolution is left in it. Expected nnx.Conv or nnx.ConvTranspose. "
            "Pass a model that has some, or a wider where."
        )
    with warnings.catch_warnings():  # a layer that is too small for a percentage keeps its filters free
        warnings.filterwarnings("ignore", message=".*leaves no whole orbit", category=UserWarning)
        for name, layer in chosen:
            try:
                conv(numbers, layer, symmetry, None, "shared", Start())
            except SymmetryError as refusal:
                raise SymmetryError(f"model: {name!r} cannot have this symmetry. {refusal}") from None
    numbers.apply()
    return new
