"""Textures with JAX: photographs of brick, grass and gravel, which look alike in a mirror, from few noisy patches.

    python examples/flax_textures.py

Trains a network of `flax.nnx` and the same made to mirror, prints how well they do on other parts of the photographs.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from skimage.data import brick, grass, gravel

from symmetric_layers.flax import equivariance_error, equivariant

SIZE = 32


def network(rngs: nnx.Rngs) -> nnx.Module:
    """A small one, written without a thought of mirrors."""
    return nnx.Sequential(
        nnx.Conv(1, 16, (3, 3), 2, rngs=rngs), nnx.relu,
        nnx.Conv(16, 32, (3, 3), 2, rngs=rngs), nnx.relu,
        nnx.Conv(32, 32, (3, 3), rngs=rngs), nnx.relu,
        lambda x: x.mean((1, 2)),
        nnx.Linear(32, 3, rngs=rngs),
    )  # fmt: skip


def patches(count: int, columns: tuple[int, int], seed: int) -> tuple[jax.Array, jax.Array]:
    """Noisy patches, `(3 * count, SIZE, SIZE, 1)`, and which texture each of them shows."""
    random, found = np.random.default_rng(seed), []
    for photograph in (brick(), grass(), gravel()):
        for _ in range(count):
            top, left = random.integers(512 - SIZE), random.integers(columns[0], columns[1] - SIZE)
            patch = photograph[top : top + SIZE, left : left + SIZE].astype("float32")
            found.append((patch - patch.mean()) / patch.std() + random.normal(size=patch.shape))
    return jnp.asarray(np.stack(found)[..., None], jnp.float32), jnp.repeat(jnp.arange(3), count)


@nnx.jit
def step(model: nnx.Module, optimizer: nnx.Optimizer, x: jax.Array, y: jax.Array) -> jax.Array:
    """One step of training; gives the loss."""

    def loss(model: nnx.Module) -> jax.Array:
        return optax.softmax_cross_entropy_with_integer_labels(model(x), y).mean()

    value, gradient = nnx.value_and_grad(loss)(model)
    optimizer.update(model, gradient)
    return value


def main(steps: int = 300) -> None:
    """Trains and compares."""
    x, y = patches(20, (0, 256), seed=0)
    x_test, y_test = patches(200, (256, 512), seed=1)
    plain = network(nnx.Rngs(0))
    models = {"plain": plain, "twin": equivariant(plain, "hv", example=x[:2])}
    print("network   weights   accuracy   what a mirror changes")
    for name, model in models.items():
        optimizer = nnx.Optimizer(model, optax.adam(3e-3), wrt=nnx.Param)
        for _ in range(steps):
            step(model, optimizer, x, y)
        weights = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
        accuracy = float((nnx.jit(model.__class__.__call__)(model, x_test).argmax(-1) == y_test).mean())
        worst = max(row.relative for row in equivariance_error(model, x_test[:16], "hv"))
        print(f"{name:8s} {weights:8d} {accuracy:10.3f}   {worst:.0e} of the largest value")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
