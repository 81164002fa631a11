"""The mirrored grid: the law at every size, with every padding."""

import itertools

import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from contract import law_error
from flax import nnx
from flax_face import apply, deep, flat

from symmetric_layers.flax import InvariantConv, Mirrored, SymmetricConv, SymmetricConvTranspose

BANKS = [  # symmetry, in_symmetry, channels, groups
    ({"h": 4, "v": 4, "hv": 4}, None, 3, 1),
    ({"hv": 16}, {"hv": 8}, 8, 1),
    ({"h": 8, "hv": 8}, {"hv": 8}, 8, 2),
    ({"hv": 16}, {"hv": 16}, 16, 16),
    ({"h": 8}, {"h": 8}, 16, 16),
]
GEOMETRIES = [
    {"kernel_size": (3, 3), "strides": 2, "padding": "SAME"},
    {"kernel_size": (2, 4), "strides": (1, 2), "padding": "SAME"},
    {"kernel_size": (3, 3), "strides": 2, "padding": 1},
    {"kernel_size": (3, 2), "strides": 3, "padding": "VALID", "kernel_dilation": 2},
    {"kernel_size": (3, 3), "strides": 2, "padding": "CIRCULAR"},
    {"kernel_size": (4, 3), "strides": 2, "padding": "REFLECT"},
    {"kernel_size": (3, 3), "strides": 1, "padding": ((0, 1), (2, 1))},
    {"kernel_size": (3, 3), "strides": 3, "padding": 1, "input_dilation": (2, 1)},
]
TRANSPOSED = [
    {"kernel_size": (3, 3), "strides": 2, "padding": "SAME"},
    {"kernel_size": (2, 4), "strides": (1, 2), "padding": "SAME"},
    {"kernel_size": (2, 2), "strides": 3, "padding": "VALID"},
    {"kernel_size": (3, 2), "strides": 2, "padding": "CIRCULAR"},
    {"kernel_size": (3, 3), "strides": 2, "padding": ((0, 1), (2, 1)), "transpose_kernel": True},
]


def error(layer, *arguments):
    """The largest deviation from the law."""
    return law_error(lambda x: deep(apply(layer, flat(x))), *arguments)


def picture(channels, *positions):
    return np.random.RandomState(0).standard_normal((2, channels, *positions))


def some(banks, geometries):
    """A third of all pairs, with every bank and every geometry in several: each pair is compiled anew."""
    pairs = itertools.product(enumerate(banks), enumerate(geometries))
    return [(*bank, how) for (first, bank), (second, how) in pairs if (first + second) % 3 == 0]


@pytest.mark.parametrize(("symmetry", "in_symmetry", "channels", "groups", "how"), some(BANKS, GEOMETRIES))
def test_the_law_holds_at_every_size(symmetry, in_symmetry, channels, groups, how, tolerance):
    arguments = {
        "feature_group_count": groups, "symmetry": symmetry, "in_symmetry": in_symmetry,
        "bias_init": nnx.initializers.normal(), "param_dtype": jnp.float64, **how,
    }  # fmt: skip
    shared = SymmetricConv(channels, 16, rngs=nnx.Rngs(0), **arguments)
    mirrored = SymmetricConv(channels, 16, grid="mirrored", rngs=nnx.Rngs(0), **arguments)
    banks = 1 if groups == channels else groups
    broken = []
    for positions in ((8, 9), (9, 8)):
        x = picture(channels, *positions)
        assert error(mirrored, symmetry, in_symmetry, x, banks) <= tolerance["float64"]
        broken.append(error(shared, symmetry, in_symmetry, x, banks) > 1e-3)
        first = [o.members[0] for o in mirrored.plan.orbits] + list(mirrored.plan.free)
        np.testing.assert_allclose(
            apply(mirrored, flat(x))[..., np.array(first)],
            apply(shared, flat(x))[..., np.array(first)],
            atol=tolerance["float64"],
        )
    assert any(broken)


@pytest.mark.parametrize("how", TRANSPOSED, ids=str)
@pytest.mark.parametrize(("symmetry", "in_symmetry", "channels"), [bank[:3] for bank in BANKS[:2]])
def test_the_law_holds_for_every_transposed_layer(symmetry, in_symmetry, channels, how, tolerance):
    arguments = {"symmetry": symmetry, "in_symmetry": in_symmetry, "param_dtype": jnp.float64, **how}
    arguments["bias_init"] = nnx.initializers.normal()
    shared = SymmetricConvTranspose(channels, 16, rngs=nnx.Rngs(0), **arguments)
    mirrored = SymmetricConvTranspose(channels, 16, grid="mirrored", rngs=nnx.Rngs(0), **arguments)
    x = picture(channels, 5, 6)
    assert error(mirrored, symmetry, in_symmetry, x) <= tolerance["float64"]
    assert error(shared, symmetry, in_symmetry, x) > 1e-3


@pytest.mark.parametrize("ours", [SymmetricConv, SymmetricConvTranspose])
@pytest.mark.parametrize("share_bias", [True, False])
def test_where_the_geometry_fits_both_grids_are_the_same(ours, share_bias):
    more = {"symmetry": {"h": 4, "hv": 8}, "share_bias": share_bias, "bias_init": nnx.initializers.normal()}
    shared = ours(3, 16, (3, 3), padding="VALID", rngs=nnx.Rngs(0), **more)
    mirrored = ours(3, 16, (3, 3), padding="VALID", grid="mirrored", rngs=nnx.Rngs(0), **more)
    x = flat(picture(3, 9, 7))
    np.testing.assert_array_equal(shared(x), mirrored(x))


@pytest.mark.parametrize("share_bias", [True, False])
def test_every_filter_keeps_its_bias_in_the_mirror(share_bias, tolerance):
    more = {"symmetry": {"h": 4, "hv": 8}, "share_bias": share_bias, "param_dtype": jnp.float64}
    layer = SymmetricConv(
        3, 16, (3, 3), 2, grid="mirrored", bias_init=nnx.initializers.normal(), rngs=nnx.Rngs(0), **more
    )
    bare = SymmetricConv(3, 16, (3, 3), 2, grid="mirrored", use_bias=False, rngs=nnx.Rngs(0), **more)
    bare.kernel[...] = layer.kernel[...]
    x = flat(picture(3, 8, 8))
    np.testing.assert_allclose(layer(x) - bare(x), np.broadcast_to(layer.full_bias(), (2, 4, 4, 16)), atol=1e-12)


def test_volumes_obey_along_every_axis(tolerance):
    layer = SymmetricConv(
        8, 32, (3, 2, 3), 2, symmetry={"vz": 8, "hvz": 16}, in_symmetry={"hvz": 8}, grid="mirrored",
        param_dtype=jnp.float64, rngs=nnx.Rngs(0),
    )  # fmt: skip
    for positions in itertools.product((6, 7), repeat=3):
        x = picture(8, *positions)
        assert error(layer, {"vz": 8, "hvz": 16}, {"hvz": 8}, x) <= tolerance["float64"]


@pytest.mark.parametrize(("in_symmetry", "groups", "how"), some([({"hv": 8}, 1), ({"h": 8}, 2)] * 2, GEOMETRIES))
def test_the_way_out_of_the_orbits_obeys_at_every_size(in_symmetry, groups, how, tolerance):
    head = InvariantConv(
        8, 4, in_symmetry=in_symmetry, feature_group_count=groups, param_dtype=jnp.float64,
        bias_init=nnx.initializers.normal(), rngs=nnx.Rngs(0), **how,
    )  # fmt: skip
    for positions in ((8, 9), (9, 8)):
        x = picture(8, *positions)
        straight = deep(apply(head, flat(x)))
        assert np.abs(straight).max() > 0.1
        for letter in "".join(in_symmetry):
            mirrored = deep(apply(head, flat(oracle.act(x, letter, in_symmetry, groups))))
            np.testing.assert_allclose(mirrored, oracle.flip(straight, letter), rtol=0, atol=tolerance["float64"])


@pytest.mark.parametrize("symmetry", [{"h": 4, "hv": 8}, {"v": 12}])
@pytest.mark.parametrize("positions", [(7, 8), (7, 6)])
def test_pooling_obeys_at_every_size(symmetry, positions):
    def pool(x):
        return nnx.max_pool(x, (2, 3), (2, 2))

    x = picture(12, *positions)
    assert error(Mirrored(pool, symmetry), symmetry, symmetry, x) == 0
    assert error(Mirrored(pool, None), symmetry, symmetry, x) > 0.1
    first = [index for index, (_, letters) in enumerate(oracle.arrangement(symmetry, 12)) if not letters]
    np.testing.assert_array_equal(
        Mirrored(pool, symmetry)(flat(x))[..., np.array(first)], pool(flat(x))[..., np.array(first)]
    )


def test_padding_before_alone_is_seen_in_the_mirror(tolerance):
    how = {"kernel_size": 3, "padding": "CAUSAL", "param_dtype": jnp.float64, "rngs": nnx.Rngs(0)}
    x = picture(4, 9)
    layer = SymmetricConv(4, 8, symmetry={"h": 8}, in_symmetry={"h": 4}, grid="mirrored", **how)
    assert error(layer, {"h": 8}, {"h": 4}, x) <= tolerance["float64"]
    head = InvariantConv(4, 2, in_symmetry={"h": 4}, **how)
    straight, mirrored = (deep(apply(head, flat(seen))) for seen in (x, oracle.act(x, "h", {"h": 4})))
    np.testing.assert_allclose(mirrored, oracle.flip(straight, "h"), rtol=0, atol=tolerance["float64"])


def test_empty_batches_are_pooled():
    pool = Mirrored(lambda x: nnx.max_pool(x, (2, 2), (2, 2)), {"h": 4, "hv": 8})
    assert pool(jnp.ones((0, 7, 7, 12))).shape == (0, 3, 3, 12)
