"""The way back: ordinary layers with the full weights, for tools that know nothing else."""

from collections.abc import Callable
from typing import Any

import keras
from keras import layers, ops

from symmetric_layers.errors import SymmetryError
from symmetric_layers.keras.channels import expand_bias, spread
from symmetric_layers.keras.convert.attention import OrbitMultiHeadAttention, ordinary_attention
from symmetric_layers.keras.convert.config import config_of
from symmetric_layers.keras.convert.einsum import OrbitEinsumDense
from symmetric_layers.keras.convert.flat import FlatDense
from symmetric_layers.keras.convert.grids import Axis, axis_of, axis_of_transposed, placed
from symmetric_layers.keras.convert.kinds import CONVS, NORMS, each_of, pads_of
from symmetric_layers.keras.convert.looked_up import OrbitEmbedding
from symmetric_layers.keras.convert.made import Made, around, copied, made_of
from symmetric_layers.keras.convert.parts import OrbitPReLU, OrbitShared, SymmetricDense
from symmetric_layers.keras.convert.rebuild import rebuilt
from symmetric_layers.keras.convert.repeats import RepeatOrbits
from symmetric_layers.keras.convert.walk import article, is_ours, layers_of, no_network
from symmetric_layers.keras.grid import is_lopsided
from symmetric_layers.keras.invariant import OrbitDense
from symmetric_layers.keras.mirrored import Mirrored
from symmetric_layers.letters import LETTERS

_ASKED = ("symmetry", "in_symmetry", "share_bias", "grid", "pads", "lora_rank", "lora_alpha", "letters")
_OF_MAPS = (*_ASKED, "shape", "axis")


def desymmetrize(model: Any) -> Any:
    """Turns a model with symmetric layers back into one of ordinary layers: same answers, nothing of this package left.

    For tools that know `Conv2D` and nothing else, and for colleagues without this package. The weights are written
    out in full, so trained further the model would lose its symmetry. What LoRA has adapted is merged.

    Equivalent to: `Conv2D` with `full_kernel()` and `full_bias()`, and so on. A mirrored grid becomes a convolution
    with a kernel wider by what stride and size leave over, on pictures padded before.

    In training mode only batch norms differ: an ordinary one knows no orbits to take statistics over.

    Law: what held before holds after; where grids are mirrored, at the size that the model's input says.

    Args:
        model: a Sequential or functional model with layers of this package. It stays as it is.

    Returns:
        The ordinary model, with the same names, compiled like the old one.

    Raises:
        SymmetryError: for a model without such layers, for mirrored grids at sizes that the model leaves open, and for
            what has no ordinary form at these sizes.

    Example:
        >>> model = keras.Sequential([keras.Input((8, 8, 1)), SymmetricConv2D(4, 3, symmetry={'h': 4})])
        >>> plain = desymmetrize(model)
        >>> type(plain.layers[0]).__name__, tuple(plain.layers[0].kernel.shape)
        ('Conv2D', (3, 3, 1, 4))
    """
    no_network(model)
    names = {id(layer): name for name, layer in layers_of(model)}
    if not any(is_ours(layer) or is_ours(_inside(layer)) for _, layer in layers_of(model)):
        raise SymmetryError(
            "model: no layer of this package is in it. Expected symmetric layers. Nothing is left to be done."
        )
    for name, layer in layers_of(model):
        if not is_ours(layer) and is_ours(_inside(layer)) and each_of(layer) is layer:
            raise SymmetryError(
                f"model: {name!r} wraps a layer of this package. Expected symmetric layers that stand by themselves. "
                "Take it out of the part that is converted."
            )

    def make(layer: Any) -> Made | None:
        own = each_of(layer)
        if not is_ours(own):
            return None
        read = keras.tree.flatten(layer.input)[0].shape
        shape = read if own is layer else (read[0], *read[2:])
        new, fill = _ordinary(names[id(layer)], own, shape)
        return (new if own is layer else around(layer, new)), fill

    return rebuilt(model, make)


def _inside(layer: Any) -> Any:
    """What a wrapper of the host holds."""
    return layer.layer if isinstance(layer, layers.Wrapper) else None


def _ordinary(name: str, layer: Any, shape: Any) -> Made:
    if isinstance(layer, Mirrored):
        return _operator(name, layer, shape)
    if isinstance(layer, CONVS):
        return _conv(name, layer, shape)
    if issubclass(_host_of(layer), NORMS):
        values = ("gamma", "beta", "moving_mean", "moving_variance")
        return _host(layer, {value: lambda kept: expand_bias(kept, layer.plan) for value in values})
    if isinstance(layer, (OrbitDense, SymmetricDense, FlatDense)):
        bias = (lambda: layer.bias) if isinstance(layer, OrbitDense) else layer.full_bias
        return _host(layer, {"kernel": lambda kept: layer.full_kernel(), "bias": lambda kept: bias()})
    if isinstance(layer, OrbitEinsumDense):
        return _host(layer, {"kernel": lambda kept: layer.full_kernel(), "bias": lambda kept: layer.full_bias()})
    if isinstance(layer, OrbitMultiHeadAttention):
        return ordinary_attention(layer)
    if isinstance(layer, OrbitEmbedding):
        return _host(layer, {"embeddings": lambda kept: layer.full_embeddings()})
    if isinstance(layer, RepeatOrbits):
        return _repeat(layer, len(shape) - 2)
    if isinstance(layer, OrbitPReLU):
        return _host(layer, {"alpha": lambda kept: spread(kept, layer.plan, layer._axis - 1)})
    if isinstance(layer, OrbitShared):
        return _shared(layer)
    raise SymmetryError(
        f"model: {name!r}, {article(layer)}, has no ordinary form. Expected convolutions, norms, dense layers "
        "and layers without weights in the mirror. Take it out of the part that is converted."
    )


def _host_of(layer: Any) -> Any:
    return next(base for base in type(layer).__mro__ if base.__module__.startswith("keras."))


def _host(layer: Any, full: dict[str, Callable[[Any], Any]]) -> Made:
    """The host's own layer, with numbers written out."""
    asked = _OF_MAPS if isinstance(layer, FlatDense) else _ASKED
    new = made_of(_host_of(layer), {key: value for key, value in config_of(layer).items() if key not in asked})

    def fill() -> None:
        for name, written in full.items():
            kept = getattr(layer, name, None)
            if kept is not None:
                getattr(new, name).assign(written(kept))

    return new, fill


def _repeat(layer: RepeatOrbits, rank: int) -> Made:
    """Channels that stand several times: what a pointwise convolution of zeros and ones gives."""
    numbers, channels = layer.numbers(), layer.plan.filters
    more = {"data_format": layer.data_format, "dtype": layer.dtype_policy, "trainable": False}
    new = getattr(layers, f"Conv{rank}D")(len(numbers), 1, use_bias=False, name=layer.name, **more)
    ones = [[float(number == channel) for number in numbers] for channel in range(channels)]
    return new, lambda: new.kernel.assign(ops.reshape(ops.convert_to_tensor(ones), new.kernel.shape))


def _shared(layer: Any) -> Made:
    """The layer of somebody's own, with one number for each channel."""
    new, _ = copied(layer.layer)

    def fill() -> None:
        for name, values in layer.full().items():
            getattr(new, name).assign(values)

    return new, fill


def _conv(name: str, layer: Any, shape: Any) -> Made:
    axes = _grid(name, layer, shape)
    full_bias = getattr(layer, "full_bias", lambda: layer.bias)
    if all(axis.simple for axis in axes) and not hasattr(layer, "pads"):
        return _host(layer, {"kernel": lambda kept: layer.full_kernel(), "bias": lambda kept: full_bias()})
    config = {key: value for key, value in config_of(layer).items() if key not in _ASKED}
    kernel = layer.full_kernel()
    for index, axis in enumerate(axes):
        kernel = placed(kernel, layer, index, axis)
    config.update(kernel_size=tuple(kernel.shape[: len(axes)]), dilation_rate=1, padding="valid")
    config.update({"output_padding": None} if layer._transposed else {})
    new = _host_of(layer).from_config({**config, "name": "convolution", "activation": None})
    around = [_room(layer, axes), new] if not layer._transposed else [new, _room(layer, axes)]
    around += [layers.Activation(layer.activation, dtype=config["dtype"])]
    made = keras.Sequential(around, name=layer.name)
    made.trainable = layer.trainable

    def fill() -> None:
        new.kernel.assign(kernel)
        if layer.use_bias:
            new.bias.assign(full_bias())

    return made, fill


def _grid(name: str, layer: Any, shape: Any) -> list[Axis]:
    """How one ordinary convolution covers the grids of a layer, along every axis."""
    rank = len(layer.kernel_size)
    kinds = layer.inputs.kinds if hasattr(layer, "inputs") else layer.plan.kinds
    lettered = {letter for kind in kinds for letter in kind}
    sizes = layer._positions(keras.KerasTensor(shape))
    crooked = layer._crooked(sizes) if getattr(layer, "grid", "mirrored") == "mirrored" else ""
    pads = getattr(layer, "pads", ((0, 0),) * rank)
    found = []
    for index, (size, pad) in enumerate(zip(sizes, pads, strict=True)):
        letter = LETTERS[rank - 1 - index]
        mirrored = letter in lettered and letter in crooked
        if set(crooked) & lettered and size is None and not layer._transposed and layer.strides[index] > 1:
            raise SymmetryError(
                f"model: {name!r} has a mirrored grid, and the model leaves its size open. Expected an input of a "
                "known size. Make the model for one size."
            )
        if layer._transposed:
            axis = axis_of_transposed(layer, index, mirrored)
        else:
            axis = axis_of(layer, index, size, pad, mirrored)
        found.append(axis)
    return found


def _room(layer: Any, axes: list[Axis]) -> Any:
    """What is added before a convolution, or cut off after a transposed one."""
    sides = [(axis.before, axis.after) for axis in axes]
    rank, more = len(sides), {"data_format": layer.data_format, "dtype": layer.get_config()["dtype"]}
    sort = "Cropping" if layer._transposed else "ZeroPadding"
    if sort == "Cropping" and rank == 1 and layer.data_format == "channels_last":
        del more["data_format"]  # the only one that the host knows there
    return getattr(layers, f"{sort}{rank}D")(sides[0] if rank == 1 else sides, **more)


def _operator(name: str, layer: Any, shape: Any) -> Made:
    """A layer that is its own mirror image at these sizes."""
    inner = layer.layer
    positions = shape[1:-1] if layer._axis() == -1 else shape[2:]
    if isinstance(inner, (layers.ZeroPadding1D, layers.ZeroPadding2D, layers.ZeroPadding3D)):
        even = all(before == after for before, after in pads_of(inner))
    elif hasattr(inner, "cropping"):
        even = all(before == after for before, after in ([inner.cropping] if len(positions) == 1 else inner.cropping))
    elif hasattr(inner, "pool_size"):
        even = _fits(inner, positions)
    else:
        even = isinstance(inner, (layers.UpSampling1D, layers.UpSampling2D, layers.UpSampling3D))
    if not even:
        raise SymmetryError(
            f"model: {name!r}, {article(inner)} in the mirror, has no ordinary form at pictures of "
            f"{tuple(positions)}. Expected sizes at which it is its own mirror image. Make the model for such a size."
        )
    new, _ = copied(inner)
    new.name = layer.name
    return new, lambda: None


def _fits(pool: Any, positions: Any) -> bool:
    """Whether the windows of a pool lie alike from both sides."""
    windows = zip(positions, pool.pool_size, pool.strides, strict=True)
    return None not in positions and not any(is_lopsided(pool.padding, *axis) for axis in windows)
