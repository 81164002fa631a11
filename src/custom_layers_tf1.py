"""The TensorFlow 1 face under the name of the original description."""

from symmetric_layers.tf1 import *  # noqa: F403
from symmetric_layers.tf1 import __all__ as __all__
