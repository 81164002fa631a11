"""What a model draws at random: left out where it can be, and found out where it breaks the law."""

from typing import Any

import jax
from flax import nnx

from symmetric_layers.flax.convert.spied import modules_of, variables_of


def without_chance(model: nnx.Module) -> nnx.Module:
    """A copy that drops nothing: dropout tells left from right."""
    model = nnx.clone(model)
    for _, module in modules_of(model):
        if isinstance(module, nnx.Dropout):
            module.rate = 0.0
        elif isinstance(module, nnx.MultiHeadAttention):
            module.dropout_rate = 0.0
    return model


def with_other_chance(model: nnx.Module, x: Any) -> tuple[nnx.Module, Any]:
    """A copy that draws other random numbers, by its own streams of them and by keys that it is given."""
    model = nnx.clone(model)
    for _, variable in variables_of(model):
        if isinstance(variable, nnx.RngCount):
            variable.set_raw_value(variable.get_raw_value() + 1000)
    return model, jax.tree.map(lambda leaf: jax.random.fold_in(leaf, 1) if _is_key(leaf) else leaf, x)


def _is_key(leaf: Any) -> bool:
    """Whether something is one key, of the type that JAX has for them or of the older one."""
    if not hasattr(leaf, "dtype") or not hasattr(leaf, "shape"):
        return False
    old = leaf.dtype == "uint32" and leaf.shape == (2,)
    return old or (jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) and not leaf.shape)
