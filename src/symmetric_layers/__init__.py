"""Convolution layers whose filters come in mirror-image orbits. Loads no framework: faces are imported by name."""

from symmetric_layers.errors import SymmetryError
from symmetric_layers.orbits import Plan, plan

__version__ = "0.1.0"
__all__ = ["Plan", "SymmetryError", "__version__", "plan"]
