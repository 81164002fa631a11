"""Convolutions that treat every channel alone, and the pointwise ones after them."""

from collections.abc import Callable
from typing import Any

import keras
from keras import layers

import symmetric_layers.keras.conv as symmetric
import symmetric_layers.keras.convert.own_mirrors as own_mirrors
import symmetric_layers.keras.convert.parts as parts
from symmetric_layers.keras.arranged import Symmetry
from symmetric_layers.keras.convert.config import config_of
from symmetric_layers.keras.convert.kinds import pads_of
from symmetric_layers.keras.convert.made import Made, Orbits, first_of_orbits, made_of, numbers_of
from symmetric_layers.keras.convert.repeats import RepeatOrbits
from symmetric_layers.start import Start

_OWN = ("initializer", "regularizer", "constraint")


def depthwise(old: Any, symmetry: Symmetry, start: Start, pad: Any = None) -> Made:
    """A depthwise convolution between orbits; one that makes several channels of each first repeats the orbits."""
    channels, times = (int(size) for size in old.kernel.shape[-2:])
    filters = start.wide(channels) * times
    new = _grouped(old, Orbits(symmetry, symmetry), filters, filters, pad)
    chosen = start.chosen(channels)

    def fill() -> None:
        if start.is_fresh:
            return
        new.kernel.assign(_columns(numbers_of(old.kernel).take(chosen, -2)))
        if old.bias is not None:
            new.bias.assign(numbers_of(old.bias).reshape(channels, times).take(chosen, 0).ravel())

    if times == 1:
        return new, fill
    first = RepeatOrbits(times, symmetry=symmetry, data_format=old.data_format, dtype=old.dtype_policy, name="repeat")
    made = keras.Sequential([first, new], name=old.name)
    made.trainable = old.trainable
    return made, fill


def lifting(old: Any, symmetry: Symmetry, start: Start, pad: Any = None, more: int = 1) -> Made:
    """A depthwise convolution that makes orbits of each channel of a picture; `more` times as many channels."""
    channels, times = (int(size) for size in old.kernel.shape[-2:])
    new = _grouped(old, Orbits(None, symmetry), start.wide(channels * times * more), channels, pad)

    def fill() -> None:
        if start.is_fresh:
            return
        firsts = range(channels * times) if start.average or more > 1 else new.plan.firsts
        new.kernel.assign(_columns(numbers_of(old.kernel)).take(firsts, -1))
        if old.bias is not None:
            new.bias.assign(numbers_of(old.bias).take(firsts, 0))

    return new, fill


def own_mirror(old: Any, letters: str) -> Made:
    """A convolution between ordinary channels, depthwise or not, whose filters become their own mirrors."""
    build = getattr(own_mirrors, f"OwnMirrorConv{len(old.kernel_size)}D")
    usual = hasattr(old, "filters")
    channels, times = (int(size) for size in old.kernel.shape[-2:])
    config = config_of(old) if usual else {**_config(old), "filters": channels * times, "groups": channels}
    new = made_of(build, {**config, "letters": letters})

    def fill() -> None:
        kernel = numbers_of(old.kernel)
        new.kernel.assign(new.representatives(kernel if usual else _columns(kernel)))
        if old.bias is not None:
            new.bias.assign(old.bias)

    return new, fill


def separable(
    old: Any, reads: Symmetry, whole: Symmetry, out: Callable[[Any], Made], start: Start, pad: Any = None
) -> Made:
    """A depthwise convolution between orbits, or into them, and what becomes of the pointwise one after it."""
    rows = numbers_of(old.pointwise_kernel)
    if reads is None:  # as many orbits as there were filters: the pointwise layer mixes them
        deep, fill_deep = lifting(_depthwise_of(old), whole, Start(), pad, start.size)
        rows = first_of_orbits(rows, -2, start)
    else:
        deep, fill_deep = depthwise(_depthwise_of(old), reads, start, pad)
        rows = rows if start.average else _repeated(rows, old.depth_multiplier, start.size)
    point, fill_point = out(_pointwise_of(old, rows))

    def fill() -> None:
        fill_deep()
        if reads is None:
            _mix(point, old, rows, start)
        else:
            fill_point()

    steps = deep.layers if isinstance(deep, keras.Sequential) else [deep]
    new = keras.Sequential([*steps, point], name=old.name)
    new.trainable = old.trainable
    return new, fill


def _mix(point: Any, old: Any, rows: Any, start: Start) -> None:
    """Gives a pointwise layer that reads orbits of each filter the numbers of one that read the filters alone."""
    if start.is_fresh:
        return
    if not hasattr(point, "plan"):  # it leads out of the orbits: of the mirrors, the mean
        point.kernel.assign(numbers_of(old.pointwise_kernel) / start.size)
    else:
        point.kernel.assign(rows if start.average else rows.take(point.plan.firsts, -1))
    if old.use_bias:
        firsts = point.plan.firsts if hasattr(point, "plan") and not start.average else range(old.filters)
        point.bias.assign(numbers_of(old.bias).take(firsts, 0))


def _repeated(rows: Any, times: int, size: int) -> Any:
    """Rows for the channels of orbits that are repeated, from rows for channels that are repeated one by one."""
    apart = rows.reshape(*rows.shape[:-2], -1, size, times, rows.shape[-1])
    return apart.swapaxes(-2, -3).reshape(rows.shape)


def _depthwise_of(old: Any) -> Any:
    """The first half of a separable convolution."""
    config = config_of(old)
    names = ("kernel_size", "strides", "padding", "data_format", "dilation_rate", "depth_multiplier", "dtype")
    own = {name: config[name] for name in (*names, *(f"depthwise_{one}" for one in _OWN))}
    first = getattr(layers, f"DepthwiseConv{len(old.kernel_size)}D")(**own, use_bias=False, name="depthwise")
    first.build(_shape(old, int(old.depthwise_kernel.shape[-2])))
    first.kernel.assign(old.depthwise_kernel)
    return first


def _pointwise_of(old: Any, rows: Any) -> Any:
    """The second half of a separable convolution, with these rows."""
    config = config_of(old)
    names = ("data_format", "activation", "use_bias", "dtype", "activity_regularizer")
    own = {name: config[name] for name in (*names, *(f"bias_{one}" for one in _OWN))}
    kernel = {f"kernel_{one}": config[f"pointwise_{one}"] for one in _OWN}
    second = getattr(layers, f"Conv{len(old.kernel_size)}D")(old.filters, 1, name="pointwise", **own, **kernel)
    second.build(_shape(old, rows.shape[-2]))
    second.kernel.assign(rows)
    if old.use_bias:
        second.bias.assign(old.bias)
    return second


def _grouped(old: Any, orbits: Orbits, filters: int, groups: int, pad: Any) -> Any:
    """The symmetric convolution in groups that a depthwise one becomes."""
    rank = len(old.kernel_size)
    more: dict[str, Any] = {
        "filters": filters,
        "groups": groups,
        "symmetry": orbits.outputs,
        "in_symmetry": orbits.inputs,
    }
    build = getattr(symmetric, f"SymmetricConv{rank}D")
    if pad is not None:
        build, more["pads"] = getattr(parts, f"PaddedSymmetricConv{rank}D"), pads_of(pad)
    return made_of(build, {**_config(old), **more, "grid": "mirrored"})


def _config(old: Any) -> dict[str, Any]:
    """The config of a depthwise convolution, as one in groups has it."""
    config = config_of(old)
    for mine in _OWN:
        config[f"kernel_{mine}"] = config.pop(f"depthwise_{mine}")
    del config["depth_multiplier"]
    return config


def _columns(kernel: Any) -> Any:
    """The filters of a depthwise convolution side by side."""
    return kernel.reshape(*kernel.shape[:-2], 1, -1)


def _shape(old: Any, channels: int) -> tuple[int | None, ...]:
    positions = (None,) * len(old.kernel_size)
    return (None, *positions, channels) if old.data_format == "channels_last" else (None, channels, *positions)
