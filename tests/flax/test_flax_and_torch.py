"""The same numbers in two frameworks: what was trained in one answers the same in the other."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from flax_face import apply, deep, flat

import symmetric_layers.flax as ours
import symmetric_layers.torch as theirs

X = np.random.RandomState(0).standard_normal((2, 16, 9, 10))
TYPES = {"param_dtype": jnp.float64}


def carried(weight):
    """A filter of PyTorch in the layout of Flax."""
    return jnp.asarray(np.moveaxis(weight.detach().numpy(), (0, 1), (-1, -2)))


def agree(layer, host, tolerance):
    expected = host(torch.from_numpy(X)).detach().numpy()
    np.testing.assert_allclose(deep(apply(layer, flat(X))), expected, rtol=0, atol=10 * tolerance["float64"])


@pytest.mark.parametrize("grid", ["shared", "mirrored"])
@pytest.mark.parametrize("groups", [1, 2, 16])
def test_convolutions(grid, groups, tolerance):
    bank = {"hv": 16} if groups == 16 else {"h": 4, "hv": 8}
    how = {"symmetry": bank, "in_symmetry": {"hv": 16}, "grid": grid}
    host = theirs.SymmetricConv2d(16, 16, 3, 2, 1, 2, groups, dtype=torch.float64, **how)
    layer = ours.SymmetricConv(
        16, 16, (3, 3), 2, padding=1, kernel_dilation=2, feature_group_count=groups, rngs=nnx.Rngs(0), **how, **TYPES
    )
    layer.kernel[...], layer.bias[...] = carried(host.weight), jnp.asarray(host.bias.detach().numpy())
    agree(layer, host, tolerance)


@pytest.mark.parametrize("grid", ["shared", "mirrored"])
def test_transposed_convolutions(grid, tolerance):
    """PyTorch takes away what JAX adds, and may add more at the end."""
    how = {"symmetry": {"h": 4, "hv": 8}, "in_symmetry": {"hv": 16}, "grid": grid}
    host = theirs.SymmetricConvTranspose2d(16, 16, 3, 2, 1, output_padding=1, dtype=torch.float64, **how)
    layer = ours.SymmetricConvTranspose(
        16, 16, (3, 3), 2, padding=[(1, 2), (1, 2)], transpose_kernel=True, rngs=nnx.Rngs(0), **how, **TYPES
    )
    layer.kernel[...] = jnp.asarray(host.weight.detach().permute(2, 3, 1, 0).numpy())
    layer.bias[...] = jnp.asarray(host.bias.detach().numpy())
    agree(layer, host, tolerance)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("stride", [1, 2])
def test_the_way_out_of_the_orbits(stride, groups, tolerance):
    host = theirs.InvariantConv2d(16, 6, 3, stride, groups=groups, in_symmetry={"hv": 16}, dtype=torch.float64)
    layer = ours.InvariantConv(
        16, 6, (3, 3), stride, padding="VALID", feature_group_count=groups, in_symmetry={"hv": 16}, rngs=nnx.Rngs(0),
        **TYPES,
    )  # fmt: skip
    layer.kernel[...], layer.bias[...] = carried(host.weight), jnp.asarray(host.bias.detach().numpy())
    agree(layer, host, tolerance)


def test_batch_norms(tolerance):
    host = theirs.OrbitBatchNorm2d(16, dtype=torch.float64, symmetry={"h": 4, "hv": 8})
    layer = ours.OrbitBatchNorm(16, symmetry={"h": 4, "hv": 8}, rngs=nnx.Rngs(0), **TYPES)
    torch.nn.init.normal_(host.weight)
    torch.nn.init.normal_(host.bias)
    layer.scale[...], layer.bias[...] = (jnp.asarray(p.detach().numpy()) for p in (host.weight, host.bias))
    agree(layer, host, tolerance)


def test_pools(tolerance):
    pool = torch.nn.MaxPool2d(2)
    host = theirs.Mirrored(pool, {"h": 4, "hv": 8})
    agree(ours.Mirrored(lambda x: nnx.max_pool(x, (2, 2), (2, 2)), {"h": 4, "hv": 8}), host, tolerance)
    agree(ours.OrbitPool({"h": 4, "hv": 8}), theirs.OrbitPool({"h": 4, "hv": 8}), tolerance)
