"""Norms that treat an orbit as one channel seen several times."""

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from flax import nnx
from flax_face import apply, deep, flat
from jax.sharding import PartitionSpec

from symmetric_layers import SymmetryError
from symmetric_layers.flax import OrbitBatchNorm, OrbitGroupNorm, OrbitInstanceNorm, OrbitLayerNorm

MIXED = {"h": 4, "hvz": 8}
AFFINE = {"scale_init": nnx.initializers.uniform(2.0), "bias_init": nnx.initializers.normal()}


def picture(*positions, channels=15):
    return 3 * np.random.RandomState(0).standard_normal((4, channels, *positions)) + 1


def batch_norm(channels=15, symmetry=MIXED, **more):
    return OrbitBatchNorm(channels, symmetry=symmetry, param_dtype=jnp.float64, rngs=nnx.Rngs(0), **AFFINE, **more)


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("positions", [(), (5,), (5, 6), (3, 4, 5)])
def test_an_orbit_is_one_channel_seen_several_times(positions, fast, tolerance):
    norm, x = batch_norm(use_fast_variance=fast, momentum=0.9), picture(*positions)
    weight, bias = np.asarray(norm.scale[...]), np.asarray(norm.bias[...])
    expected, means, variances = oracle.orbit_batch_norm(x, MIXED, norm.epsilon, weight, bias)
    answer = apply(norm, flat(x) if positions else jnp.asarray(x))
    np.testing.assert_allclose(deep(answer) if positions else answer, expected, rtol=0, atol=10 * tolerance["float64"])
    assert norm.mean.shape == norm.var.shape == (3 + 6 - 3 + 0,) == means.shape
    np.testing.assert_allclose(norm.mean[...], 0.1 * means, atol=1e-6)  # the host keeps them in float32
    np.testing.assert_allclose(norm.var[...], 0.9 + 0.1 * variances, rtol=1e-6)


def test_in_evaluation_the_tracked_statistics_count(tolerance):
    norm, x = batch_norm(momentum=0.0), picture(5, 6)
    trained = apply(norm, flat(x))
    tracked = norm(flat(x), use_running_average=True)
    np.testing.assert_allclose(tracked, trained, atol=1e-5)
    norm.eval()
    np.testing.assert_array_equal(norm(flat(x)), tracked)
    half = flat(x[:2])
    np.testing.assert_allclose(norm(half), tracked[:2], atol=1e-12)


def test_other_axes_and_masks_are_the_hosts(tolerance):
    x = picture(5, 6)
    straight = batch_norm()(flat(x))
    np.testing.assert_allclose(batch_norm(axis=1)(jnp.asarray(x)), deep(straight), atol=tolerance["float64"])
    there = np.random.RandomState(1).rand(4, 5, 6, 1) > 0.3
    filled = np.where(there, np.moveaxis(x, 1, -1), 1e6)
    for symmetry in (MIXED, {"h": 14}):
        norm = batch_norm(symmetry=symmetry)
        answer = norm(jnp.asarray(filled), mask=jnp.asarray(there))
        seen = np.moveaxis(x, 1, -1)[there[..., 0]]  # (pixels that are there, channels)
        weight, bias = np.asarray(norm.scale[...]), np.asarray(norm.bias[...])
        expected, _, _ = oracle.orbit_batch_norm(seen, symmetry, norm.epsilon, weight, bias)
        np.testing.assert_allclose(answer[there[..., 0]], expected, atol=10 * tolerance["float64"])


def test_without_symmetry_it_is_the_hosts():
    host = nnx.BatchNorm(15, rngs=nnx.Rngs(0))
    norm = OrbitBatchNorm(15, rngs=nnx.Rngs(0))
    x = flat(picture(5, 6).astype("float32"))
    np.testing.assert_array_equal(norm(x), host(x))
    np.testing.assert_array_equal(norm.var[...], host.var[...])


@pytest.mark.parametrize("given", [jnp.float16, jnp.float32, jnp.float64])
@pytest.mark.parametrize("asked", [{}, {"dtype": jnp.bfloat16}, {"dtype": jnp.float32}, {"param_dtype": jnp.bfloat16}])
@pytest.mark.parametrize("tracked", [False, True])
@pytest.mark.filterwarnings("ignore:scatter inputs have incompatible types")  # the host's, of what it tracks of float64
def test_types_are_the_hosts(given, asked, tracked):
    """What the host sees in the place of orbits: their second members as more rows of the first."""
    x = flat(picture(5, 6, channels=4)).astype(given)
    norm = OrbitBatchNorm(4, symmetry={"h": 4}, rngs=nnx.Rngs(0), use_running_average=tracked, **asked)
    host = nnx.BatchNorm(2, rngs=nnx.Rngs(0), use_running_average=tracked, **asked)
    rows = jnp.concatenate([x[..., ::2], x[..., 1::2]], 1)
    ours, theirs = apply(norm, x), apply(host, rows)
    assert ours.dtype == theirs.dtype
    assert norm.mean.dtype == jnp.float32
    expected = jnp.stack(jnp.split(theirs, 2, 1), -1).reshape(x.shape)
    atol = {2: 1e-2, 4: 1e-5, 8: 1e-5}[jnp.dtype(ours.dtype).itemsize]
    np.testing.assert_allclose(np.asarray(ours, "float64"), np.asarray(expected, "float64"), atol=atol, rtol=atol)
    np.testing.assert_allclose(norm.var[...], host.var[...], rtol=1e-2 if given != jnp.float32 else 1e-5)


def test_the_call_says_which_statistics_count_before_the_layer_does():
    x = flat(picture(5, 6))
    norm = batch_norm(use_running_average=True)
    assert jnp.abs(norm(x, use_running_average=False) - norm(x)).max() > 0.1
    with pytest.raises(SymmetryError) as refusal:
        batch_norm(use_running_average=None)(x)
    assert str(refusal.value) == (
        "use_running_average: None says neither that the statistics of the batch count nor that the tracked ones do. "
        "Expected True or False. Pass it to the layer or to its call, or use `nnx.view`."
    )
    seen = nnx.view(batch_norm(use_running_average=None), use_running_average=True)
    np.testing.assert_array_equal(seen(x), batch_norm()(x, use_running_average=True))


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("groups", [None, [[0, 1], [2, 3]]])
def test_devices_share_their_statistics(fast, groups):
    x = flat(picture(5, 6))
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    norm = batch_norm(axis_name="data", axis_index_groups=groups, use_fast_variance=fast)
    kind, state = nnx.split(norm)

    def one(state, x):
        return nnx.merge(kind, state)(x)

    parts = {"in_specs": (PartitionSpec(), PartitionSpec("data")), "out_specs": PartitionSpec("data")}
    shared = jax.jit(jax.shard_map(one, mesh=mesh, check_vma=groups is None, **parts))(state, x)
    together = [x] if groups is None else jnp.split(x, 2)
    np.testing.assert_allclose(shared, jnp.concatenate([batch_norm()(those) for those in together]), atol=1e-10)
    alone = jnp.concatenate([batch_norm()(one) for one in jnp.split(x, 4)])
    assert jnp.abs(alone - shared).max() > 0.1


def test_gradients_and_statistics_pass_through_jit(tolerance):
    norm, x = batch_norm(), flat(picture(5, 6))

    @nnx.jit
    def step(norm, x):
        return nnx.grad(lambda norm, x: (norm(x) ** 3).sum(), argnums=(0, 1))(norm, x)

    weights, of_x = step(norm, x)
    assert float(norm.mean[...].sum()) != 0
    direction = jnp.asarray(np.random.RandomState(2).standard_normal(x.shape))
    step_size = 1e-6
    ahead, behind = ((batch_norm()(x + sign * step_size * direction) ** 3).sum() for sign in (1, -1))
    np.testing.assert_allclose((of_x * direction).sum(), (ahead - behind) / (2 * step_size), rtol=1e-6)
    assert weights["scale"][...].shape == (6,)


NORMS = [
    (OrbitLayerNorm, nnx.LayerNorm, (15,)),
    (OrbitInstanceNorm, nnx.InstanceNorm, (15,)),
    (OrbitGroupNorm, nnx.GroupNorm, (15, 1)),
    (OrbitGroupNorm, nnx.GroupNorm, (15, None, 15)),
]


@pytest.mark.parametrize(("ours", "host", "arguments"), NORMS)
def test_affine_terms_are_shared_and_all_else_is_the_hosts(ours, host, arguments):
    layer = ours(*arguments, symmetry=MIXED, rngs=nnx.Rngs(0), **AFFINE)
    plain = host(*arguments, rngs=nnx.Rngs(1))
    assert isinstance(layer, host)
    assert layer.scale.shape == layer.bias.shape == (6,)
    who = np.array(layer.plan.representative)
    plain.scale[...], plain.bias[...] = layer.scale[...][who], layer.bias[...][who]
    x = flat(picture(5, 6).astype("float32"))
    np.testing.assert_allclose(apply(layer, x), apply(plain, x), atol=1e-6)
    there = jnp.asarray(np.random.RandomState(1).rand(*x.shape) > 0.3)
    np.testing.assert_allclose(layer(x, mask=there), plain(x, mask=there), atol=1e-6)
    bare = ours(*arguments, symmetry=MIXED, use_scale=False, use_bias=False, rngs=nnx.Rngs(0))
    np.testing.assert_allclose(bare(x), host(*arguments, rngs=nnx.Rngs(0))(x), atol=1e-6)
    assert not nnx.state(bare)


@pytest.mark.parametrize("ours", [OrbitBatchNorm, OrbitLayerNorm, OrbitInstanceNorm, OrbitGroupNorm])
def test_exchanging_channels_before_or_after_is_the_same(ours, tolerance):
    more = {"num_groups": 2} if ours is OrbitGroupNorm else {}
    norm = ours(16, symmetry={"hvz": 16}, param_dtype=jnp.float64, rngs=nnx.Rngs(0), **AFFINE, **more)
    x = picture(4, 5, 6, channels=16)
    straight = deep(apply(norm, flat(x)))
    for letter in "hvz":
        mirrored = deep(apply(norm, flat(oracle.act(x, letter, {"hvz": 16}))))
        np.testing.assert_allclose(mirrored, oracle.act(straight, letter, {"hvz": 16}), atol=10 * tolerance["float64"])


def test_groups_that_mirrors_would_tear_apart_are_refused():
    with pytest.raises(SymmetryError) as refusal:
        OrbitGroupNorm(12, 3, symmetry={"hv": 8}, rngs=nnx.Rngs(0)) and OrbitGroupNorm(
            12, 4, symmetry={"hv": 12}, rngs=nnx.Rngs(0)
        )
    assert str(refusal.value) == (
        "num_groups: 4 groups of 3 channels are torn apart by the exchange along 'h'. Expected one of [1, 3, 6, 12]. "
        "Use such a number."
    )


def test_what_the_host_would_refuse_is_refused():
    with pytest.raises(SymmetryError) as refusal:
        OrbitBatchNorm(8, symmetry={"h": 8}, use_running_average=True, rngs=nnx.Rngs(0))(jnp.ones((2, 3, 1)))
    assert str(refusal.value) == (
        "x: 1 channels on axis -1 are not those of this norm. Expected 8. Make the norm for as many, or move the "
        "channels."
    )
    with pytest.raises(ValueError, match="boolean"):
        batch_norm()(flat(picture(5)), mask=jnp.full((4, 5, 15), 2))


@pytest.mark.parametrize("fast", [True, False])
def test_complex_numbers_have_a_variance_that_is_real(fast):
    x = flat(picture(5, 6, channels=4))
    x = x + 1j * flat(picture(6, 5, channels=4)).reshape(x.shape)
    norm = OrbitBatchNorm(4, symmetry={"h": 4}, use_fast_variance=fast, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    norm.mean = nnx.BatchStat(jnp.zeros(2, complex))
    y = norm(x)
    np.testing.assert_allclose((jnp.abs(y) ** 2).mean(), 1.0, atol=1e-4)


def test_a_variance_is_never_negative():
    x = jnp.full((4, 5, 4), 1e4 + 0.1, jnp.float32)
    norm = OrbitBatchNorm(4, symmetry={"h": 4}, epsilon=1e-12, rngs=nnx.Rngs(0))
    assert jnp.isfinite(norm(x)).all()
    assert (norm.var[...] >= 0).all()


@pytest.mark.parametrize("ours", [OrbitLayerNorm, OrbitInstanceNorm])
def test_affine_terms_start_as_the_hosts_representatives(ours):
    layer, host = ours(15, symmetry=MIXED, rngs=nnx.Rngs(0), **AFFINE), ours.__mro__[2](15, rngs=nnx.Rngs(0), **AFFINE)
    first = np.array([index for index, letters in enumerate(layer.plan.mirror) if not letters])
    np.testing.assert_array_equal(layer.scale[...], host.scale[...][first])
    np.testing.assert_array_equal(layer.bias[...], host.bias[...][first])


def test_a_norm_knows_its_features():
    assert batch_norm().num_features == OrbitLayerNorm(15, symmetry=MIXED, rngs=nnx.Rngs(0)).num_features == 15
