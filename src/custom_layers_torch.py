"""The PyTorch face under the name of the original description."""

from symmetric_layers.torch import *  # noqa: F403
from symmetric_layers.torch import __all__ as __all__
