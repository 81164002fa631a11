"""Whether a network starts as the average of an old one over all mirrored inputs."""

from typing import Any

import keras

from symmetric_layers.keras.channels import flip
from symmetric_layers.keras.convert.made import again
from symmetric_layers.keras.convert.measure import widest
from symmetric_layers.keras.convert.rebuild import rebuilt
from symmetric_layers.keras.law import answers_of, difference
from symmetric_layers.letters import mirrors
from symmetric_layers.start import no_average

AVERAGED = 1e-5  # relative: more than rounding to float32


def refuse_other_than_average(old: Any, new: Any, x: Any, axes: str, axis: int) -> None:
    """Refuses a network that does not compute the old one's average over all mirrored inputs, in evaluation mode.

    Of classes that is the average before the last softmax (or whatever activation the last layers have).
    """
    ends = [old.layers[-1].name] if isinstance(old, keras.Sequential) else old.output_names
    old, new = (_in_double(model, ends) for model in (old, new))
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


def _in_double(model: Any, ends: list[str]) -> Any:
    """A copy in double precision; the layers of these names have no activation."""

    def make(layer: Any) -> Any:
        new = again(layer, widest(), **({"activation": "linear"} if layer.name in ends else {}))
        return new, lambda: new.set_weights(layer.get_weights())

    return rebuilt(model, make, widest())
