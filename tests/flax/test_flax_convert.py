"""Whole models: to networks that obey the law, to mirrored banks, and back to ordinary layers."""

from functools import partial

import jax
import jax.numpy as jnp
import networks_flax
import numpy as np
import optax
import pytest
from converted_flax import SMALL, alike, errors, made, weights, wild
from flax import nnx

import symmetric_layers.flax as ours
from symmetric_layers import SymmetryError
from symmetric_layers.flax import desymmetrize, equivariant, symmetrize


@pytest.mark.parametrize("name", networks_flax.ALL)
def test_one_line_converts_and_the_law_holds(name):
    model, axes, x = made(name)
    before = jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(model, nnx.Param)))
    new = wild(equivariant(model, axes, example=x))
    assert max(errors(model, axes, x)) > 1e-2
    assert max(errors(new, axes, x)) < SMALL
    assert weights(new) < weights(model) * (0.75 if axes == "h" else 0.5)
    jax.tree.map(np.testing.assert_array_equal, before, nnx.to_pure_dict(nnx.state(model, nnx.Param)))


@pytest.mark.parametrize("name", networks_flax.ALL)
def test_the_way_back_answers_alike_with_ordinary_layers_alone(name):
    model, axes, x = made(name)
    if name in ("residual", "line"):  # at sizes at which their pools are their own mirror images
        x = x[:, :17, :17] if name == "residual" else x[:, :10]
    new = wild(equivariant(model, axes, example=x, measure=False))
    plain = desymmetrize(new, example=x)
    alike(new, plain, x)
    nodes = [node for _, node in nnx.iter_graph(plain)]
    assert not [node for node in nodes if type(node).__module__.startswith("symmetric_layers")]
    assert not [key for node in nodes if isinstance(node, nnx.Module) for key in vars(node) if "plan" in key]


def test_orbits_start_from_what_stood_where_their_representatives_stand():
    model, axes, x = made("residual")
    model.train()
    new = equivariant(model, axes, example=x, measure=False)
    assert not new.blocks[0].drop.deterministic  # in the mode of the old one
    pairs = [(model.stem, new.stem), (model.blocks[1].norm, new.blocks[1].norm), (model.hidden, new.hidden)]
    for old, one in pairs:
        for name in ("kernel", "bias", "scale", "mean", "var"):
            if getattr(old, name, None) is not None:
                first = np.asarray(getattr(old, name)[...])[..., ::4]
                np.testing.assert_array_equal(first, getattr(one, name)[...])
    np.testing.assert_array_equal(model.head.kernel[::4], new.head.kernel[...])
    sorts = [type(one) for one in (new.stem, new.pool, new.blocks[1].norm, new.blocks[1].way, new.hidden, new.head)]
    assert sorts[:4] == [ours.SymmetricConv, ours.Mirrored, ours.OrbitBatchNorm, ours.SymmetricConv]
    assert [sort.__name__ for sort in sorts[4:]] == ["SymmetricLinear", "OrbitLinear"]


def test_numbers_that_orbits_share_are_stored_once_and_learn():
    model, axes, x = made("convnext")
    new = equivariant(model, axes, example=x, measure=False)
    scale = new.scale
    assert isinstance(scale, nnx.Param)
    assert (scale.get_raw_value().shape, scale.shape, scale[...].shape) == ((4,), (8,), (8,))
    np.testing.assert_array_equal(scale[...], np.repeat(np.asarray(model.scale[::2]), 2))
    scale[...] = jnp.arange(8.0)
    np.testing.assert_array_equal(scale[...], [0, 0, 2, 2, 4, 4, 6, 6])
    assert float(scale[3]) == 2
    gradient = nnx.jit(nnx.grad(lambda net: (net(x) ** 2).sum()))(new)
    optimizer = nnx.Optimizer(new, optax.sgd(1e-3), wrt=nnx.Param)
    before = np.asarray(scale.get_raw_value())
    optimizer.update(new, gradient)
    assert np.abs(np.asarray(new.scale.get_raw_value()) - before).min() > 0
    assert max(errors(wild(new), axes, x)) < SMALL
    again = nnx.clone(new)
    np.testing.assert_array_equal(again.scale[...], new.scale[...])
    state = nnx.state(new)
    again.scale[...] = jnp.zeros(4)
    nnx.update(again, state)
    np.testing.assert_array_equal(again.scale[...], new.scale[...])
    written = nnx.to_pure_dict(state)  # where hosts write what is read: one number for each channel
    again.scale[...] = jnp.zeros(8)
    state = nnx.state(again)
    nnx.replace_by_pure_dict(state, written)
    nnx.update(again, state)
    np.testing.assert_array_equal(again.scale[...], new.scale[...])


def test_a_converted_network_learns_and_goes_on_obeying():
    model, axes, x = made("residual")
    new = equivariant(model, axes, example=x, measure=False)
    new.train()
    optimizer = nnx.Optimizer(new, optax.adam(1e-2), wrt=nnx.Param)

    @nnx.jit
    def step(net, optimizer):
        loss, gradient = nnx.value_and_grad(lambda net: ((net(x) - 1) ** 2).mean())(net)
        optimizer.update(net, gradient)
        return loss

    losses = [float(step(new, optimizer)) for _ in range(8)]
    assert losses[-1] < losses[0]
    new.eval()
    assert max(errors(new, axes, x)) < SMALL


def test_mirrored_banks_take_the_place_of_convolutions():
    model, _, x = made("unet")
    new = symmetrize(model, {"hv": "50%"}, where=lambda name, conv: name != "out")
    convs = [new.down[0], new.down[1], new.middle, new.up["0"], new.up["1"], new.joined[1], new.deep]
    assert [layer.plan.stored for layer in convs] == [5, 10, 10, 10, 5, 5, 2]
    assert type(new.out) is nnx.Conv
    assert type(new.norms[0]) is nnx.GroupNorm
    first = list(new.middle.plan.firsts)
    np.testing.assert_array_equal(model.middle.kernel[..., jnp.array(first)], new.middle.kernel[...])
    np.testing.assert_array_equal(model.middle.bias[jnp.array(first)], new.middle.bias[...])
    alike(desymmetrize(new), new, x)


CONVOLUTIONS = [
    {"kernel_size": (3, 3), "strides": 2},
    {"kernel_size": (2, 3)},
    {"kernel_size": (3, 4), "strides": (2, 3), "padding": "VALID"},
    {"kernel_size": (2, 3), "kernel_dilation": (1, 2), "feature_group_count": 2},
    {"kernel_size": (3, 3), "padding": ((0, 2), (1, 0)), "strides": 2, "input_dilation": (1, 2)},
]
TRANSPOSED = [
    {"kernel_size": (3, 3), "strides": (2, 2)},
    {"kernel_size": (2, 2), "strides": (3, 3), "padding": "VALID"},
    {"kernel_size": (3, 4), "strides": (2, 1), "transpose_kernel": True},
    {"kernel_size": (3, 2), "strides": (2, 2), "padding": ((2, 1), (0, 2)), "kernel_dilation": (2, 1)},
]


@pytest.mark.parametrize("how", [*CONVOLUTIONS, *TRANSPOSED], ids=str)
@pytest.mark.parametrize("sort", ["symmetric", "invariant"])
def test_layers_on_mirrored_grids_have_an_ordinary_form(sort, how):
    kind = "ConvTranspose" if how in TRANSPOSED else "Conv"
    more = {**how, "rngs": nnx.Rngs(0), "param_dtype": jnp.float64}
    if sort == "symmetric":
        bank = {"h": 8, "hv": 8}
        layer = getattr(ours, f"Symmetric{kind}")(8, 16, symmetry=bank, in_symmetry={"hv": 8}, grid="mirrored", **more)
    else:
        layer = getattr(ours, f"Invariant{kind}")(8, 4, in_symmetry={"hv": 8}, **more)
    wild(layer)
    for size in ((8, 9), (9, 8)):
        x = jnp.asarray(np.random.RandomState(0).standard_normal((1, *size, 8)))
        plain = desymmetrize(layer, example=x)
        assert type(plain) is getattr(nnx, kind)
        alike(layer, plain, x)


def test_what_depends_on_the_size_needs_an_example():
    model, axes, x = made("residual")
    new = equivariant(model, axes, example=x, measure=False)
    with pytest.raises(SymmetryError) as refusal:
        desymmetrize(new)
    assert str(refusal.value) == (
        "model: 'pool' sees a function in the mirror, which has an ordinary form only where it is its own mirror "
        "image. Expected an example. Pass an input as example."
    )
    with pytest.raises(SymmetryError) as refusal:
        desymmetrize(new, example=x)
    assert str(refusal.value) == (
        "model: 'pool', a function in the mirror, has no ordinary form at pictures of (2, 9, 10, 8). Expected sizes at "
        "which it is its own mirror image. Pass an example of such a size."
    )
    with pytest.raises(SymmetryError) as refusal:
        desymmetrize(new.stem)
    assert str(refusal.value) == (
        "model: '' has a mirrored grid, whose ordinary form depends on the size. Expected an example. Pass an input as "
        "example."
    )


def test_what_is_kept_is_ordinary_and_the_rest_obeys():
    model, axes, x = made("unet")
    told = []
    new = equivariant(model, axes, example=x, keep=["deep"], report=told.append)
    assert type(new.deep) is nnx.ConvTranspose
    assert type(new.middle) is ours.InvariantConv  # what is kept reads its answer
    assert type(new.joined[0]) is ours.SymmetricConv
    (sentence,) = told
    assert sentence.startswith("With 'deep' ordinary, the largest relative deviation is ")
    assert float(sentence.split()[-1].rstrip(".")) > 1e-3
    lists = equivariant(made("residual")[0], "h", example=made("residual")[2], keep="blocks", measure=False)
    assert {type(block.first) for block in lists.blocks} == {nnx.Conv}


def test_what_the_example_does_not_reach_is_told():
    model, axes, x = made("volume")
    told = []
    new = equivariant(model, axes, example={"scan": x["scan"]}, report=told.append)
    assert told == ["'time' was not reached by the example, and stays ordinary."]
    assert type(new.time) is nnx.Linear


def through(*inner, out=None):
    """A network with these steps between its first layer and its last."""
    rngs = nnx.Rngs(1)
    lead, last = nnx.Conv(3, 4, (3, 3), rngs=rngs), nnx.Conv(4, 2, (1, 1), rngs=rngs)
    return nnx.Sequential(lead, *inner, last if out is None else out)


def conv(inner, outer, *size, **more):
    return nnx.Conv(inner, outer, size or (3, 3), rngs=nnx.Rngs(2), **more)


def tokens(x):
    return x.reshape(x.shape[0], -1, x.shape[-1])


class Attention(nnx.Module):
    """Every pixel looks at every pixel."""

    def __init__(self):
        self.asks, self.shows = nnx.Linear(4, 8, rngs=nnx.Rngs(0)), nnx.Linear(4, 8, rngs=nnx.Rngs(1))

    def __call__(self, x):
        seen = tokens(x)
        weights = jnp.einsum("bic,bjc->bij", self.asks(seen), self.shows(seen))
        return jnp.einsum("bij,bjc->bic", nnx.softmax(weights), seen).reshape(x.shape)


class Twice(nnx.Module):
    """A layer that is called twice, and one that stands at two places."""

    def __init__(self):
        self.own = self.again = conv(4, 4)

    def __call__(self, x):
        return self.own(nnx.relu(self.again(nnx.relu(self.own(x)))))


class Glu(nnx.Module):
    def __init__(self):
        self.wide = conv(4, 8)

    def __call__(self, x):
        left, right = jnp.split(self.wide(x), 2, -1)
        return left * nnx.sigmoid(right)


LAWFUL = {
    "attention": (Attention, "hv"),
    "twice": (Twice, "hv"),
    "glu": (Glu, "hv"),
    "standardised": (lambda: nnx.standardize, "h"),
    "softmax": (lambda: partial(nnx.softmax, axis=-1), "h"),
    "remat": (lambda: jax.checkpoint(lambda x: nnx.gelu(x) * 2), "h"),
    "compiled": (lambda: jax.jit(nnx.softplus), "h"),
    "turned": (lambda: lambda x: x.transpose(3, 0, 1, 2).transpose(1, 2, 3, 0), "hv"),
    "normalised": (lambda: lambda x: x / jnp.linalg.norm(x, axis=-1, keepdims=True), "hv"),
    "ordered": (lambda: lambda x: x * jnp.sort(x, 1).mean((1, 2), keepdims=True), "hv"),
    "resized": (lambda: lambda x: jax.image.resize(x, (*x.shape[:1], 16, 18, 4), "nearest"), "hv"),
    "padded": (lambda: lambda x: jnp.pad(x, ((0, 0), (0, 1), (0, 2), (0, 0))), "hv"),
    "cropped": (lambda: lambda x: x[:, 1:], "hv"),
    "cut": (lambda: lambda x: jnp.concatenate([x[..., 4:], x[..., :4]], -1) if x.shape[-1] > 4 else x, "h"),
    "one for all": (lambda: lambda x: x - x.max(-1, keepdims=True) * x.sum((1, 2, 3), keepdims=True), "h"),
}  # fmt: skip


@pytest.mark.parametrize("name", LAWFUL)
def test_ordinary_networks_of_many_forms_obey(name):
    build, axes = LAWFUL[name]
    x = jnp.asarray(np.random.RandomState(0).standard_normal((1, 8, 9, 3)))
    new = wild(equivariant(through(build()), axes, example=x))
    assert max(errors(new, axes, x)) < SMALL


class Call(nnx.Module):
    """A step that is written in a call."""

    def __init__(self, step, **parts):
        self.step = (step,)
        for name, part in parts.items():
            setattr(self, name, part)

    def __call__(self, x):
        return self.step[0](self, x)


def crooked(net, x):
    return nnx.max_pool(x, (2, 2), (2, 2))


REFUSED = {
    "flattened": (through(tokens, lambda x: x.reshape(1, -1), out=nnx.Linear(288, 2, rngs=nnx.Rngs(0))), "h",
                  "'layers.3', Linear, reads channels that 'reshape' has mixed with positions"),
    "torn": (nnx.Sequential(conv(3, 5), conv(5, 2)), "h", "'layers.0' has 5 output channels, which are no whole"),
    "alone": (nnx.Sequential(conv(3, 4)), "h", "reads a picture and gives an answer, with no orbits between"),
    "weights": (through(Call(lambda net, x: x @ net.mixes[...], mixes=nnx.Param(jnp.ones((4, 4))))), "h",
                "'layers.1' weighs orbits of channels with the variable 'layers.1.mixes'"),
    "pixels": (through(Call(lambda net, x: x + net.place[...], place=nnx.Param(jnp.ones((8, 9, 4))))), "h",
               "'layers.1' weighs orbits of channels with the variable 'layers.1.place'"),
    "blurred": (through(Call(lambda net, x: jax.lax.conv_general_dilated(
        x, jnp.ones((2, 2, 1, 4)), (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=4))), "h", "'layers.1' weighs orbits of channels with 'a convolution'"),
    "concatenated": (nnx.Sequential(Call(lambda net, x: jnp.concatenate([x, net.conv(x)], -1), conv=conv(3, 4)),
                                    conv(7, 2)), "h",
                     "'layers.0' concatenates an input of the model with channels of layers"),
    "groups": (through(nnx.GroupNorm(4, 4, rngs=nnx.Rngs(0)), conv(4, 6), nnx.GroupNorm(6, 2, rngs=nnx.Rngs(0)),
                       conv(6, 4)), "h", "'layers.3' cannot be converted."),
    "positions": (through(nnx.LayerNorm(8, feature_axes=1, reduction_axes=1, rngs=nnx.Rngs(0))), "h",
                  "'layers.1' has numbers for axes"),
    "both": (Call(lambda net, x: net.out(net.conv(nnx.relu(net.conv(x)))), conv=conv(4, 4), out=conv(4, 2)), "h",
             "'conv' is used both on pictures and on orbits"),
    "groups of filters": (through(conv(4, 6, feature_group_count=2), conv(6, 4)), "h", "Expected a multiple of 4"),
    "depthwise": (nnx.Sequential(conv(4, 4, feature_group_count=4), conv(4, 4), conv(4, 2)), "h",
                  "Expected a multiple of 8"),
    "a pool": (through(Call(crooked)), "h",
               "'max_pool' in 'layers.1' lies otherwise in the mirror at this size. Expected windows and padding that "
               "are alike on both sides. Make it a function that is an attribute, like self.pool = "
               "functools.partial(nnx.max_pool, ...), which is then seen in the mirror, too."),
    "neighbours": (through(Call(lambda net, x: x * jnp.cumsum(x, -1))), "h", "followed through 'cumsum'"),
    "rolled": (through(Call(lambda net, x: jnp.roll(x, 1, -1))), "h", "cuts channels at 3, which tears orbits of 'h'"),
    "shuffled": (through(Call(lambda net, x: x[..., jnp.array([2, 0, 1, 3])])), "h", "followed through 'an index'"),
    "attended": (through(nnx.MultiHeadAttention(2, 4, decode=False, rngs=nnx.Rngs(0))), "h",
                 "'layers.1', MultiHeadAttention, has no form for orbits of channels"),
    "breach": (through(Call(lambda net, x: x * jnp.arange(9.0)[:, None])), "h", "the converted network breaks the law"),
    "training": (through(Call(lambda net, x: x if net.norm.use_running_average else x * jnp.arange(9.0)[:, None],
                              norm=nnx.BatchNorm(4, rngs=nnx.Rngs(0)))), "h", "in training mode, first at 'layers.2'"),
    "no convolution": (nnx.Sequential(nnx.Linear(3, 2, rngs=nnx.Rngs(0))), "h", "no convolution is in it"),
    "ours": (through(ours.SymmetricConv(4, 4, (3, 3), symmetry={"h": 4}, rngs=nnx.Rngs(0))), "h",
             "is a layer of this package already"),
    "loops": (through(Call(lambda net, x: jax.lax.fori_loop(0, 2, lambda index, y: y + 1, x))), "h",
              "cannot be followed through 'nnx.scan'"),
    "statistics": (through(Call(lambda net, x: x - net.mean[...], mean=nnx.BatchStat(jnp.ones(4)))), "h",
                   "'layers.1.mean', BatchStat, has one number for each channel of an orbit. Expected an nnx.Param"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_obey_is_refused_with_a_name_and_a_way_out(name):
    model, axes, reason = REFUSED[name]
    channels = 4 if name in ("both", "depthwise") else 3
    with pytest.raises(SymmetryError) as refusal:
        equivariant(model, axes, example=jnp.ones((1, 8, 9, channels)))
    assert reason in str(refusal.value)
    assert str(refusal.value).count("Expected") == 1


def test_other_wrong_arguments_are_refused():
    model, _, x = made("unet")
    for bad, sentence in [
        (lambda: equivariant(model, "z", example=x), "axes: 'z' is no kind of mirror in 2-D."),
        (lambda: equivariant(model, "h", example=x[0, 0]), "example: [(12, 1)] holds no pictures."),
        (lambda: equivariant(model, "h", example=x, keep=["nothing"]), "keep: 'nothing' is no module of the model."),
        (lambda: equivariant(model, "h", example=x, measure=1), "measure: 1 is no bool."),
        (lambda: equivariant(nnx.relu, "h", example=x), "is no module. Expected an nnx.Module."),
        (lambda: equivariant(model, "h", example=x[:, :7]), "example: the model does not accept [(2, 7, 12, 1)] in"),
        (lambda: symmetrize(model, {"hv": 6}), "cannot have this symmetry. symmetry: 'hv': 6 does not fit 2 filters."),
        (lambda: symmetrize(model, {"h": 2}, where=lambda name, conv: False), "no ordinary convolution is left in it."),
        (lambda: desymmetrize(model), "model: no layer of this package is in it."),
        (lambda: desymmetrize(ours.OrbitPool({"h": 4})), "model: '', OrbitPool, has no ordinary form."),
    ]:
        with pytest.raises(SymmetryError) as refusal:
            bad()
        assert sentence in str(refusal.value)


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
        "each its own variable, or keep them ordinary with keep."
    )
