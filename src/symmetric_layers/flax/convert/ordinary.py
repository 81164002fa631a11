"""The way back: ordinary layers with the full weights, for tools that know nothing else."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from symmetric_layers.errors import SymmetryError
from symmetric_layers.flax.channels import spread
from symmetric_layers.flax.convert.chance import without_chance
from symmetric_layers.flax.convert.depthwise import MultipliedConv, PalindromeConv
from symmetric_layers.flax.convert.einsum import DenseEinsum
from symmetric_layers.flax.convert.embed import OrbitEmbed
from symmetric_layers.flax.convert.flat import FlatLinear
from symmetric_layers.flax.convert.general import General
from symmetric_layers.flax.convert.grids import Axis, axes_of, axes_of_transposed, placed
from symmetric_layers.flax.convert.made import NORMS
from symmetric_layers.flax.convert.numbers import Numbers
from symmetric_layers.flax.convert.operators import alike
from symmetric_layers.flax.convert.padded import PaddedBefore, without_padded
from symmetric_layers.flax.convert.parts import OrbitParam, SymmetricLinear
from symmetric_layers.flax.convert.spied import become, is_ours, modules_of, no_module, put, spied, variables_of
from symmetric_layers.flax.convert.traced import accepted, arrays_of
from symmetric_layers.flax.grid import each, lopsided, lopsided_transposed
from symmetric_layers.flax.invariant import OrbitLinear
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
    seen = {} if example is None else _calls(new, example)
    numbers, operators = Numbers(), {}
    for name, module in ours:
        if isinstance(module, Mirrored):
            operators[name] = _operator(name, module, seen.get(name))
        else:
            _ordinary(numbers, name, module, seen.get(name))
    numbers.apply()
    for _, variable in shared:
        _numbers(variable)
    if "" in operators:
        return operators[""]
    known = dict(ours)
    places = {id(known[name]): operator for name, operator in operators.items()}
    for _, owner in list(modules_of(new)):  # one module may stand in several places
        for attribute, value in list(vars(owner).items()):
            if id(value) in places:
                operator = places[id(value)]
                put(owner, attribute, operator if isinstance(operator, nnx.Module) else nnx.static(operator))
    return new


class _Call(NamedTuple):
    """How a module was called: the shape of the picture, what other arrays, and what puts others into their places."""

    shape: tuple[int, ...]
    others: list[Any]
    filled: Callable[[Any], Any]


def _calls(model: nnx.Module, example: Any) -> dict[str, list[_Call]]:
    """How the modules of a model are called, found by the example's shapes alone."""
    found: dict[str, list[_Call]] = {}

    def see(name: str, own: Any, *arguments: Any, **others: Any) -> Any:
        arrays, filled = arrays_of((arguments, others))
        if arrays:
            others_shapes = [jax.ShapeDtypeStruct(array.shape, array.dtype) for array in arrays[1:]]
            found.setdefault(name, []).append(_Call(tuple(arrays[0].shape), others_shapes, filled))
        return own(*arguments, **others)

    quiet = without_chance(model)
    quiet.eval()
    graph, state = nnx.split(spied(quiet, see))
    arrays, filled = arrays_of(example)

    def run(numbers: Any, given: Any) -> Any:
        return jax.tree.leaves(call(nnx.merge(graph, numbers), filled(given)))

    accepted(lambda: jax.eval_shape(run, state, arrays), example, "evaluation")
    return found


def _ordinary(numbers: Numbers, name: str, layer: Any, calls: Any) -> None:
    if isinstance(layer, _CONVS):
        _conv(numbers, name, layer, calls)
    elif isinstance(layer, (SymmetricLinear, OrbitLinear)):
        bias = layer.full_bias() if isinstance(layer, SymmetricLinear) else None
        numbers.put(layer.kernel, layer.full_kernel())
        numbers.put(layer.bias, bias)
        _host(layer, nnx.Linear, "plan")
    elif isinstance(layer, FlatLinear):
        numbers.put(layer.kernel, layer.full_kernel())
        numbers.put(layer.bias, layer.full_bias())
        _host(layer, nnx.Linear, "plan", "sizes", "leads_out")
    elif isinstance(layer, (General, DenseEinsum)):
        numbers.put(layer.kernel, layer.full_kernel())
        numbers.put(layer.bias, layer.full_bias())
        several = isinstance(layer, General)
        _host(layer, nnx.LinearGeneral if several else nnx.Einsum, "plan", *() if several else ("dense",))
    elif isinstance(layer, OrbitEmbed):
        numbers.put(layer.embedding, layer.full_embedding())
        _host(layer, nnx.Embed, "plan")
    elif type(layer) in _HOSTS:
        for value in ("scale", "bias", "mean", "var"):
            variable = getattr(layer, value, None)
            if variable is not None:
                numbers.put(variable, spread(variable[...], layer.plan))
        _host(layer, _HOSTS[type(layer)], "plan")
    else:
        raise SymmetryError(
            f"model: {name!r}, {type(layer).__name__}, has no ordinary form. Expected convolutions, norms, linear "
            "layers and functions in the mirror. Take it out of the part that is converted."
        )


def _conv(numbers: Numbers, name: str, layer: Any, calls: Any) -> None:
    transposed = isinstance(layer, nnx.ConvTranspose)
    several = isinstance(layer, MultipliedConv)
    kernel = layer.grouped_kernel() if several else layer.full_kernel()
    bias = layer.full_bias() if hasattr(layer, "full_bias") else None
    axes = _grid(name, layer, calls)
    if axes:
        kernel = placed(kernel, axes, layer)
        layer.kernel_size, layer.kernel_dilation = kernel.shape[: len(axes)], 1
        layer.padding = tuple((axis.before, axis.after) for axis in axes)
    if isinstance(layer, PaddedBefore):
        layer.padding = without_padded(layer)
    numbers.put(layer.kernel, kernel)
    numbers.put(layer.bias, bias)
    layer.mask, layer.kernel_shape = None, kernel.shape
    if several:  # a group is an orbit, in the place of one channel among copies
        layer.in_features = layer.out_features // layer.times
        layer.feature_group_count = layer.in_features // kernel.shape[-2]
    names = ("inputs", "group", "plan", "share_bias", "grid", "kind", "times", "padded")
    _host(layer, nnx.ConvTranspose if transposed else nnx.Conv, *(name for name in names if name in vars(layer)))


def _grid(name: str, layer: Any, calls: Any) -> list[Axis]:
    """How one ordinary convolution covers the grids of a layer; nothing where that is what the layer itself does."""
    kinds = _kinds(layer)
    lettered = {letter for kind in kinds for letter in kind}
    if getattr(layer, "grid", "mirrored") != "mirrored" or not lettered:
        return []
    if isinstance(layer, nnx.ConvTranspose):
        crooked = _known(lopsided_transposed(layer), lettered)
        found = [(crooked, axes_of_transposed(layer, crooked) if crooked and _is_zero(layer) else [])]
    else:
        found = []
        for sizes in _sizes(name, layer, calls):
            crooked = _known(lopsided(layer, sizes), lettered)
            found.append((crooked, axes_of(layer, sizes, crooked) if _is_zero(layer) else []))
    if not any(crooked for crooked, _ in found):
        return []
    if not _is_zero(layer):
        raise SymmetryError(
            f"model: {name!r} has no ordinary form with padding={layer.padding!r} on a mirrored grid. Expected sizes "
            "at which both grids are one, or zero padding. Take it out of the part that is converted."
        )
    if any(axes != found[0][1] for _, axes in found):
        called = sorted({one.shape for one in calls})
        raise SymmetryError(
            f"model: {name!r} is called at sizes {called} that leave different remainders. Expected one "
            "ordinary form for all. Use two layers."
        )
    return found[0][1]


def _kinds(layer: Any) -> Sequence[str]:
    """Along which letters orbits, or filters that are their own mirror images, are mirrored."""
    if isinstance(layer, PalindromeConv):
        return [layer.kind]
    bank = layer.inputs if hasattr(layer, "inputs") else layer.plan
    return bank.kinds


def _known(letters: str, lettered: set[str]) -> str:
    return "".join(letter for letter in letters if letter in lettered)


def _is_zero(layer: Any) -> bool:
    """Whether a layer sees zeros beside a picture."""
    return layer.padding not in ("CIRCULAR", "REFLECT")


def _sizes(name: str, layer: Any, calls: Any) -> list[tuple[int, ...]]:
    """The sizes of the pictures that a layer reads; of stride 1, all are alike."""
    rank = len(layer.kernel_size)
    if calls:
        cut = [low + high for low, high in getattr(layer, "padded", [(0, 0)] * rank)]
        called = [one.shape[-1 - rank : -1] for one in calls]
        return [tuple(size - less for size, less in zip(sizes, cut, strict=True)) for sizes in called]
    if all(stride == 1 for stride in each(layer.strides, layer.kernel_size)):
        return [(64,) * rank]
    raise SymmetryError(
        f"model: {name!r} has a mirrored grid, whose ordinary form depends on the size. Expected an example. Pass "
        "an input as example."
    )


def _operator(name: str, layer: Mirrored, calls: Any) -> Any:
    """What is its own mirror image at the sizes of the example."""
    if calls is None:
        raise SymmetryError(
            f"model: {name!r} sees a function in the mirror, which has an ordinary form only where it is its own "
            "mirror image. Expected an example. Pass an input as example."
        )
    for called in calls:
        more = [jnp.ones(array.shape, array.dtype) for array in called.others]
        arguments, others = called.filled([jax.random.normal(jax.random.key(0), called.shape), *more])
        if not alike(layer(*arguments, **others), layer.operator(*arguments, **others)):
            raise SymmetryError(
                f"model: {name!r}, a function in the mirror, has no ordinary form at pictures of {called.shape}. "
                "Expected sizes at which it is its own mirror image. Pass an example of such a size."
            )
    return layer.operator


def _numbers(variable: Any) -> None:
    """A variable with one number for each channel, written out."""
    full = variable.full()
    known = {key: value for key, value in variable.get_metadata().items() if key not in ("symmetry", "channels", "dim")}
    become(variable, nnx.Param)
    variable.set_raw_value(full)
    variable.set_metadata(known)


def _host(layer: Any, host: type, *own: str) -> None:
    """Makes a layer one of the host; what only this package knows goes."""
    become(layer, host)
    for name in own:
        delattr(layer, name)
