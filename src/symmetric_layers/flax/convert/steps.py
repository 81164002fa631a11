"""What the steps between layers are called in JAX, and the sentences about those that orbits cannot go through."""

from collections.abc import Collection, Sequence
from typing import Any

from symmetric_layers.errors import SymmetryError
from symmetric_layers.letters import LETTERS

# number by number
ALONE = {
    "abs", "acos", "acosh", "add", "add_any", "and", "asin", "asinh", "atan", "atan2", "atanh", "bitcast_convert_type",
    "cbrt", "ceil", "clamp", "convert_element_type", "copy", "copy_p", "cos", "cosh", "digamma", "div", "eq", "erf",
    "erf_inv", "erfc", "exp", "exp2", "expm1", "floor", "ge", "gt", "imag", "integer_pow", "is_finite", "le", "lgamma",
    "log", "log1p", "logistic", "lt", "max", "min", "mul", "ne", "neg", "nextafter", "not", "optimization_barrier",
    "or", "pow", "real", "reduce_precision", "rem", "round", "rsqrt", "select_n", "sharding_constraint", "sign", "sin",
    "sinh", "sqrt", "square", "stop_gradient", "sub", "tan", "tanh", "xor",
}  # fmt: skip

# steps that hold a graph of their own and do nothing else
INNER = {
    "jit", "pjit", "closed_call", "core_call", "custom_lin", "checkpoint", "remat", "remat2", "custom_jvp_call",
    "custom_vjp_call", "custom_vjp_call_jaxpr",
}  # fmt: skip

# what is alike in the mirror, whatever the size
ALIKE = {
    "reshape", "transpose", "squeeze", "broadcast_in_dim", "reduce_sum", "reduce_max", "reduce_min", "reduce_prod",
    "reduce_and", "reduce_or", "reduce_xor",
}  # fmt: skip

WEIGHTS = "weights of its own: "  # how channels are lost that are no channels

_USUAL = {
    "reduce_window_max": "max_pool", "reduce_window_min": "min_pool", "reduce_window_sum": "avg_pool",
    "dot_general": "a product", "conv_general_dilated": "a convolution", "rev": "flip", "scan": "nnx.scan",
}  # fmt: skip


def usual(sort: str) -> str:
    """What people call a step."""
    return _USUAL.get(sort, sort)


def crooked_along(eqn: Any, shape: Sequence[int], kind: str, still: Collection[int] = ()) -> bool:
    """Whether a step lies otherwise in the mirror, on pictures whose channels stand last; still axes do not mirror."""
    sides = _sides(eqn, shape)
    letters = {len(shape) - 2 - LETTERS.index(letter) for letter in kind} - set(still)
    return any(axis in letters and before != after for axis, (before, after) in enumerate(sides))


def _sides(eqn: Any, shape: Sequence[int]) -> list[tuple[int, int]]:
    """What is added on both sides of each axis, and what is left over there."""
    sort, params = eqn.primitive.name, eqn.params
    if sort == "pad":
        return [(low, high) for low, high, _ in params["padding_config"]]
    if sort == "slice":
        steps = params["strides"] or (1,) * len(shape)
        cuts = zip(shape, params["start_indices"], params["limit_indices"], steps, strict=True)
        return [
            (start, size - start - (-(-(limit - start) // step) - 1) * step - 1) for size, start, limit, step in cuts
        ]
    if not sort.startswith("reduce_window"):
        return []
    windows = zip(
        shape, params["window_dimensions"], params["window_strides"], params["padding"], params["base_dilation"],
        params["window_dilation"], strict=True,
    )  # fmt: skip
    sides = []
    for size, window, stride, (before, after), spread, dilation in windows:
        rest = ((size - 1) * spread + before + after - dilation * (window - 1)) % stride
        sides.append((before, after - rest))
    return sides


def crooked(place: str, sort: str) -> SymmetryError:
    """The refusal of a step that lies otherwise in the mirror."""
    if sort == "pad":
        return SymmetryError(
            f"model: 'pad' in {place or 'its call'!r} lies otherwise in the mirror at this size. Expected padding that "
            "is alike on both sides, or zeros, as many at every size, right before an nnx.Conv with padding='VALID'. "
            "Write it so, or make it a function that is an attribute, like self.pad = functools.partial(jnp.pad, ...), "
            "which is then seen in the mirror, too."
        )
    return SymmetryError(
        f"model: {usual(sort)!r} in {place or 'its call'!r} lies otherwise in the mirror at this size. Expected "
        "windows and padding that are alike on both sides. Make it a function that is an attribute, like self.pool = "
        f"functools.partial(nnx.{_pool(sort)}, ...), which is then seen in the mirror, too."
    )


def _pool(sort: str) -> str:
    return usual(sort) if usual(sort).endswith("_pool") else "max_pool"


def lost(place: str, kind: str, how: str) -> SymmetryError:
    """The refusal of channels that cannot be followed any further."""
    reader = f"{place!r}, {kind}," if kind else f"{place or 'its call'!r}"
    if how == "reshape":
        return SymmetryError(
            f"model: {reader} reads channels that {how!r} has mixed with positions. Expected channels alone. Take the "
            "mean over all positions first, or keep that part ordinary with keep."
        )
    if how.startswith(WEIGHTS):
        return weighty(place, how)
    return SymmetryError(
        f"model: {reader} reads channels that cannot be followed through {usual(how)!r}. Expected channels that are "
        "moved, joined or combined one by one. Write that part otherwise, or keep it ordinary with keep."
    )


def strange(name: str, kind: str) -> SymmetryError:
    """The refusal of a layer that has no form for orbits."""
    return SymmetryError(
        f"model: {name!r}, {kind}, has no form for orbits of channels. Expected nnx.Conv, nnx.Linear and norms. "
        "Use these, or keep that part ordinary with keep."
    )


def chosen(name: str, kind: str) -> SymmetryError:
    """The refusal of labels that say which channel of orbits it is."""
    return SymmetryError(
        f"model: {name!r}, {kind}, reads labels that are made of orbits of channels. Expected labels that know nothing "
        "of channels. Choose between ordinary ones, or keep that part ordinary with keep, which leads out before."
    )


def weighty(place: str, how: str = "") -> SymmetryError:
    """The refusal of weights that are no layer's."""
    return SymmetryError(
        f"model: {place or 'its call'!r} weighs orbits of channels with {_named(how)}. Expected nnx.Conv, nnx.Linear, "
        "or one number for each channel. Use these, or keep that part ordinary with keep."
    )


def part(place: str, how: str) -> str:
    """What a part without a form for orbits is called."""
    return f"{_named(how)} in {place or 'its call'!r}"


def _named(how: str) -> str:
    return f"the variable {how.removeprefix(WEIGHTS)!r}" if how.startswith(WEIGHTS) else f"{usual(how)!r}"


def stopped(name: str, other: str) -> SymmetryError:
    """The refusal of a layer that is ordinary on both sides because of another part."""
    return SymmetryError(
        f"model: {name!r} has no orbits on either side, for its channels meet {other}, which has no form for orbits. "
        "Expected an nnx.Conv or nnx.Linear between that and orbits. Put one there, or keep both ordinary with keep."
    )
