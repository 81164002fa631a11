"""Whether a network starts as the average of an old one over all mirrored inputs."""

from typing import Any

import keras

from symmetric_layers.keras.channels import flip
from symmetric_layers.keras.convert.drawn import wide_for, widest, with_channels
from symmetric_layers.keras.convert.made import again, passing
from symmetric_layers.keras.convert.rebuild import rebuilt
from symmetric_layers.keras.convert.walk import Seen, inputs_like, is_network, walk
from symmetric_layers.keras.law import answers_of, difference
from symmetric_layers.letters import mirrors
from symmetric_layers.start import no_average

AVERAGED = 1e-5  # relative: more than rounding to float32


def refuse_other_than_average(old: Any, new: Any, x: Any, axes: str, axis: int) -> None:
    """Refuses a network that does not compute the old one's average over all mirrored inputs, in evaluation mode.

    Of classes that is the average before the last softmax (or whatever activation the last layers have).
    """
    old, new = (with_channels(_in_double(model), x, axis) for model in (old, new))
    rank = max(len(tensor.shape) for tensor in keras.tree.flatten(x))

    def turned(tensor: Any, letters: str) -> Any:
        return flip(tensor, letters, axis) if len(tensor.shape) == rank else tensor

    total: dict[str, Any] = {}
    for letters in mirrors(axes):
        seen = keras.tree.map_structure(lambda tensor, letters=letters: turned(tensor, letters), x)
        for name, answer in answers_of(old, seen, False).items():
            total[name] = turned(answer, letters) + total.get(name, 0)
    found = answers_of(new, x, False)
    worst = max(
        (difference(total[name] / len(mirrors(axes)), answer)[1] for name, answer in found.items()), default=0.0
    )
    if worst > AVERAGED:
        raise no_average(worst)


def _in_double(model: Any) -> Any:
    """A copy in double precision, whose last layers have no activation."""
    ends, wide = _ends(model), widest()

    def make(layer: Any) -> Any:
        if id(layer) in ends and isinstance(layer, keras.layers.Softmax):
            return passing(layer)
        new = again(layer, wide_for(layer), **({"activation": "linear"} if id(layer) in ends else {}))
        return new, lambda: new.set_weights(layer.get_weights())

    return rebuilt(model, make, wide)


def _ends(model: Any) -> set[int]:
    """The layers, by their ids, whose answers are those of the model, and are read by nobody else."""
    made: dict[int, Any] = {}
    read: set[int] = set()
    calls: list[Any] = []

    def visit(operation: Any, *arguments: Any, **others: Any) -> Any:
        answers = Seen(operation, f"call_{len(calls)}")(*arguments, **others)
        calls.append((arguments, others, answers))  # so that ids stay theirs
        read.update(id(made.get(id(tensor))) for tensor in keras.tree.flatten((arguments, others)))
        made.update((id(tensor), operation) for tensor in keras.tree.flatten(answers))
        return answers

    answers = keras.tree.flatten(walk(model, inputs_like(model), visit))
    last = [made[id(tensor)] for tensor in answers if id(tensor) in made]
    found = {id(layer) for layer in last if id(layer) not in read and not is_network(layer)}
    return found.union(*[_ends(layer) for layer in last if id(layer) not in read and is_network(layer)])
