"""Why channels cannot be followed any further, in sentences."""

from typing import Any

from symmetric_layers.errors import SymmetryError
from symmetric_layers.keras.convert.walk import article


def lost(name: str, layer: Any, how: str) -> SymmetryError:
    """For a layer that reads channels which something before it has mixed with others, or moved out of sight."""
    if how in ("Flatten", "Reshape", "Ravel"):
        return SymmetryError(
            f"model: {name!r}, {article(layer)}, reads channels that {how!r} has mixed with positions. "
            "Expected channels alone, or a Dense layer right behind a Flatten. Pool over all positions first "
            "(GlobalAveragePooling2D), or keep that part ordinary with keep."
        )
    return SymmetryError(
        f"model: {name!r}, {article(layer)}, reads channels that cannot be followed through {how!r}. "
        "Expected channels that are moved, joined or combined one by one. Write that part with layers of Keras, or "
        "keep it ordinary with keep."
    )


def strange(name: str, layer: Any) -> SymmetryError:
    """For a layer of somebody's own that makes channels."""
    return SymmetryError(
        f"model: {name!r} is {article(layer)}, which computes something of its own. Expected a layer of Keras. "
        "Use one, or keep that part ordinary with keep."
    )


def weighty(name: str, layer: Any) -> SymmetryError:
    """For a layer whose weights are not a number for each channel."""
    return SymmetryError(
        f"model: {name!r}, {article(layer)}, has weights for orbits of channels, and no form that knows of "
        "them. Expected convolutions, norms and dense layers of Keras. Use these, or keep that part ordinary with keep."
    )


def sums_elsewhere(name: str, layer: Any) -> SymmetryError:
    """For a layer that is written as sums, over positions."""
    return SymmetryError(
        f"model: {name!r}, {article(layer)}, sums over other axes than that of the orbits. Expected one that reads "
        "channels, and nothing at other positions. Move the channels last, or keep that part ordinary with keep."
    )


def several(name: str, shape: Any) -> SymmetryError:
    """For an attention whose answers have several axes of features."""
    return SymmetryError(
        f"model: {name!r} answers features of shape {tuple(shape)}. Expected one axis of features. Give it a whole "
        "number for output_shape and a Reshape behind it, or keep that part ordinary with keep."
    )


def leads_nowhere(name: str, layer: Any) -> SymmetryError:
    """For a depthwise layer out of the orbits: each channel by itself is no answer that mirrors."""
    return SymmetryError(
        f"model: {name!r}, {article(layer)}, reads orbits channel by channel, and makes ordinary channels. Expected "
        "orbits there, or a convolution that reads all of each. Put a Conv of kernel size 1 behind it, or keep that "
        "part ordinary with keep."
    )
