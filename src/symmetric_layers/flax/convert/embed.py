"""Lookups whose answers are orbits: labels that are added to what layers make of a picture."""

from typing import Any

from flax import nnx
from jax import Array

from symmetric_layers.flax.channels import spread
from symmetric_layers.flax.written import Values, Written
from symmetric_layers.orbits import Plan


class OrbitEmbed(nnx.Embed):
    """`nnx.Embed` whose features are orbits: `equivariant` makes it where they are added to channels of pictures.

    A label knows no mirror, so that all members of an orbit look up the same number.

    Equivalent to: an `nnx.Embed` whose `embedding` has equal columns within each orbit.

    Law: exchanging the features with their mirrors changes nothing.

    Attributes:
        embedding: one column per orbit, `(num_embeddings, orbits)`.
        plan: that of the features.
    """

    plan: Plan

    def full_embedding(self) -> Array:
        """One column per feature: what the host's layer would hold as its `embedding`."""
        return spread(self.embedding[...], self.plan)

    def __call__(self, inputs: Array, *arguments: Any, **others: Any) -> Array:
        """Looks up whole numbers `(...)`."""
        return nnx.Embed.__call__(self._full(), inputs, *arguments, **others)

    def attend(self, query: Array, *arguments: Any, **others: Any) -> Array:
        """Weighs `(..., features)` with every label's numbers, as the host does."""
        return nnx.Embed.attend(self._full(), query, *arguments, **others)

    def _full(self) -> Any:
        return Written(self, embedding=Values(self.full_embedding()))
