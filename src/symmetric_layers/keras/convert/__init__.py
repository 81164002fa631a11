"""Surgery on whole models: to networks that obey the law."""

from symmetric_layers.keras.convert.network import equivariant

__all__ = ["equivariant"]
