"""Walks through the graph of a model, operation by operation, without touching it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras

from symmetric_layers.errors import SymmetryError
from symmetric_layers.keras.convert.kinds import each_of

Visit = Callable[..., Any]  # an operation, and what it is called with: to symbolic answers


class Seen(keras.Operation):
    """Stands for an operation in a graph of its own: it says what that would answer, and leaves it alone.

    Names are those of calls: what is called twice stands in the graph twice.
    """

    def __init__(self, operation: Any, name: str) -> None:
        super().__init__(name=name)
        self.operation = operation

    def compute_output_spec(self, *arguments: Any, **others: Any) -> Any:
        """The shapes of what the operation answers."""
        return self.operation.compute_output_spec(*arguments, **others)


def is_network(operation: Any) -> bool:
    """Whether an operation is a model with a graph that can be walked through."""
    return isinstance(operation, keras.Model) and isinstance(operation, (keras.Sequential, keras.Function))


def no_network(model: Any) -> None:
    """Refuses what has no graph."""
    if not is_network(model):
        raise SymmetryError(
            f"model: {type(model).__name__!r} has no graph of layers. Expected a Sequential or a functional model. "
            "Write it as one of these."
        )
    if not model.built:
        raise SymmetryError(
            f"model: {model.name!r} does not know its input yet. Expected a model that has seen its input. "
            "Give it a keras.Input, or call it once."
        )


def layers_of(model: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """All layers of a model, those of models inside it under paths; no model."""
    for layer in model.layers:
        if is_network(layer):
            yield from layers_of(layer, f"{prefix}{layer.name}/")
        else:
            yield prefix + layer.name, layer


def data_format_of(model: Any) -> str:
    """Where a model has the channels of its pictures: where the first layer that says so has them."""
    formats = (getattr(each_of(layer), "data_format", None) for _, layer in layers_of(model))
    return next((one for one in formats if one), keras.config.image_data_format())


def is_ours(layer: Any) -> bool:
    """Whether a layer is one of this package."""
    return type(layer).__module__.startswith("symmetric_layers.")


def unreadable(name: str, layer: Any) -> None:
    """Refuses a layer whose kernel is not simply its own."""
    if getattr(layer, "lora_enabled", False) or getattr(layer, "quantization_mode", None):
        raise SymmetryError(
            f"model: {name!r} is adapted or quantized. Expected a kernel of its own in floating point. Merge what was "
            "adapted, or convert before."
        )


def inputs_of(model: Any) -> Any:
    """The symbolic inputs of a model, in its structure."""
    return model.inputs[0] if isinstance(model, keras.Sequential) else model.input


def inputs_like(model: Any, dtype: str | None = None, shapes: Sequence[Any] | None = None) -> Any:
    """Fresh symbolic inputs of a model, in its structure; of other types (if floating) or shapes where given."""
    entries = [layer for layer in getattr(model, "operations", []) if isinstance(layer, keras.layers.InputLayer)]
    names = {id(layer.output): layer.name for layer in entries}
    structure = inputs_of(model)
    known = keras.tree.flatten(structure)

    def like(tensor: Any, shape: Any) -> Any:
        floating = keras.backend.is_float_dtype(tensor.dtype)
        kept = dtype if dtype and floating else tensor.dtype
        return keras.Input(batch_shape=shape, dtype=kept, name=names.get(id(tensor)))

    made = map(like, known, shapes or [tensor.shape for tensor in known])
    return keras.tree.pack_sequence_as(structure, list(made))


def walk(model: Any, inputs: Any, visit: Visit) -> Any:
    """Visits every operation of a model in the order in which they are called; gives the model's symbolic answers."""
    if isinstance(model, keras.Sequential):
        for layer in model.layers:
            inputs = visit(layer, inputs)
        return inputs
    with uncompiled(model):
        walked = keras.models.clone_model(
            model, input_tensors=inputs, clone_function=lambda operation: operation, call_function=visit
        )
    return walked.output


@contextmanager
def uncompiled(model: Any) -> Iterator[None]:
    """While a model is cloned: nothing in it is compiled, for what it is compiled with need not be known by name."""
    found = [one for one in networks_of(model) if one.compiled]
    for one in found:
        one.compiled = False
    try:
        yield
    finally:
        for one in found:
            one.compiled = True


def networks_of(model: Any) -> Iterator[Any]:
    """A model, and all models inside it."""
    yield model
    for layer in model.layers:
        if is_network(layer):
            yield from networks_of(layer)


def article(layer: Any) -> str:
    """The class of a layer, as a sentence has it."""
    name = type(layer).__name__
    vowel = name[0] in "AEIOU" and not name.startswith("Uni")
    return f"{'an' if vowel or name.startswith(('RMS', 'LSTM')) else 'a'} {name}"
