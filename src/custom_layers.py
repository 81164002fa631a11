"""The Keras layers under the name of the original description: for TensorFlow 1 where it is, else for Keras 3."""

try:
    from symmetric_layers.tf1 import *  # noqa: F403
    from symmetric_layers.tf1 import __all__ as __all__
except ImportError:  # no TensorFlow, or a later one
    from symmetric_layers.keras import *  # type: ignore[assignment]  # noqa: F403
    from symmetric_layers.keras import __all__ as __all__
