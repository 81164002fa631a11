"""What is said of models whose channels cannot be followed."""

from torch import nn

from symmetric_layers.errors import SymmetryError


def unfollowed(name: str, module: nn.Module, how: str) -> SymmetryError:
    """Channels that a layer cannot read any more."""
    if how in ("flatten", "view", "reshape"):
        return SymmetryError(
            f"model: {name!r}, a {type(module).__name__}, reads channels that {how!r} has mixed with positions. "
            "Expected channels alone. Pool over all positions first (nn.AdaptiveAvgPool2d(1)), or keep that part "
            "ordinary with keep."
        )
    return SymmetryError(
        f"model: {name!r}, a {type(module).__name__}, reads channels that cannot be followed through {how!r}. "
        "Expected channels that are moved, joined or combined one by one. Write that part with layers of torch.nn, or "
        "keep it ordinary with keep."
    )


def positioned(place: str, parameter: str, name: str) -> SymmetryError:
    """A parameter that knows more of pictures than their channels."""
    return SymmetryError(
        f"model: {place or 'its forward'!r} combines channels with {parameter!r}, which has other "
        f"numbers than one for each channel ({name}). Expected parameters that know channels alone, or tables as large "
        "as the maps of orbits that they are combined with. Leave these out, or keep that part ordinary with keep."
    )


def lies_on_plain(parameter: str) -> SymmetryError:
    """A table of positions for channels that have no mirrors."""
    return SymmetryError(
        f"model: {parameter!r} is a table of positions for channels that are plain, because inputs or answers of the "
        "model are among them. Expected orbits. Leave such answers orbits with answers, or keep that part ordinary "
        "with keep."
    )


def sparse(name: str) -> SymmetryError:
    """A table whose gradients say nothing of rows that were not looked up."""
    return SymmetryError(
        f"model: {name!r} has sparse gradients, which cannot be shared within orbits. Expected sparse=False. Set that, "
        "or keep that part ordinary with keep."
    )


def weighing(place: str, name: str) -> SymmetryError:
    """A parameter outside layers that mixes channels."""
    return SymmetryError(
        f"model: {place or 'its forward'!r} weighs channels with a parameter of its own ({name}). "
        "Expected a layer of torch.nn for that. Use one, or keep that part ordinary with keep."
    )


def beside(place: str) -> SymmetryError:
    """Pictures that stand side by side with orbits."""
    return SymmetryError(
        f"model: {place or 'its forward'!r} concatenates an input of the model with channels of layers. "
        "Expected one sort of channels. Put a convolution between the input and the concatenation, or "
        "keep that part ordinary with keep."
    )


def of_both_sorts(name: str) -> SymmetryError:
    """A module that is called with channels of both sorts."""
    return SymmetryError(
        f"model: {name!r} is used both on pictures and on orbits. Expected one of both. Use two modules, one for each."
    )
