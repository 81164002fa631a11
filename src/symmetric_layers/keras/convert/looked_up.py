"""Embeddings whose columns are orbits, for numbers that are added to those of pictures."""

from typing import Any

import keras

from symmetric_layers.keras.arranged import Symmetry
from symmetric_layers.keras.channels import plain, refuse_quantized, spread
from symmetric_layers.keras.convert.config import config_of
from symmetric_layers.keras.convert.made import Made, made_of, numbers_of
from symmetric_layers.keras.initial import Representatives
from symmetric_layers.letters import LETTERS
from symmetric_layers.orbits import Plan, plan
from symmetric_layers.start import Start


@keras.saving.register_keras_serializable(package="symmetric_layers")
class OrbitEmbedding(keras.layers.Embedding):
    """`Embedding` whose columns are shared within orbits: a label is the same for a picture and for its mirror.

    Equivalent to: an `Embedding` with `full_embeddings()`.

    Law: exchanging channels with their mirrors changes nothing; so what is looked up can be added to orbits.

    Args:
        symmetry: how the columns are arranged.
        others: as in the host.

    Attributes:
        embeddings: one column per orbit and free channel, `(input_dim, plan.stored)`.
    """

    plan: Plan

    def __init__(self, *arguments: Any, symmetry: Symmetry, **others: Any) -> None:
        given = plain("symmetry", symmetry)
        super().__init__(*arguments, **others)
        refuse_quantized(self)
        self.symmetry = given

    def build(self, input_shape: Any = None) -> None:
        """Makes the stored columns."""
        self.plan = plan(self.symmetry, self.output_dim, len(LETTERS))
        super().build(input_shape)

    def add_weight(self, shape: Any = None, initializer: Any = None, *arguments: Any, **others: Any) -> Any:
        """Adds a weight as the host does; of columns, those of representatives are stored."""
        if others.get("name") in ("embeddings", "lora_embeddings_b"):
            initializer = Representatives(initializer, shape, -1, self.plan)
            shape = (shape[0], self.plan.stored)
        return super().add_weight(shape, initializer, *arguments, **others)

    def full_embeddings(self) -> Any:
        """One column for each channel: what the host's layer would hold as its `embeddings`."""
        return spread(self.embeddings, self.plan, 1)

    def call(self, inputs: Any) -> Any:
        """Looks numbers up."""
        return spread(super().call(inputs), self.plan, -1)

    def get_config(self) -> dict[str, Any]:
        """The host's config, and what was asked for beyond it."""
        return {**super().get_config(), "symmetry": self.symmetry and dict(self.symmetry)}


def embedding(old: Any, symmetry: Symmetry, start: Start) -> Made:
    """Such a layer for the host's."""
    config = {**config_of(old), "output_dim": start.wide(old.output_dim), "symmetry": symmetry}
    new = made_of(OrbitEmbedding, config)
    chosen = start.chosen(old.output_dim)
    return new, lambda: new.embeddings.assign(numbers_of(old.embeddings).take(chosen, 1))
