"""The way back: ordinary layers with the full weights, for tools that know nothing else."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from symmetric_layers.errors import SymmetryError
from symmetric_layers.flax.channels import spread
from symmetric_layers.flax.convert.grids import axes_of, axes_of_transposed, placed
from symmetric_layers.flax.convert.made import NORMS
from symmetric_layers.flax.convert.measure import without_chance
from symmetric_layers.flax.convert.numbers import Numbers
from symmetric_layers.flax.convert.parts import OrbitParam, SymmetricLinear
from symmetric_layers.flax.convert.spied import become, is_ours, modules_of, no_module, spied, variables_of
from symmetric_layers.flax.convert.traced import arrays_of
from symmetric_layers.flax.grid import lopsided, lopsided_transposed
from symmetric_layers.flax.invariant import InvariantConv, InvariantConvTranspose, OrbitLinear
from symmetric_layers.flax.law import call
from symmetric_layers.flax.mirrored import Mirrored

_CONVS = (nnx.Conv, nnx.ConvTranspose)
_HOSTS: dict[type, type] = {kind: host for host, kind in NORMS.items()}


def desymmetrize(model: nnx.Module, *, example: Any = None) -> Any:
    """Turns a model with symmetric layers back into one of ordinary layers: same answers, nothing of this package left.

    For tools that know `nnx.Conv` and nothing else, and for colleagues without this package. The weights are written
    out in full, so trained further the model would lose its symmetry.

    Equivalent to: `nnx.Conv` with `full_kernel()` and `full_bias()`, and so on. A mirrored grid becomes a convolution
    with a kernel wider by what stride and size leave over, on pictures padded accordingly.

    In training mode only batch norms differ: an ordinary one knows no orbits to take statistics over.

    Law: what held before holds after; where grids are mirrored, at the sizes of the example.

    Args:
        model: a network with layers of this package. It stays as it is.
        example: an input, as in `equivariant`: needed for mirrored grids whose form depends on the size, and for
            functions that are seen in the mirror.

    Returns:
        A copy of the model with ordinary layers.

    Raises:
        SymmetryError: for a model without such layers, for mirrored grids without an example, and for what has no
            ordinary form at its sizes.

    Example:
        >>> model = nnx.Sequential(SymmetricConv(1, 4, (3, 3), symmetry={'h': 4}, rngs=nnx.Rngs(0)), nnx.relu)
        >>> plain = desymmetrize(model)
        >>> type(plain.layers[0]).__name__, plain.layers[0].kernel.shape
        ('Conv', (3, 3, 1, 4))
    """
    no_module(model)
    new = nnx.clone(model)
    ours = [(name, module) for name, module in modules_of(new) if is_ours(module)]
    shared = [(name, variable) for name, variable in variables_of(new) if isinstance(variable, OrbitParam)]
    if not ours and not shared:
        raise SymmetryError(
            "model: no layer of this package is in it. Expected symmetric layers. Nothing is left to be done."
        )
    seen = {} if example is None else _shapes(new, example)
    numbers, operators = Numbers(), {}
    for name, module in ours:
        if isinstance(module, Mirrored):
            operators[name] = _operator(name, module, seen.get(name))
        else:
            _ordinary(numbers, name, module, seen.get(name))
    for _, variable in shared:
        _numbers(numbers, variable)
    if "" in operators:
        return operators[""]
    for name, operator in operators.items():
        owner, _, attribute = name.rpartition(".")
        setattr(dict(modules_of(new))[owner], attribute, nnx.static(operator) if callable(operator) else operator)
    return new


def _shapes(model: nnx.Module, example: Any) -> dict[str, list[tuple[int, ...]]]:
    """The shapes of all pictures that a module is called with."""
    found: dict[str, list[tuple[int, ...]]] = {}

    def see(name: str, own: Any, *arguments: Any, **others: Any) -> Any:
        first = arrays_of((arguments, others))[0]
        if first:
            found.setdefault(name, []).append(tuple(first[0].shape))
        return own(*arguments, **others)

    quiet = without_chance(model)
    quiet.eval()
    graph, state = nnx.split(spied(quiet, see))
    arrays, filled = arrays_of(example)
    jax.eval_shape(lambda numbers, given: call(nnx.merge(graph, numbers), filled(given)), state, arrays)
    return found


def _ordinary(numbers: Numbers, name: str, layer: Any, shapes: Any) -> None:
    if isinstance(layer, _CONVS):
        _conv(numbers, name, layer, shapes)
    elif isinstance(layer, (SymmetricLinear, OrbitLinear)):
        full = layer.full_bias() if isinstance(layer, SymmetricLinear) else None
        _full(numbers, layer.kernel, layer.full_kernel())
        _full(numbers, layer.bias, full)
        _host(layer, nnx.Linear, "plan")
    elif type(layer) in _HOSTS:
        for value in ("scale", "bias", "mean", "var"):
            variable = getattr(layer, value, None)
            if variable is not None:
                _full(numbers, variable, spread(variable[...], layer.plan))
        _host(layer, _HOSTS[type(layer)], "plan")
    else:
        raise SymmetryError(
            f"model: {name!r}, {type(layer).__name__}, has no ordinary form. Expected convolutions, norms, linear "
            "layers and functions in the mirror. Take it out of the part that is converted."
        )


def _conv(numbers: Numbers, name: str, layer: Any, shapes: Any) -> None:
    transposed = isinstance(layer, nnx.ConvTranspose)
    kernel = layer.full_kernel()
    bias = layer.full_bias() if hasattr(layer, "full_bias") else None
    crooked = _crooked(name, layer, shapes)
    if crooked:
        sizes = shapes[0][-1 - len(layer.kernel_size) : -1] if shapes else (max(kernel.shape),) * len(layer.kernel_size)
        axes = axes_of_transposed(layer, crooked) if transposed else axes_of(layer, sizes, crooked)
        kernel = placed(kernel, axes, layer)
        layer.kernel_size, layer.kernel_dilation = kernel.shape[: len(axes)], 1
        layer.padding = tuple((axis.before, axis.after) for axis in axes)
    _full(numbers, layer.kernel, kernel)
    _full(numbers, layer.bias, bias)
    layer.mask, layer.kernel_shape = None, kernel.shape
    invariant = isinstance(layer, (InvariantConv, InvariantConvTranspose))
    names = ("inputs", "group") if invariant else ("plan", "share_bias", "grid")
    _host(layer, nnx.ConvTranspose if transposed else nnx.Conv, *names)


def _crooked(name: str, layer: Any, shapes: Any) -> str:
    """The letters along which mirrors of a layer look from the other side."""
    kinds = layer.inputs.kinds if hasattr(layer, "inputs") else layer.plan.kinds
    lettered = {letter for kind in kinds for letter in kind}
    if getattr(layer, "grid", "mirrored") != "mirrored" or not lettered:
        return ""
    if isinstance(layer, nnx.ConvTranspose):
        found = {lopsided_transposed(layer)}
    elif shapes:
        found = {lopsided(layer, shape[-1 - len(layer.kernel_size) : -1]) for shape in shapes}
    elif layer.strides in (None, 1) or all(stride == 1 for stride in _each(layer)):
        found = {lopsided(layer, (64,) * len(layer.kernel_size))}  # of stride 1, all sizes are alike
    else:
        raise SymmetryError(
            f"model: {name!r} has a mirrored grid, whose ordinary form depends on the size. Expected an example. Pass "
            "an input as example."
        )
    letters = {"".join(letter for letter in one if letter in lettered) for one in found}
    if len(letters) > 1:
        raise SymmetryError(
            f"model: {name!r} is called at sizes {sorted(set(shapes))} that leave different remainders. Expected one "
            "ordinary form for all. Use two layers."
        )
    (crooked,) = letters
    if crooked and layer.padding in ("CIRCULAR", "REFLECT"):
        raise SymmetryError(
            f"model: {name!r} has no ordinary form with padding={layer.padding!r} on a mirrored grid. Expected sizes "
            "at which both grids are one, or zero padding. Take it out of the part that is converted."
        )
    return crooked


def _each(layer: Any) -> tuple[int, ...]:
    return (layer.strides,) if isinstance(layer.strides, int) else tuple(layer.strides)


def _operator(name: str, layer: Mirrored, shapes: Any) -> Any:
    """What is its own mirror image at the sizes of the example."""
    if shapes is None:
        raise SymmetryError(
            f"model: {name!r} sees a function in the mirror, which has an ordinary form only where it is its own "
            "mirror image. Expected an example. Pass an input as example."
        )
    for shape in shapes:
        x = jax.random.normal(jax.random.key(0), shape)
        if not bool(jnp.array_equal(layer(x), layer.operator(x))):
            raise SymmetryError(
                f"model: {name!r}, a function in the mirror, has no ordinary form at pictures of {shape}. Expected "
                "sizes at which it is its own mirror image. Pass an example of such a size."
            )
    return layer.operator


def _full(numbers: Numbers, variable: Any, full: Any) -> None:
    if variable is not None and full is not None:
        numbers.change(variable, ("full", full.shape), lambda stored: full)


def _numbers(numbers: Numbers, variable: Any) -> None:
    """A variable with one number for each channel, written out."""
    full = variable.get_value()
    known = {key: value for key, value in variable.get_metadata().items() if key not in ("symmetry", "channels", "dim")}
    object.__setattr__(variable, "__class__", nnx.Param)
    variable.set_raw_value(full)
    variable.set_metadata(known)


def _host(layer: Any, host: type, *own: str) -> None:
    """Makes a layer one of the host; what only this package knows goes."""
    become(layer, host)
    for name in own:
        delattr(layer, name)
