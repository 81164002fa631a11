"""Convolutions that treat every channel alone, and the pointwise ones after them."""

from collections.abc import Callable
from typing import Any

import keras
from keras import layers

import symmetric_layers.keras.conv as symmetric
import symmetric_layers.keras.convert.parts as parts
from symmetric_layers.keras.arranged import Symmetry
from symmetric_layers.keras.convert.config import config_of
from symmetric_layers.keras.convert.kinds import pads_of
from symmetric_layers.keras.convert.made import Made, Orbits, give, made_of, numbers_of
from symmetric_layers.start import Start


def depthwise(old: Any, orbits: Orbits, start: Start, pad: Any = None) -> Made:
    """A depthwise convolution between orbits."""
    rank = len(old.kernel_size)
    config = config_of(old)
    filters = start.wide(int(old.kernel.shape[-2]))
    for mine in ("initializer", "regularizer", "constraint"):
        config[f"kernel_{mine}"] = config.pop(f"depthwise_{mine}")
    del config["depth_multiplier"]
    more: dict[str, Any] = {
        "filters": filters,
        "groups": filters,
        "symmetry": orbits.outputs,
        "in_symmetry": orbits.inputs,
    }
    build = getattr(symmetric, f"SymmetricConv{rank}D")
    if pad is not None:
        build, more["pads"] = getattr(parts, f"PaddedSymmetricConv{rank}D"), pads_of(pad)
    new = made_of(build, {**config, **more, "grid": "mirrored"})

    def fill() -> None:
        if start.is_fresh:
            return
        chosen = start.chosen(old.kernel.shape[-2])
        new.kernel.assign(numbers_of(old.kernel).swapaxes(-1, -2).take(chosen, -1))
        give(new, old, {"bias": 0}, chosen)

    return new, fill


def separable(old: Any, reads: Symmetry, out: Callable[[Any], Made], start: Start, pad: Any = None) -> Made:
    """A depthwise convolution between orbits, and what becomes of the pointwise one after it."""
    rank, config = len(old.kernel_size), config_of(old)
    here = {name: config[name] for name in ("kernel_size", "strides", "padding", "data_format", "dilation_rate")}
    own = ("depthwise_initializer", "depthwise_regularizer", "depthwise_constraint")
    first = getattr(layers, f"DepthwiseConv{rank}D")(
        **here, use_bias=False, dtype=config["dtype"], name="depthwise", **{name: config[name] for name in own}
    )
    channels = int(old.depthwise_kernel.shape[-2])
    first.build(_shape(old, channels))
    first.kernel.assign(old.depthwise_kernel)
    second = getattr(layers, f"Conv{rank}D")(
        old.filters,
        1,
        name="pointwise",
        **{name: config[name] for name in ("data_format", "activation", "use_bias", "dtype", "activity_regularizer")},
        **{name: config[name] for name in ("bias_initializer", "bias_regularizer", "bias_constraint")},
        **{name.replace("depthwise", "kernel"): config[name.replace("depthwise", "pointwise")] for name in own},
    )
    second.build(_shape(old, channels))
    second.kernel.assign(old.pointwise_kernel)
    if old.use_bias:
        second.bias.assign(old.bias)
    (deep, fill_deep), (point, fill_point) = depthwise(first, Orbits(reads, reads), start, pad), out(second)

    def fill() -> None:
        fill_deep()
        fill_point()

    new = keras.Sequential([deep, point], name=old.name)
    new.trainable = old.trainable
    return new, fill


def _shape(old: Any, channels: int) -> tuple[int | None, ...]:
    positions = (None,) * len(old.kernel_size)
    return (None, *positions, channels) if old.data_format == "channels_last" else (None, channels, *positions)
