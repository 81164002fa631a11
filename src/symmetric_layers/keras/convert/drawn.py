"""What a network is measured with: pictures that nothing is alike in, and numbers that its layers can look up."""

import warnings
from typing import Any

import keras
from keras import ops

from symmetric_layers.errors import SymmetryError
from symmetric_layers.keras.convert.walk import Seen, inputs_like, inputs_of, is_network, layers_of, walk

_ROOM = {"Embedding": "input_dim", "CategoryEncoding": "num_tokens", "OneHot": "num_classes"}


def widest() -> str:
    """The widest type of numbers that the backend has: JAX has double precision where that was asked for alone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what it has not
        return str(keras.backend.standardize_dtype(ops.zeros((), dtype="float64").dtype))


def wide_for(layer: Any) -> str:
    """The widest type of numbers in which a layer computes: TensorFlow has no pool of volumes in double precision."""
    narrow = keras.backend.backend() == "tensorflow"
    pools = narrow and any(isinstance(one, keras.layers.MaxPooling3D) for one in layer._flatten_layers())
    return "float32" if pools else widest()


def labels_of(model: Any) -> dict[int, int]:
    """The inputs, by their places, whose numbers are looked up by layers: positions without channels.

    To each, how many numbers all these layers know.
    """
    flat = model.inputs
    looks_up = any(type(layer).__name__ in _ROOM for _, layer in layers_of(model))
    if not looks_up and all(keras.backend.is_float_dtype(tensor.dtype) for tensor in flat):
        return {}
    found: dict[int, int] = {}
    places: dict[int, int] = {}
    alive: list[Any] = []  # so that ids stay theirs

    def through(inner: Any, inputs: Any) -> Any:
        alive.append(inputs)

        def visit(operation: Any, *arguments: Any, **others: Any) -> Any:
            answers = Seen(operation, f"call_{len(alive)}")(*arguments, **others)
            alive.append(answers)
            given = [one for one in keras.tree.flatten((arguments, others)) if keras.backend.is_keras_tensor(one)]
            if is_network(operation):
                entries = inputs_like(operation)
                pairs = list(zip(keras.tree.flatten(entries), given, strict=False))
                places.update({id(entry): places[id(one)] for entry, one in pairs if id(one) in places})
                ends = keras.tree.flatten(through(operation, entries))
                pairs = list(zip(keras.tree.flatten(answers), ends, strict=False))
                places.update({id(answer): places[id(end)] for answer, end in pairs if id(end) in places})
                return answers
            known = [one for one in given if id(one) in places]
            for one, answer in zip(known[:1], keras.tree.flatten(answers)[:1], strict=False):
                room = getattr(operation, _ROOM.get(type(operation).__name__, ""), None)
                if room is not None and len(answer.shape) == len(one.shape) + 1:
                    found[places[id(one)]] = min(int(room), found.get(places[id(one)], int(room)))
                elif len(answer.shape) == len(one.shape):
                    places[id(answer)] = places[id(one)]
            return answers

        return walk(inner, inputs, visit)

    inputs = inputs_like(model)
    places.update({id(tensor): place for place, tensor in enumerate(keras.tree.flatten(inputs))})
    through(model, inputs)
    return found


def rank_of(model: Any, labels: dict[int, int]) -> int:
    """How many axes of positions the pictures of a model have; refused where that is none, or too many."""
    inputs = model.inputs
    flat = keras.tree.flatten(inputs_of(model))
    rank = max((len(tensor.shape) - (1 if place in labels else 2) for place, tensor in enumerate(flat)), default=0)
    if rank not in (1, 2, 3):
        raise SymmetryError(
            f"model: its inputs {[tuple(tensor.shape) for tensor in inputs]} hold no pictures. Expected (batch, "
            "*positions, channels) with 1 to 3 axes of positions. Pass a network for pictures."
        )
    return rank


def random_input(model: Any, example: Any, labels: dict[int, int], axis: int) -> Any:
    """Pictures of the sizes that the model expects, or of the example's, with nothing alike in them.

    Whole numbers that are no pictures are the example's; maps of labels get an axis for channels.
    """
    seeds, structure = keras.random.SeedGenerator(1), inputs_of(model)
    known = keras.tree.flatten(structure)
    given = known if example is None else keras.tree.flatten(example)
    shapes = [tuple(getattr(one, "shape", ())) for one in given]
    if len(known) != len(given) or not all(map(_fits, known, shapes)):
        raise SymmetryError(
            f"example: {shapes} does not fit the inputs {[tuple(tensor.shape) for tensor in known]} of the model. "
            "Expected an input of the model. Pass pictures of a usual size."
        )
    if any(None in shape[1:] for shape in shapes):
        shape = next(tuple(tensor.shape) for tensor, shape in zip(known, shapes, strict=True) if None in shape[1:])
        raise SymmetryError(
            f"example: None does not say at which size the model is to be measured, whose input is {shape}. Expected "
            "pictures. Pass some of a usual size, or measure=False."
        )
    rank = rank_of(model, labels)
    maps = [len(shape) - (1 if place in labels else 2) == rank for place, shape in enumerate(shapes)]
    drawn = [_draw(one, shape, labels.get(place), seeds) for place, (one, shape) in enumerate(zip(known, shapes))]
    kept = [_numbers_of(seen, tensor, place in labels) for place, (seen, tensor) in enumerate(zip(given, known))]
    x = [one if own is None or mapped else own for one, own, mapped in zip(drawn, kept, maps, strict=True)]
    if any(own is not None and mapped for own, mapped in zip(kept, maps, strict=True)) and not _takes(model, x):
        x = [one if own is None else own for one, own in zip(drawn, kept, strict=True)]
    bare = [place in labels and mapped for place, mapped in enumerate(maps)]
    return keras.tree.pack_sequence_as(
        structure, [ops.expand_dims(one, axis) if here else one for one, here in zip(x, bare, strict=True)]
    )


def _draw(tensor: Any, shape: Any, room: int | None, seeds: Any) -> Any:
    shape = (tensor.shape[0] or 2, *shape[1:])
    if room is None and keras.backend.is_float_dtype(tensor.dtype):
        return keras.random.normal(shape, dtype=widest(), seed=seeds)
    most = room or (2 if tensor.dtype == "bool" else 128)
    return ops.cast(keras.random.randint(shape, 0, most, seed=seeds), tensor.dtype)


def _numbers_of(seen: Any, tensor: Any, labels: bool) -> Any:
    """The numbers of an example where these are whole."""
    if keras.backend.is_keras_tensor(seen) or (keras.backend.is_float_dtype(tensor.dtype) and not labels):
        return None
    values = ops.convert_to_numpy(seen)
    rows = [row % len(values) for row in range(tensor.shape[0] or 2)]
    return ops.cast(ops.convert_to_tensor(values.take(rows, 0)), tensor.dtype)


def _takes(model: Any, x: Any) -> bool:
    """Whether the model knows the numbers that were drawn for pictures of whole numbers."""
    try:
        model(keras.tree.pack_sequence_as(inputs_of(model), x))
    except Exception:
        return False
    return True


def _fits(known: Any, shape: Any) -> bool:
    """Whether an input of this shape is one that the model says it takes."""
    sizes = known.shape
    return len(sizes) == len(shape) and all(one in (None, size) for one, size in zip(sizes[1:], shape[1:], strict=True))


def with_channels(model: Any, x: Any, axis: int) -> Any:
    """The model, which takes its maps of labels with an axis for channels, where these have one."""
    known, given = keras.tree.flatten(inputs_of(model)), keras.tree.flatten(x)
    if all(len(tensor.shape) == len(seen.shape) for tensor, seen in zip(known, given, strict=True)):
        return model
    inputs, bare = [], []
    for tensor, seen in zip(known, given, strict=True):
        mapped = len(tensor.shape) < len(seen.shape)
        inputs.append(keras.Input(batch_shape=(None, *seen.shape[1:]), dtype=tensor.dtype))
        bare.append(ops.squeeze(inputs[-1], axis) if mapped else inputs[-1])
    structure = inputs_of(model)
    answers = model(keras.tree.pack_sequence_as(structure, bare))
    return keras.Model(keras.tree.pack_sequence_as(structure, inputs), answers)
