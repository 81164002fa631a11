"""Surgery on whole models: to mirrored filter banks, to networks that obey the law, and back to ordinary layers."""

from symmetric_layers.flax.convert.drop_in import symmetrize
from symmetric_layers.flax.convert.network import equivariant
from symmetric_layers.flax.convert.ordinary import desymmetrize

__all__ = ["desymmetrize", "equivariant", "symmetrize"]
