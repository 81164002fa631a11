"""Layers with orbits out of ordinary ones: the same arguments, and the ordinary layer's own numbers."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from keras import layers, ops

import symmetric_layers.keras.conv as symmetric
import symmetric_layers.keras.convert.parts as parts
import symmetric_layers.keras.invariant as invariant
import symmetric_layers.keras.norm as norm
from symmetric_layers.errors import SymmetryError
from symmetric_layers.keras.arranged import Symmetry
from symmetric_layers.keras.convert.config import config_of, lambda_of, widened
from symmetric_layers.keras.convert.flat import FlatDense
from symmetric_layers.keras.convert.kinds import each_of, is_depthwise, kind_of, pads_of
from symmetric_layers.keras.convert.order import Flat
from symmetric_layers.keras.convert.parts import OrbitPReLU, OrbitShared, SymmetricDense, long_axis
from symmetric_layers.keras.convert.walk import article
from symmetric_layers.keras.mirrored import Mirrored
from symmetric_layers.start import Start

Made = tuple[Any, Callable[[], None]]  # a new layer, and what gives it its numbers once it is built

_NORMS: dict[type, Any] = {
    layers.BatchNormalization: norm.OrbitBatchNormalization,
    layers.LayerNormalization: norm.OrbitLayerNormalization,
    layers.GroupNormalization: norm.OrbitGroupNormalization,
}


class Orbits(NamedTuple):
    """How the channels stand that a layer reads and those that it makes; None: ordinary ones."""

    inputs: Symmetry
    outputs: Symmetry


def made_of(build: Any, config: dict[str, Any]) -> Any:
    """A layer of a config; a refusal as it was worded, and not as the host wraps it."""
    try:
        return build.from_config(config)
    except TypeError as error:
        if isinstance(error.__context__, SymmetryError):
            raise error.__context__ from None
        raise


def again(old: Any, dtype: str | None = None, **instead: Any) -> Any:
    """The same layer anew, with some arguments changed where its config has them."""
    wider = {"dtype": dtype} if dtype else {}
    if kind_of(old, (layers.Lambda,)):
        return lambda_of(old, **wider)
    if each_of(old) is not old:
        return around(old, again(old.layer, dtype, **instead), dtype)
    config = {**config_of(old), **wider}
    if dtype and isinstance(old, layers.Wrapper):
        config = widened(config, dtype)
    config.update({name: value for name, value in instead.items() if name in config})
    more = {"safe_mode": False} if isinstance(old, layers.Lambda) else {}  # a function that lives here already
    try:
        new = type(old).from_config(config, **more)
    except TypeError as error:
        reason = str(error.__context__ or error).strip().splitlines()[0].rstrip(".")
        raise SymmetryError(
            f"model: {old.name!r}, {article(old)}, cannot be made again from its config ({reason}). Expected a "
            "get_config that says all that __init__ asks for, dtype and name among it. Write such a one."
        ) from error
    new.name = old.name
    return new


def around(old: Any, new: Any, dtype: str | None = None) -> Any:
    """A new layer that is called for each moment as an old one was."""
    return layers.TimeDistributed(new, name=old.name, dtype=dtype or old.dtype_policy, trainable=old.trainable)


def copied(old: Any) -> Made:
    """The same layer again, with its numbers."""
    new = again(old)
    return new, lambda: new.set_weights(old.get_weights())


def conv(old: Any, orbits: Orbits, grid: str, start: Start, pad: Any = None) -> Made:
    """A convolution that makes orbits; every orbit starts from the filter that its representative was."""
    asked: dict[str, Any] = {"symmetry": orbits.outputs, "in_symmetry": orbits.inputs, "grid": grid}
    alone = orbits.inputs is not None and is_depthwise(old)
    asked["filters"] = start.wide(old.filters)
    if alone:
        asked["groups"] = asked["filters"]
    if pad is None:
        build = getattr(symmetric, f"Symmetric{type(old).__name__}")
    else:
        build = getattr(parts, f"PaddedSymmetric{type(old).__name__}")
        asked["pads"] = pads_of(pad)
    new = made_of(build, {**config_of(old), **asked})

    def fill() -> None:
        out, into = (-2, -1) if new._transposed else (-1, -2)
        if start.average:
            new.kernel.assign(first_of_orbits(old.kernel, into, start if orbits.inputs and not alone else Start()))
            give(new, old, {"bias": 0}, None)
        elif not start.is_fresh:
            give(new, old, {"kernel": out, "bias": 0}, new.plan.firsts)

    return new, fill


def invariant_conv(old: Any, in_symmetry: Symmetry, start: Start) -> Made:
    """A convolution whose answers are ordinary."""
    build = getattr(invariant, f"Invariant{type(old).__name__}")
    new = made_of(build, {**config_of(old), "in_symmetry": in_symmetry})

    def fill() -> None:
        if start.average:
            new.kernel.assign(numbers_of(old.kernel) / start.size)
        elif not start.is_fresh:
            give(new, old, {"kernel": -1 if new._transposed else -2}, new._group.firsts)
        if not start.is_fresh:
            give(new, old, {"bias": 0}, None)

    return new, fill


def dense(old: Any, orbits: Orbits, start: Start) -> Made:
    """A dense layer between orbits, or one that leads out of them."""
    config = {**config_of(old), "in_symmetry": orbits.inputs}
    new: Any
    if orbits.outputs is None:
        new = made_of(invariant.OrbitDense, config)
    else:
        new = made_of(SymmetricDense, {**config, "units": start.wide(old.units), "symmetry": orbits.outputs})

    def fill() -> None:
        out = orbits.outputs is not None
        if start.average:
            numbers = first_of_orbits(old.kernel, 0, start if out and orbits.inputs else Start())
            new.kernel.assign(numbers if out else numbers / start.size)
            give(new, old, {"bias": 0}, None)
        elif not start.is_fresh:
            give(new, old, {"kernel": 1 if out else 0}, new.plan.firsts)
            give(new, old, {"bias": 0}, new.plan.firsts if out else None)

    return new, fill


def flat_dense(old: Any, flat: Flat, orbits: Orbits, start: Start) -> Made:
    """A dense layer on a flattened map."""
    shape = list(flat.shape)
    if orbits.inputs is not None:
        shape[flat.axis] = start.wide(shape[flat.axis])
    out = orbits.outputs is not None
    more: dict[str, Any] = {"shape": shape, "axis": flat.axis, "symmetry": orbits.outputs, "in_symmetry": orbits.inputs}
    new = made_of(FlatDense, {**config_of(old), **more, **({"units": start.wide(old.units)} if out else {})})

    def fill() -> None:
        if start.average:
            numbers = numbers_of(old.kernel)
            if out and orbits.inputs:
                numbers = numbers_of(new.flattened(first_of_orbits(new.as_map(old.kernel), -2, start)))
            new.kernel.assign(numbers if out else numbers / start.size)
            give(new, old, {"bias": 0}, None)
        elif out and not start.is_fresh:
            give(new, old, {"kernel": 1, "bias": 0}, new.plan.firsts)
        elif not start.is_fresh:
            new.kernel.assign(new.representatives(old.kernel))
        if not (out or start.is_fresh):
            give(new, old, {"bias": 0}, None)

    return new, fill


def orbit_norm(old: Any, symmetry: Symmetry, start: Start) -> Made:
    """A norm for orbits."""
    more: dict[str, Any] = {"symmetry": symmetry}
    if isinstance(old, layers.GroupNormalization) and [old.groups] == list(old.input_spec.axes.values()):
        more["groups"] = -1  # every channel by itself
    new = made_of(_NORMS[type(old)], {**config_of(old), **more})
    names = ("gamma", "beta", "moving_mean", "moving_variance")
    return new, lambda: _choose(new, old, dict.fromkeys(names, 0), start)


def orbit_prelu(old: Any, symmetry: Symmetry, start: Start) -> Made:
    """Slopes that orbits share."""
    new = made_of(OrbitPReLU, {**config_of(old), "symmetry": symmetry})
    return new, lambda: _choose(new, old, {"alpha": new._axis - 1}, start)


def shared(old: Any, symmetry: Symmetry, start: Start) -> Made:
    """A layer of somebody's own whose numbers for each channel orbits share."""
    new = OrbitShared(again(old), symmetry=symmetry, name=old.name, dtype=old.dtype_policy)
    new.trainable = old.trainable

    def fill() -> None:
        for name, stored in new.stored.items():
            values = numbers_of(getattr(old, name))
            axis = long_axis(values)
            stored.assign(values if axis is None else values.take(start.chosen(values.shape[axis]), axis))

    return new, fill


def passing(old: Any) -> Made:
    """A layer that does nothing, in the place of one whose work another does."""
    same = {name: config_of(old)[name] for name in ("name", "dtype")}
    return layers.Identity.from_config(same), lambda: None


def in_the_mirror(old: Any, symmetry: Symmetry) -> Made:
    """A layer without weights, seen in the mirror by the mirrors of an orbit."""
    own, _ = copied(old)
    return Mirrored(own, symmetry, name=old.name, dtype=own.dtype_policy), lambda: None


def give(new: Any, old: Any, names: Mapping[str, int], firsts: Sequence[int] | None) -> None:
    """Gives a new layer the entries of representatives, along an axis for each name."""
    for name, axis in names.items():
        values = getattr(old, name, None)
        if values is not None:
            numbers = numbers_of(values)
            getattr(new, name).assign(numbers if firsts is None else numbers.take(firsts, axis))


def _choose(new: Any, old: Any, names: Mapping[str, int], start: Start) -> None:
    """Gives a new layer for each of its orbits the entry of an old channel, along an axis for each name."""
    for name, axis in names.items():
        values = getattr(old, name, None)
        if values is not None:
            getattr(new, name).assign(numbers_of(values).take(start.chosen(values.shape[axis]), axis))


def first_of_orbits(kernel: Any, axis: int, start: Start) -> Any:
    """Filters that read the first member of each orbit, and nothing of the others."""
    full = numbers_of(kernel).repeat(start.size, axis)
    for member in range(1, start.size):
        full.swapaxes(0, axis)[member :: start.size] = 0
    return full


def numbers_of(weight: Any) -> Any:
    """A weight as an array: picking entries of that takes no compiler, as it does on some backends."""
    return ops.convert_to_numpy(weight)
