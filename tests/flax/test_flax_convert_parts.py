"""What becomes of the parts of a model: variables that are shared, masks, what is kept, numbers of orbits."""

import copy
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from converted_flax import SMALL, alike, errors, wild
from flax import nnx
from steps_flax import Call, conv, through, tokens

import symmetric_layers.flax as ours
from symmetric_layers import SymmetryError
from symmetric_layers.flax import desymmetrize, equivariant, symmetrize
from symmetric_layers.flax.convert.parts import OrbitParam


def test_layers_that_share_a_variable_go_on_sharing_it():
    model = through(conv(4, 4), nnx.relu, conv(4, 4))
    model.layers[3].kernel = model.layers[1].kernel
    x = jnp.ones((1, 8, 9, 3))
    new = equivariant(model, "h", example=x)
    assert new.layers[3].kernel is new.layers[1].kernel
    assert new.layers[1].kernel.shape == (3, 3, 4, 2)
    model = through(nnx.Conv(4, 4, (1, 1), rngs=nnx.Rngs(0)), out=nnx.Conv(4, 4, (1, 1), rngs=nnx.Rngs(0)))
    model.layers[2].kernel = model.layers[1].kernel
    with pytest.raises(SymmetryError) as refusal:
        equivariant(model, "h", example=x)
    assert str(refusal.value) == (
        "model: layers that share a variable read it in different ways. Expected layers that are converted alike. Give "
        "each its own variable, or leave them out of what is converted."
    )


def test_layers_that_share_a_variable_are_written_out_once():
    class Net(nnx.Module):
        def __init__(self):
            more = {"symmetry": {"h": 4}, "rngs": nnx.Rngs(0)}
            self.first, self.norm = ours.SymmetricConv(3, 4, (3, 3), **more), ours.OrbitLayerNorm(4, **more)
            self.second = ours.SymmetricConv(4, 4, (3, 3), in_symmetry={"h": 4}, **more)
            self.third, self.last = nnx.clone(self.second), ours.OrbitLayerNorm(4, **more)
            self.third.kernel, self.third.bias = self.second.kernel, self.first.bias
            self.last.scale = self.norm.scale

        def __call__(self, x):
            return self.last(self.third(self.second(self.norm(self.first(x)))))

    net = wild(Net())
    plain = desymmetrize(net)
    assert plain.third.kernel is plain.second.kernel
    alike(net, plain, jnp.asarray(np.random.RandomState(0).standard_normal((1, 8, 9, 3))))
    net.second.grid, net.second.padding = "mirrored", ((0, 1), (0, 1))
    net.third.grid, net.third.padding = "mirrored", ((1, 0), (1, 0))
    with pytest.raises(SymmetryError, match="layers that share a variable read it in different ways"):
        desymmetrize(net)


def test_one_layer_at_sizes_that_differ_has_no_ordinary_form():
    own = ours.SymmetricConv(
        4, 4, (3, 3), (4, 2), symmetry={"h": 4}, in_symmetry={"h": 4}, grid="mirrored", rngs=nnx.Rngs(0)
    )
    twice = Call(lambda net, x: (net.own(x), net.own(jnp.pad(x, ((0, 0), (1, 1), (0, 0), (0, 0))))), own=own)
    with pytest.raises(SymmetryError) as refusal:
        desymmetrize(twice, example=jnp.ones((1, 9, 8, 4)))
    assert str(refusal.value) == (
        "model: 'own' is called at sizes [(1, 9, 8, 4), (1, 11, 8, 4)] that leave different remainders. Expected one "
        "ordinary form for all. Use two layers."
    )
    own.padding = "REFLECT"
    with pytest.raises(SymmetryError) as refusal:
        desymmetrize(twice, example=jnp.ones((1, 9, 8, 4)))
    assert str(refusal.value) == (
        "model: 'own' has no ordinary form with padding='REFLECT' on a mirrored grid. Expected sizes at which both "
        "grids are one, or zero padding. Take it out of the part that is converted."
    )


def test_all_that_is_kept_reads_is_led_out():
    class Net(nnx.Module):
        def __init__(self):
            self.own, self.out = conv(3, 4), nnx.Linear(4, 2, rngs=nnx.Rngs(0))
            self.looks = nnx.MultiHeadAttention(2, 4, decode=False, rngs=nnx.Rngs(0))
            self.odd = Call(lambda net, x: x[:, 1:] * net.scale[...], scale=nnx.Param(jnp.ones(4)))
            self.second = conv(4, 4)

        def __call__(self, x):
            x = self.odd(self.second(nnx.relu(self.own(x))))
            return self.out(self.looks(jnp.ones((1, 3, 4)), tokens(x)).mean(1))

    x = jnp.ones((1, 8, 9, 3))
    new = equivariant(Net(), "hv", example=x, keep=["looks", "odd"], measure=False)
    assert (type(new.own), type(new.second)) == (ours.SymmetricConv, ours.InvariantConv)
    assert (type(new.looks), type(new.odd.scale), type(new.out)) == (nnx.MultiHeadAttention, nnx.Param, nnx.Linear)


class Standardised(nnx.Conv):
    """A convolution of somebody's own."""

    def __call__(self, x):
        kernel = (self.kernel[...] - self.kernel[...].mean((0, 1, 2))).astype(x.dtype)
        how = jax.lax.conv_dimension_numbers(x.shape, kernel.shape, ("NHWC", "HWIO", "NHWC"))
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=how)


def test_convolutions_of_ones_own_can_be_kept():
    x = jnp.ones((1, 8, 9, 3))
    model = through(nnx.relu, Standardised(4, 4, (3, 3), rngs=nnx.Rngs(0)), nnx.relu, conv(4, 4))
    new = equivariant(model, "h", example=x, keep=["layers.2"], measure=False)
    sorts = [type(new.layers[index]).__name__ for index in (0, 2, 4, 5)]
    assert sorts == ["Conv", "Standardised", "SymmetricConv", "InvariantConv"]
    first = nnx.Sequential(Standardised(3, 4, (3, 3), rngs=nnx.Rngs(0)), conv(4, 4), conv(4, 2))
    new = equivariant(first, "h", example=x, keep=["layers.0"], measure=False)
    assert [type(layer).__name__ for layer in new.layers] == ["Standardised", "SymmetricConv", "InvariantConv"]


def test_the_picture_is_known_by_its_name():
    def step(net, x, mask):
        return net.out(net.norm(mask=mask, x=net.own(x)))

    norm = nnx.LayerNorm(4, rngs=nnx.Rngs(0))
    model = Call(step, own=conv(3, 4), norm=norm, out=conv(4, 2))
    x = {"x": jnp.ones((1, 8, 9, 3)), "mask": jnp.ones((1, 8, 9, 1), bool)}
    new = equivariant(model, "h", example=x, measure=False)
    assert (type(new.norm), type(new.out)) == (ours.OrbitLayerNorm, ours.InvariantConv)


@pytest.mark.parametrize("array", [jnp.asarray, np.asarray])
def test_masks_are_those_of_representatives(array):
    mask = np.random.RandomState(0).randint(0, 2, (3, 3, 3, 4))
    model = nnx.Sequential(conv(3, 4, mask=array(mask)))
    new = symmetrize(model, {"h": 4})
    np.testing.assert_array_equal(new.layers[0].mask, mask[..., ::2])


def test_numbers_need_not_be_on_a_device_nor_on_one():
    model = through(conv(4, 8), conv(8, 4))
    model.layers[1].bias = nnx.Param(np.arange(8.0))
    mesh = jax.make_mesh((4,), ("filters",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(None, None, None, "filters"))
    kernel = np.asarray(model.layers[1].kernel[...])
    model.layers[1].kernel[...] = jax.device_put(kernel, sharding)
    new = equivariant(model, "h", example=jnp.ones((1, 8, 9, 3)), measure=False)
    np.testing.assert_array_equal(new.layers[1].bias[...], [0, 2, 4, 6])
    np.testing.assert_array_equal(new.layers[1].kernel[...], kernel[..., ::2])
    abstract = nnx.eval_shape(lambda: through(conv(4, 4)))
    new = equivariant(abstract, "h", example=jnp.ones((1, 8, 9, 3)), measure=False)
    assert new.layers[1].kernel.get_value().shape == (3, 3, 4, 2)


def test_numbers_that_orbits_share_are_read_as_before():
    scale = OrbitParam(jnp.array([1.0, 2.0]), symmetry=(("h", 4),), channels=4)
    full = np.array([1.0, 1.0, 2.0, 2.0])
    ones = jnp.ones(4)
    for read in (scale[...], scale.value, np.asarray(scale), jnp.asarray(scale), scale.astype(float), scale.reshape(-1),
                 scale.T, scale + 0, 0 + scale, scale * ones, ones * scale, scale * nnx.Param(ones), abs(scale),
                 jnp.negative(-scale), jnp.stack(list(scale)), scale.clip(0)):  # fmt: skip
        np.testing.assert_array_equal(read, full)
    assert (scale.shape, scale.ndim, len(scale), float(scale[2]), float(scale @ jnp.ones(4))) == ((4,), 1, 4, 2.0, 6.0)
    assert scale.get_value().tolist() == [1.0, 2.0]
    scale[0] = 5.0
    scale.value = scale.value + 1
    assert scale[...].tolist() == [6.0, 6.0, 3.0, 3.0]
    scale.set_value(jnp.array([7.0, 8.0]))
    assert scale[1:3].tolist() == [7.0, 8.0]
    scale.set_value(9.0, index=0)
    assert scale.get_value().tolist() == [9.0, 8.0]
    assert scale.replace(ones).get_value().shape == (2,)
    assert (scale == 9.0).tolist() == (scale != 8.0).tolist() == [True, True, False, False]
    assert round(scale)[...].tolist() == [9.0, 9.0, 8.0, 8.0]
    with pytest.raises(SymmetryError) as refusal:
        scale.set_value(jnp.arange(3.0))
    assert str(refusal.value) == (
        "value: 3 numbers do not fit 4 channels of {'h': 4}. Expected one for each channel, or 2 for the "
        "representatives. Pass so many."
    )
    turned = OrbitParam(jnp.ones((2, 1)), symmetry=(("h", 4),), channels=4, dim=-2)
    assert (turned.shape, (turned < 2).tolist()) == ((4, 1), [[True]] * 4)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, nnx.clone, lambda one: pickle.loads(pickle.dumps(one))])
def test_numbers_that_orbits_share_can_be_copied(copied):
    x = jnp.asarray(np.random.RandomState(0).standard_normal((1, 8, 9, 3)))
    model = through(Call(lambda net, x: x * net.scale, scale=nnx.Param(jnp.ones(4))))
    model = wild(equivariant(model, "h", example=x, measure=False))
    scale = model.layers[1].scale
    own = copied(scale)
    assert (type(own), own.get_value().shape, own.get_metadata()) == (OrbitParam, (2,), scale.get_metadata())
    np.testing.assert_array_equal(own[...], scale[...])
    if copied in (copy.deepcopy, nnx.clone):  # steps of this model are functions that cannot be pickled
        new = copied(model)
        alike(model, new, x)
        new.layers[1].scale[...] = jnp.zeros(4)
        assert float(jnp.abs(scale[...]).min()) > 0
        assert float(new.layers[1].scale[...].sum()) == 0


GROUPED = {
    "fewer groups": (4, 16, "hv", "4 groups of 2, which tears orbits of 'hv' apart. Expected a multiple of 4 in each "
                     "group, or as many groups as channels. Use at most 2 groups"),
    "into an answer": (4, 8, "hv", "4 groups of 2, which tears orbits of 'hv' apart. Expected a multiple of 4 in each "
                       "group. Use at most 2 groups"),
}  # fmt: skip


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", GROUPED)
def test_groups_that_tear_orbits_apart_are_refused_by_name(name):
    groups, filters, axes, seen = GROUPED[name]
    end = [] if name == "into an answer" else [conv(filters, 2)]
    model = nnx.Sequential(conv(3, 8), conv(8, filters, feature_group_count=groups), *end)
    with pytest.raises(SymmetryError) as refusal:
        equivariant(model, axes, example=jnp.ones((1, 8, 9, 3)), measure=False)
    start = "model: 'layers.1' reads 8 channels in "
    assert str(refusal.value) == f"{start}{seen}, or keep that part ordinary with keep."


@pytest.mark.parametrize(("groups", "filters", "width"), [(4, 16, 1), (8, 8, 1), (8, 16, 2)])
def test_groups_that_hold_whole_orbits_obey(groups, filters, width):
    model = nnx.Sequential(conv(3, 8), conv(8, filters, feature_group_count=groups), conv(filters, 2))
    new = equivariant(model, "h", example=jnp.ones((1, 8, 9, 3)), width=width, measure=False)
    x = jnp.asarray(np.random.RandomState(0).standard_normal((1, 8, 9, 3)))
    assert max(errors(wild(new), "h", x)) < SMALL


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("how", [{}, {"width": 2}, {"width": "parameters"}, {"keep": ["layers.4"], "report": print}])
def test_statistics_in_single_precision_make_no_noise(how):
    norms = [nnx.BatchNorm(4, rngs=nnx.Rngs(0)) for _ in range(2)]
    model = through(norms[0], nnx.relu, conv(4, 4), norms[1])
    assert norms[0].mean[...].dtype == jnp.float32
    equivariant(model, "h", example=jnp.ones((1, 8, 9, 3), jnp.float64), **how)
    new = equivariant(model, "h", example=jnp.ones((1, 8, 9, 3), jnp.float32), **how)
    desymmetrize(new, example=jnp.ones((1, 8, 9, 3), jnp.float64))
