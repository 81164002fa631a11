"""Every example of the face runs, and a whole network mirrors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from docstrings import modules, run, silent
from flax import nnx
from flax_face import apply

import symmetric_layers.flax as face
from symmetric_layers.flax import InvariantConv, Mirrored, OrbitBatchNorm, SymmetricConv, SymmetricConvTranspose


@pytest.mark.parametrize("name", modules(face))
def test_every_example_gives_what_it_says(name):
    assert run(name, face, jax=jax, jnp=jnp, nnx=nnx)[1] == 0


def test_everything_has_an_example():
    assert silent(face) == ["Deviation"]


class Net(nnx.Module):
    """Down and up again, on the mirrored grid."""

    def __init__(self, rngs):
        bank, more = {"hv": 8}, {"param_dtype": jnp.float64, "rngs": rngs}
        self.first = SymmetricConv(1, 8, (3, 3), symmetry=bank, **more)
        self.norm = OrbitBatchNorm(8, symmetry=bank, **more)
        self.down = SymmetricConv(8, 8, (3, 3), 2, symmetry=bank, in_symmetry=bank, grid="mirrored", **more)
        self.pool = Mirrored(lambda x: nnx.max_pool(x, (2, 2), (2, 2)), bank)
        self.up = SymmetricConvTranspose(8, 8, (2, 2), 4, symmetry=bank, in_symmetry=bank, grid="mirrored", **more)
        self.last = InvariantConv(8, 3, (1, 1), in_symmetry=bank, **more)

    def __call__(self, x):
        x = nnx.relu(self.norm(self.first(x)))
        return self.last(self.up(self.pool(nnx.relu(self.down(x)))))


@pytest.mark.parametrize("positions", [(16, 17), (17, 16), (18, 19)])
def test_a_whole_network_mirrors_at_every_size(positions, tolerance):
    net = Net(nnx.Rngs(0))
    x = jnp.asarray(np.random.RandomState(0).standard_normal((2, *positions, 1)))
    apply(net, x)
    net.eval()
    straight = apply(net, x)
    assert jnp.abs(straight).max() > 0.1
    for axes in (1, 2, (1, 2)):
        np.testing.assert_allclose(
            apply(net, jnp.flip(x, axes)), jnp.flip(straight, axes), rtol=0, atol=tolerance["float64"]
        )
