"""What the convolutions promise beyond the contract: they stay layers of Flax in everything that Flax does."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import nnx
from flax_face import apply
from jax.sharding import NamedSharding, PartitionSpec

from symmetric_layers import SymmetryError
from symmetric_layers.flax import InvariantConv, OrbitPool, SymmetricConv, SymmetricConvTranspose

PAIRS = [(nnx.Conv, SymmetricConv), (nnx.ConvTranspose, SymmetricConvTranspose)]
BANK = {"h": 2, "hv": 4}
SHARED = {"symmetry": BANK, "bias_init": nnx.initializers.normal()}


def random(*shape, dtype="float32"):
    return jnp.asarray(np.random.RandomState(0).standard_normal(shape).astype(dtype))


def close(ours, theirs, **tolerance):
    np.testing.assert_allclose(np.asarray(ours, "float64"), np.asarray(theirs, "float64"), **tolerance)


@pytest.mark.parametrize(("host", "ours"), PAIRS)
def test_the_arguments_are_the_hosts_with_the_hosts_defaults(host, ours):
    theirs, mine = inspect.signature(host).parameters, inspect.signature(ours).parameters
    positional = [name for name, p in theirs.items() if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert [name for name, p in mine.items() if p.kind is p.POSITIONAL_OR_KEYWORD] == positional
    assert any(p.kind is p.VAR_KEYWORD for p in mine.values())  # whatever else this version of the host takes
    named = [name for name in mine if name in theirs]
    assert [mine[name].default for name in named if "init" not in name] == [
        theirs[name].default for name in named if "init" not in name
    ]


@pytest.mark.parametrize("symmetry", [None, {}, {"h": 0}])
@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(("host", "ours"), PAIRS)
def test_without_symmetry_the_layer_is_the_hosts(host, ours, rank, symmetry):
    x = random(2, *(6, 7, 8)[-rank:], 3)
    kernel = (3, 4, 2)[:rank]
    plain = host(3, 4, kernel, bias_init=nnx.initializers.normal(), rngs=nnx.Rngs(1))
    layer = ours(3, 4, kernel, bias_init=nnx.initializers.normal(), symmetry=symmetry, rngs=nnx.Rngs(1))
    assert isinstance(layer, host)
    assert list(nnx.state(layer)) == list(nnx.state(plain))
    np.testing.assert_array_equal(layer.kernel[...], plain.kernel[...])
    np.testing.assert_array_equal(layer(x), plain(x))
    np.testing.assert_array_equal(layer.full_kernel(), plain.kernel[...])


@pytest.mark.parametrize("more", [{}, {"transpose_kernel": True}])
@pytest.mark.parametrize(("host", "ours"), PAIRS)
def test_the_initial_filters_are_the_hosts_representatives(host, ours, more):
    """So their variance is the one that the host gives the full bank, whatever the initializer is."""
    if host is nnx.Conv and more:
        return
    arguments = {"bias_init": nnx.initializers.normal(), **more}
    plain = host(3, 8, (3, 3), rngs=nnx.Rngs(1), **arguments)
    layer = ours(3, 8, (3, 3), symmetry=BANK, rngs=nnx.Rngs(1), **arguments)
    first = np.array([0, 2, 6, 7])
    full = plain.kernel[...]
    np.testing.assert_array_equal(layer.kernel[...], full[:, :, first] if more else full[..., first])
    np.testing.assert_array_equal(layer.bias[...], plain.bias[...][first])
    assert layer.kernel_shape == layer.kernel.shape


@pytest.mark.parametrize("padding", ["SAME", "VALID", "CIRCULAR", 1, ((0, 1), (2, 0))])
@pytest.mark.parametrize("turned", [False, True])
def test_a_transposed_layer_is_the_host_with_the_full_kernel(padding, turned):
    how = {"strides": 2, "padding": padding, "kernel_dilation": (1, 2), "transpose_kernel": turned}
    layer = SymmetricConvTranspose(4, 8, (3, 2), rngs=nnx.Rngs(0), in_symmetry={"hv": 4}, **SHARED, **how)
    host = nnx.ConvTranspose(4, 8, (3, 2), rngs=nnx.Rngs(1), **how)
    host.kernel[...], host.bias[...] = layer.full_kernel(), layer.full_bias()
    x = random(2, 5, 6, 4)
    close(apply(layer, x), apply(host, x), atol=1e-5)


@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
@pytest.mark.parametrize("grid", ["shared", "mirrored"])
@pytest.mark.parametrize("ours", [SymmetricConv, SymmetricConvTranspose])
def test_any_number_of_batches_is_one_batch(ours, grid, batch):
    layer = ours(3, 8, (3, 3), 2, grid=grid, rngs=nnx.Rngs(0), **SHARED)
    x = random(*batch, 8, 7, 3)
    flat = apply(layer, x.reshape(-1, 8, 7, 3))
    close(apply(layer, x), flat.reshape(*batch, *flat.shape[1:]), atol=1e-6)


@pytest.mark.parametrize("grid", ["shared", "mirrored"])
def test_types_are_the_hosts(grid, tolerance):
    x = random(2, 6, 8, 3)
    exact = SymmetricConv(3, 8, (3, 3), 2, grid=grid, rngs=nnx.Rngs(0), **SHARED)
    half = SymmetricConv(3, 8, (3, 3), 2, grid=grid, dtype=jnp.bfloat16, rngs=nnx.Rngs(0), **SHARED)
    assert half.kernel.dtype == jnp.float32
    assert half(x).dtype == jnp.bfloat16
    close(half(x), exact(x), atol=tolerance["bfloat16"], rtol=0)
    stored = SymmetricConv(3, 8, (3, 3), 2, grid=grid, param_dtype=jnp.bfloat16, rngs=nnx.Rngs(0), **SHARED)
    plain = nnx.Conv(3, 8, (3, 3), 2, param_dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    for given in (x, x.astype(jnp.bfloat16)):
        assert stored(given).dtype == plain(given).dtype
    wide = {"dtype": jnp.bfloat16, "preferred_element_type": jnp.float32}
    assert (
        SymmetricConv(3, 8, (3, 3), 2, grid=grid, rngs=nnx.Rngs(0), **SHARED, **wide)(x).dtype
        == nnx.Conv(3, 8, (3, 3), 2, rngs=nnx.Rngs(0), **wide)(x).dtype
    )


@pytest.mark.parametrize("grid", ["shared", "mirrored"])
def test_a_mask_is_mirrored_with_its_filter(grid):
    mask = jnp.ones((3, 3, 2, 4), jnp.float32).at[0, 0].set(0)
    layer = SymmetricConv(2, 8, (3, 3), 2, mask=mask, grid=grid, rngs=nnx.Rngs(0), **SHARED)
    plain = SymmetricConv(2, 8, (3, 3), 2, grid=grid, rngs=nnx.Rngs(0), **SHARED)
    plain.kernel[...] = layer.kernel[...] * mask
    x = random(2, 7, 8, 2)
    close(layer(x), plain(x), atol=1e-6)
    full = layer.full_kernel()
    assert (full[0, 0, :, 2] == 0).all()
    assert (full[2, 2, :, 5] == 0).all()
    assert (full[2, 2, :, 2] != 0).all()


def test_a_mask_that_does_not_fit_is_refused_at_once_and_later():
    sentence = (
        "mask: an array of shape (3, 3, 2, 8) does not fit the stored filters. Expected shape (3, 3, 2, 4). "
        "Leave mirrors out: they are masked like their representatives, in the mirror."
    )
    with pytest.raises(SymmetryError) as refusal:
        SymmetricConv(2, 8, (3, 3), mask=jnp.ones((3, 3, 2, 8)), symmetry=BANK, rngs=nnx.Rngs(0))
    assert str(refusal.value) == sentence
    layer = SymmetricConv(2, 8, (3, 3), symmetry=BANK, rngs=nnx.Rngs(0))
    layer.mask = nnx.data(jnp.ones((3, 3, 2, 8)))
    with pytest.raises(SymmetryError) as refusal:
        layer(random(1, 5, 5, 2))
    assert str(refusal.value) == sentence


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"grid": "own"}, "grid: 'own' is no choice here. Expected 'shared' or 'mirrored'. Use one of these."),
        ({"share_bias": 1}, "share_bias: 1 is no bool. Expected True or False. Use one of these."),
        (
            {"in_symmetry": "h"},
            "in_symmetry: 'h' is no mapping. Expected kinds and numbers, like {'h': 8, 'hv': '50%'}, or None. "
            "Use a dict.",
        ),
    ],
)
@pytest.mark.parametrize("ours", [SymmetricConv, SymmetricConvTranspose])
def test_what_cannot_be_read_is_refused(ours, arguments, sentence):
    with pytest.raises(SymmetryError) as refusal:
        ours(8, 8, (3, 3), rngs=nnx.Rngs(0), **arguments)
    assert str(refusal.value) == sentence


def test_transforms_of_jax_see_a_plain_layer():
    layer = SymmetricConv(3, 8, (3, 3), rngs=nnx.Rngs(0), **SHARED)
    x = random(4, 6, 7, 3)
    straight = layer(x)
    kind, state = nnx.split(layer)
    jitted = jax.jit(lambda state, x: nnx.merge(kind, state)(x))
    close(jitted(state, x), straight, atol=1e-5)
    close(jax.vmap(lambda one: jitted(state, one))(x), straight, atol=1e-5)
    close(jax.checkpoint(lambda x: layer(x))(x), straight, atol=1e-5)
    close(jax.lax.map(lambda one: layer(one), x), straight, atol=1e-5)
    tangent = jax.jvp(lambda x: layer(x), (x,), (x,))[1]
    close(tangent, straight - layer.full_bias(), atol=1e-4)  # an answer without its bias is linear in the picture


def test_many_layers_are_made_at_once():
    @nnx.split_rngs(splits=3)
    @nnx.vmap
    def many(rngs):
        return SymmetricConv(3, 8, (3, 3), rngs=rngs, **SHARED)

    layers = many(nnx.Rngs(0))
    assert layers.kernel.shape == (3, 3, 3, 3, 4)
    x = random(2, 6, 7, 3)
    answers = nnx.vmap(lambda layer, x: layer(x), in_axes=(0, None))(layers, x)
    assert answers.shape == (3, 2, 6, 7, 8)
    mirrored = nnx.vmap(lambda layer, x: layer(x), in_axes=(0, None))(layers, jnp.flip(x, 2))
    close(mirrored[..., 1], jnp.flip(answers, 3)[..., 0], atol=1e-5)
    assert jnp.abs(answers[0] - answers[1]).max() > 0.1


def test_shapes_are_known_without_numbers():
    abstract = nnx.eval_shape(lambda: SymmetricConv(3, 8, (3, 3), symmetry=BANK, rngs=nnx.Rngs(0)))
    assert abstract.kernel.shape == (3, 3, 3, 4)
    given = jax.ShapeDtypeStruct((2, 6, 7, 3), jnp.float32)
    for grid in ("shared", "mirrored"):
        layer = SymmetricConv(3, 8, (3, 3), 2, symmetry=BANK, grid=grid, rngs=nnx.Rngs(0))
        assert jax.eval_shape(layer, given).shape == (2, 3, 4, 8)


def test_two_equal_layers_are_compiled_once():
    calls = []

    @nnx.jit
    def answer(layer, x):
        calls.append(1)
        return layer(x)

    x = random(1, 5, 5, 3)
    for seed in (0, 1):
        answer(SymmetricConv(3, 8, (3, 3), symmetry={"hv": "50%", "h": 2}, rngs=nnx.Rngs(seed)), x)
    assert len(calls) == 1


@pytest.mark.parametrize("ours", [SymmetricConv, SymmetricConvTranspose])
def test_stored_filters_are_sharded_as_asked(ours):
    mesh = jax.make_mesh((4,), ("model",), axis_types=(jax.sharding.AxisType.Auto,))
    with jax.set_mesh(mesh):
        init = nnx.with_partitioning(nnx.initializers.lecun_normal(), (None, None, None, "model"))
        layer = ours(3, 16, (3, 3), kernel_init=init, symmetry={"hv": 16}, rngs=nnx.Rngs(0))
        named = ours(
            3, 16, (3, 3), kernel_metadata={"out_sharding": (None, None, None, "model")}, symmetry={"hv": 16},
            rngs=nnx.Rngs(0),
        )  # fmt: skip
        for kernel in (layer.kernel, named.kernel):
            assert kernel.shape == (3, 3, 3, 4)
            expected = NamedSharding(mesh, PartitionSpec(None, None, None, "model"))
            assert kernel[...].sharding.is_equivalent_to(expected, 4)
            assert {shard.data.shape for shard in kernel[...].addressable_shards} == {(3, 3, 3, 1)}
        x = random(2, 6, 7, 3)
        sharded = nnx.jit(lambda layer, x: layer(x))(layer, x)
    alone = ours(3, 16, (3, 3), symmetry={"hv": 16}, rngs=nnx.Rngs(0))
    close(sharded, alone(x), atol=1e-5)


def test_a_batch_is_shared_out_between_devices():
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    layer = SymmetricConv(3, 8, (3, 3), rngs=nnx.Rngs(0), **SHARED)
    x = random(8, 6, 7, 3)
    shared = jax.device_put(x, NamedSharding(mesh, PartitionSpec("data")))

    @nnx.jit
    def step(layer, x):
        return nnx.value_and_grad(lambda layer: (layer(x) ** 2).mean())(layer)

    (loss, gradient), (expected, alone) = step(layer, shared), step(layer, x)
    close(loss, expected, rtol=1e-6)
    close(gradient["kernel"][...], alone["kernel"][...], atol=1e-6)


def test_a_small_network_learns_digits_and_is_saved(tmp_path):
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    images, labels = jnp.asarray(images[:256].reshape(-1, 8, 8, 1) / 16, jnp.float32), jnp.asarray(labels[:256])

    class Net(nnx.Module):
        def __init__(self, rngs):
            bank = {"h": 4, "hv": 4}
            self.conv = SymmetricConv(1, 12, (3, 3), symmetry=bank, rngs=rngs)
            self.pool = OrbitPool(bank)
            self.head = nnx.Linear(7, 10, rngs=rngs)

        def __call__(self, x):
            return self.head(self.pool(nnx.relu(self.conv(x))).mean((1, 2)))

    net = Net(nnx.Rngs(0))
    optimizer = nnx.Optimizer(net, optax.adam(0.03), wrt=nnx.Param)

    @nnx.jit
    def step(net, optimizer):
        def loss(net):
            return optax.softmax_cross_entropy_with_integer_labels(net(images), labels).mean()

        value, gradients = nnx.value_and_grad(loss)(net)
        optimizer.update(net, gradients)
        return value

    before = net.conv.kernel[...]
    losses = [step(net, optimizer) for _ in range(60)]
    assert losses[-1] < 0.9 * losses[0]
    full = np.asarray(net.conv.full_kernel())
    assert np.abs(net.conv.kernel[...] - before).max() > 1e-2
    np.testing.assert_array_equal(full[..., 1], full[:, ::-1, :, 0])
    np.testing.assert_array_equal(full[..., 6], full[::-1, :, :, 4])
    np.testing.assert_array_equal(full[..., 7], full[::-1, ::-1, :, 4])

    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "net", nnx.state(net))
        checkpointer.wait_until_finished()
        kind, empty = nnx.split(nnx.eval_shape(lambda: Net(nnx.Rngs(1))))
        again = nnx.merge(kind, checkpointer.restore(tmp_path / "net", empty))
    np.testing.assert_array_equal(again(images), net(images))


@pytest.mark.parametrize("kernel", [np.array, list, iter])
@pytest.mark.parametrize("ours", [SymmetricConv, SymmetricConvTranspose, InvariantConv])
def test_a_kernel_has_as_many_axes_as_it_says_in_whatever_way(ours, kernel):
    more = {"in_symmetry": {"hv": 4}} if ours is InvariantConv else {"symmetry": {"hv": 4}}
    layer = ours(4, 4, kernel((3, 2)), rngs=nnx.Rngs(0), **more)
    assert layer.full_kernel().shape[:2] == layer.kernel.shape[:2] == (3, 2)
    assert layer(random(1, 5, 6, 4)).shape == (1, 5, 6, 4)


@pytest.mark.parametrize("kernel", [(), (2, 2, 2, 2)])
@pytest.mark.parametrize(("host", "ours"), PAIRS)
def test_without_symmetry_the_host_has_any_number_of_axes(host, ours, kernel):
    x = random(2, *(4,) * len(kernel), 3)
    plain, layer = (cls(3, 4, kernel, rngs=nnx.Rngs(0)) for cls in (host, ours))
    assert layer.kernel.shape == plain.kernel.shape
    if host is nnx.Conv:  # `lax.conv_transpose` has no such numbers of axes
        np.testing.assert_array_equal(layer(x), plain(x))
    with pytest.raises(SymmetryError, match=r"has no mirrors here|is no usable count"):
        ours(4, 4, kernel, symmetry={"h": 2}, rngs=nnx.Rngs(0))


@pytest.mark.parametrize("grid", ["shared", "mirrored"])
@pytest.mark.parametrize(
    ("ours", "more"),
    [
        (SymmetricConv, {"symmetry": {"h": 4, "hv": 4}}),
        (SymmetricConv, {"symmetry": {"hv": 8}, "in_symmetry": {"hv": 8}}),
        (SymmetricConv, {"symmetry": {"h": 8}, "in_symmetry": {"h": 8}, "feature_group_count": 8}),
        (SymmetricConvTranspose, {"symmetry": {"h": 4, "hv": 4}}),
        (InvariantConv, {"in_symmetry": {"hv": 8}}),
    ],
    ids=str,
)
def test_empty_batches_and_batches_shared_out_explicitly(ours, more, grid):
    if ours is not InvariantConv:
        more = {**more, "grid": grid}
    layer = ours(8, 8, (3, 3), 2, rngs=nnx.Rngs(0), **more)
    x = random(4, 6, 8, 8)
    expected = apply(layer, x)
    assert layer(x[:0]).shape == (0, *expected.shape[1:])
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Explicit,))
    with jax.set_mesh(mesh):
        shared = jax.device_put(x, NamedSharding(mesh, PartitionSpec("data")))
        answer = nnx.jit(lambda layer, x: layer(x))(layer, shared)
        assert answer.sharding.spec[0] == "data"
        close(answer, expected, atol=1e-5)


def test_where_answers_go_is_said_to_the_host():
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Explicit,))
    layers = [SymmetricConv(4, 8, (3, 3), rngs=nnx.Rngs(0), **SHARED)]
    layers.append(InvariantConv(4, 8, (3, 3), in_symmetry={"h": 4}, rngs=nnx.Rngs(0)))
    with jax.set_mesh(mesh):
        x = jax.device_put(random(4, 6, 8, 4), NamedSharding(mesh, PartitionSpec("data")))
        for layer in layers:
            answer = layer(x, out_sharding=PartitionSpec(None, None, None, "data"))
            assert answer.sharding.spec == PartitionSpec(None, None, None, "data")


@pytest.mark.parametrize("groups", [1, 2])
def test_filters_of_stacked_layers_are_written_out_one_by_one(groups):
    @nnx.split_rngs(splits=2)
    @nnx.vmap
    def many(rngs):
        bank = {"symmetry": {"h": 4, "hv": 8}, "in_symmetry": {"hv": 8}, "feature_group_count": groups}
        return SymmetricConv(8, 16, (3, 2), rngs=rngs, bias_init=nnx.initializers.normal(), **bank)

    stacked = many(nnx.Rngs(0))
    each = nnx.vmap(lambda layer: (layer.full_kernel(), layer.full_bias()))(stacked)
    np.testing.assert_array_equal(stacked.full_kernel(), each[0])
    np.testing.assert_array_equal(stacked.full_bias(), each[1])


@pytest.mark.parametrize("grid", ["shared", "mirrored"])
def test_what_the_host_refuses_it_refuses_in_its_own_words(grid):
    for padding in ([1], ((1, 2, 3), 1), np.int64(1)):
        layer = SymmetricConv(3, 8, (3, 3), 2, padding=padding, grid=grid, rngs=nnx.Rngs(0), **SHARED)
        with pytest.raises(ValueError, match="Invalid padding format"):
            layer(random(1, 6, 6, 3))
    for groups, in_symmetry in ((1, None), (8, {"hv": 8})):
        layer = SymmetricConv(
            8, 8, (3, 3), 2, grid=grid, feature_group_count=groups, symmetry={"hv": 8}, in_symmetry=in_symmetry,
            rngs=nnx.Rngs(0),
        )  # fmt: skip
        with pytest.raises((ValueError, TypeError), match="feature"):
            layer(random(1, 6, 6, 3))


@pytest.mark.parametrize("grid", ["shared", "mirrored"])
def test_a_bias_may_be_left_out_later(grid):
    layer = SymmetricConv(3, 8, (3, 3), 2, grid=grid, rngs=nnx.Rngs(0), **SHARED)
    x = random(1, 6, 6, 3)
    straight = layer(x)
    layer.use_bias = False
    close(layer(x), straight - layer.full_bias(), atol=1e-6)


def test_without_symmetry_masks_are_the_hosts_to_refuse():
    layer = SymmetricConv(2, 4, (3, 3), mask=jnp.ones((3, 3, 2, 8)), rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="Mask needs to have the same shape as weights"):
        layer(random(1, 5, 5, 2))
