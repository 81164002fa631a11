"""What is asked of converted models: answers, and deviations from the law."""

import jax
import jax.numpy as jnp
import networks_flax
import numpy as np
from flax import nnx

from symmetric_layers.flax import equivariance_error
from symmetric_layers.flax.law import call

SMALL = 1e-12  # relative


def made(name):
    """A network with its axes and an input."""
    build, axes, shapes = networks_flax.ALL[name]
    random = np.random.RandomState(1)

    def drawn(shape):
        return jnp.asarray(random.standard_normal(shape)) if isinstance(shape, tuple) else shape

    x = {key: drawn(shape) for key, shape in shapes.items()} if isinstance(shapes, dict) else drawn(shapes)
    return wild(build(nnx.Rngs(0))), axes, x


def wild(model):
    """The model with numbers of all signs everywhere, so that nothing obeys by chance, in evaluation mode."""
    random = np.random.RandomState(0)
    for path, variable in nnx.iter_graph(model):
        if isinstance(variable, nnx.Variable) and jnp.issubdtype(variable.get_raw_value().dtype, jnp.floating):
            low, high = (0.5, 1.5) if path[-1] in ("var", "scale") else (-0.7, 0.7)
            variable.set_raw_value(jnp.asarray(random.uniform(low, high, variable.get_raw_value().shape)))
    model.eval()
    return model


def answers(model, x):
    """The arrays that a model answers, compiled at once."""
    graph, state = nnx.split(model)
    return jax.jit(lambda numbers: jax.tree.leaves(call(nnx.merge(graph, numbers), x)))(state)


def alike(one, other, x):
    for first, second in zip(answers(one, x), answers(other, x), strict=True):
        np.testing.assert_allclose(first, second, rtol=0, atol=SMALL * np.abs(first).max())


def errors(model, axes, x):
    graph, state = nnx.split(model)
    arrays = {key: value for key, value in x.items() if isinstance(value, jax.Array)} if isinstance(x, dict) else x
    flags = {key: value for key, value in x.items() if key not in arrays} if isinstance(x, dict) else {}

    @jax.jit
    def run(*arguments, **others):
        return nnx.merge(graph, state)(*arguments, **others, **flags)

    return [found.relative for found in equivariance_error(run, arrays, axes)]


def weights(model):
    return sum(variable.size for variable in jax.tree.leaves(nnx.state(model, nnx.Param)))
