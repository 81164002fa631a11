"""A model as a graph: every layer is one step, everything between layers is what JAX makes of it."""

import contextlib
import inspect
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
from flax import nnx
from jax.core import ShapedArray
from jax.extend.core import Primitive

from symmetric_layers.errors import SymmetryError
from symmetric_layers.flax.convert.kinds import is_layer
from symmetric_layers.flax.convert.operators import Function
from symmetric_layers.flax.convert.spied import FUNCTION, modules_of, name_of, spied
from symmetric_layers.flax.law import call, named

LAYER = Primitive("layer")  # a whole layer: of its arrays, the first one is the picture
PLACE = Primitive("place")  # what comes from here on is computed in the module, or function, of this name


@LAYER.def_abstract_eval
def _answer(*arrays: Any, name: str, shape: tuple[int, ...], dtype: Any) -> ShapedArray:
    return ShapedArray(shape, dtype)


@PLACE.def_abstract_eval
def _same(array: Any, *, name: str) -> Any:
    return array


class Traced(NamedTuple):
    """A model's graph.

    Attributes:
        jaxpr: the graph, whose inputs are the variables, and then the pictures.
        variables: the names of the variables.
        functions: by the name of a function that is a module's attribute: itself, of one array, and that one's shape.
    """

    jaxpr: Any
    variables: list[str]
    functions: dict[str, list[tuple[Function, tuple[int, ...]]]]


def traced(model: nnx.Module, example: Any) -> Traced:
    """The graph of a model in the mode that it is in, by the example's shapes alone."""
    steps = _Steps(model)
    watched = spied(model, steps.see)
    graph, state = nnx.split(watched)
    leaves, tree = jax.tree_util.tree_flatten_with_path(state)
    pictures, rest = arrays_of(example)

    def run(numbers: Any, given: Any) -> Any:
        merged = nnx.merge(graph, jax.tree.unflatten(tree, numbers))
        return list(named(call(merged, rest(given))).values())

    shapes = [jax.ShapeDtypeStruct(picture.shape, picture.dtype) for picture in pictures]
    jaxpr = jax.make_jaxpr(run)([leaf for _, leaf in leaves], shapes)
    return Traced(jaxpr, [_name(path) for path, _ in leaves], steps.functions)


def accepted(run: Callable[[], Any], example: Any, mode: str) -> Any:
    """What comes of running a model; refuses an example that it does not accept, in one sentence."""
    try:
        with quiet():
            return run()
    except SymmetryError:
        raise
    except Exception as error:
        shapes = [tuple(array.shape) for array in arrays_of(example)[0]]
        raise SymmetryError(
            f"example: the model does not accept {shapes} in {mode} mode ({reason_of(error)}). Expected an input that "
            "it runs on, and no vmap, scan or grad around its layers. Pass one of another size or sort."
        ) from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Says nothing of types of statistics while nothing is computed."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "scatter inputs have incompatible types", FutureWarning)
        yield


def reason_of(error: Exception) -> str:
    """What an error says first."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def arrays_of(example: Any) -> tuple[list[Any], Callable[[Any], Any]]:
    """The arrays of an example, and what puts others into their places."""
    leaves, tree = jax.tree.flatten(example)
    places = [index for index, leaf in enumerate(leaves) if is_array(leaf)]

    def filled(arrays: Any) -> Any:
        new = dict(zip(places, arrays, strict=True))
        return jax.tree.unflatten(tree, [new.get(index, leaf) for index, leaf in enumerate(leaves)])

    return [leaves[index] for index in places], filled


def is_array(leaf: Any) -> bool:
    """Whether something has a shape and a type of numbers."""
    return hasattr(leaf, "shape") and hasattr(leaf, "dtype")


class _Steps:
    """Makes one step of every layer, and notes in which module or function the others are taken."""

    def __init__(self, model: nnx.Module) -> None:
        self._layers = {name for name, module in modules_of(model) if is_layer(module)}
        self._within = [""]
        self.functions: dict[str, list[tuple[Function, tuple[int, ...]]]] = {}

    def see(self, name: str, own: Any, *arguments: Any, **others: Any) -> Any:
        """A call of a module, or of a function that is a module's attribute."""
        told = [value for value in (*arguments, *others.values()) if isinstance(value, str)]  # what it is to compute
        if name in self._layers and not told:
            return self._step(name, own, arguments, others)
        if name.endswith(FUNCTION):
            arrays, filled = arrays_of((arguments, others))
            if len(arrays) != 1:
                return own(*arguments, **others)  # of several pictures: a part of the module that calls it
            self.functions.setdefault(name, []).append((_of_one(own, filled), arrays[0].shape))
        arguments, others = _at(name, (arguments, others))
        self._within.append(name)
        try:
            answer = own(*arguments, **others)
        finally:
            self._within.pop()
        return _at(self._within[-1], answer)

    def _step(self, name: str, own: Any, arguments: Any, others: Any) -> Any:
        named = next(iter(list(inspect.signature(own.func).parameters)[1:]), "")
        if named in others:  # the picture comes first, by whatever name
            arguments, others = (others.pop(named), *arguments), others
        arrays, filled = arrays_of((arguments, others))

        def answer(given: Any) -> Any:
            arguments, others = filled(given)
            return own.func(nnx.clone(own.args[0]), *arguments, **others)

        found = jax.eval_shape(answer, arrays)
        return LAYER.bind(*arrays, name=name, shape=found.shape, dtype=found.dtype)


def _of_one(own: Any, filled: Callable[..., Any]) -> Function:
    """A function of one array, called with whatever else it was called with."""

    def function(array: Any) -> Any:
        arguments, others = filled([array])
        return own(*arguments, **others)

    return function


def _at(name: str, tree: Any) -> Any:
    return jax.tree.map(lambda leaf: PLACE.bind(leaf, name=name) if isinstance(leaf, jax.Array) else leaf, tree)


def _name(path: Any) -> str:
    """The name of a variable in a state, whose arrays stand one step further down; arrays stand there themselves."""
    inside = path[:-1] if isinstance(path[-1], jax.tree_util.GetAttrKey) else path
    return name_of(getattr(key, "key", getattr(key, "idx", None)) for key in inside)
