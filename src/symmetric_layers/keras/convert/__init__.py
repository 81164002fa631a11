"""Surgery on whole models: to mirrored filter banks, to networks that obey the law, and back to ordinary layers."""

from symmetric_layers.keras.convert.drop_in import symmetrize
from symmetric_layers.keras.convert.network import equivariant
from symmetric_layers.keras.convert.ordinary import desymmetrize

__all__ = ["desymmetrize", "equivariant", "symmetrize"]
