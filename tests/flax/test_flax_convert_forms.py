"""What whole models may look like, and what is refused of them."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from converted_flax import SMALL, errors, wild
from flax import nnx
from steps_flax import Call, conv, through, tokens

import symmetric_layers.flax as ours
from symmetric_layers import SymmetryError
from symmetric_layers.flax import desymmetrize, equivariant
from symmetric_layers.flax.law import call


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


class Remembering(nnx.Module):
    """Layers whose answers are computed again when gradients are asked for."""

    def __init__(self):
        self.own = conv(4, 4)

    @nnx.remat
    def __call__(self, x):
        return nnx.relu(self.own(x))


STEPS = [
    nnx.standardize,
    partial(nnx.softmax, axis=-1),
    jax.checkpoint(lambda x: nnx.gelu(x) * 2),
    jax.jit(nnx.softplus),
    lambda x: x.transpose(3, 0, 1, 2).transpose(1, 2, 3, 0),
    lambda x: x / jnp.linalg.norm(x, axis=-1, keepdims=True),
    lambda x: x * jnp.sort(x, 1).mean((1, 2), keepdims=True),
    lambda x: x - x.max(-1, keepdims=True) * x.sum((1, 2, 3), keepdims=True),
]
CROOKED = [
    lambda x: jax.image.resize(x, (*x.shape[:1], 12, 13, x.shape[-1]), "nearest"),
    lambda x: jnp.pad(x, ((0, 0), (0, 1), (0, 2), (0, 0))),
    lambda x: x[:, 1:],
    lambda x: x * jnp.cumsum(x, 1),
]


def windows(net, x):
    seen = x.reshape(1, 2, 4, 3, 3, 4).swapaxes(2, 3).reshape(6, 4, 3, 4)
    return net.own(seen).reshape(1, 2, 3, 4, 3, 4).swapaxes(2, 3).reshape(x.shape)


def first_token(net, x):
    seen = jnp.concatenate([x.mean((1, 2))[:, None], tokens(x)], 1)
    return net.own(seen)[:, 0]


LAWFUL = {
    "attention": (lambda: through(Attention()), "hv"),
    "twice": (lambda: through(Twice()), "hv"),
    "gates": (lambda: through(Glu()), "hv"),
    "steps": (lambda: through(*STEPS), "hv"),
    "crooked functions": (lambda: through(*CROOKED), "hv"),
    "remembering": (lambda: through(Remembering()), "h"),
    "pixels in a row": (lambda: through(Call(lambda net, x: net.own(x.reshape(-1, 4)).reshape(x.shape),
                                             own=nnx.Linear(4, 4, rngs=nnx.Rngs(0)))), "h"),
    "points": (lambda: nnx.Sequential(conv(3, 4), lambda x: x.mean((1, 2)), nnx.Linear(4, 10, rngs=nnx.Rngs(0)),
                                      lambda x: x.reshape(1, 5, 2)), "h"),
    "pixels in a row, by functions": (lambda: through(tokens, nnx.Linear(4, 4, rngs=nnx.Rngs(0)), lambda x: x.reshape(
        1, 8, 9, 4)), "hv"),
    "channels first for a while": (lambda: through(lambda x: jnp.moveaxis(x, -1, 1), jax.jit(lambda x: jnp.moveaxis(
        x, 1, -1))), "h"),
    "roots": (lambda: nnx.Sequential(conv(3, 4), nnx.relu, lambda x: jnp.mean(x[:, 1:] ** 3, (1, 2)) ** (1 / 3),
                                     nnx.Linear(4, 2, rngs=nnx.Rngs(0))), "v"),
    "flipped colours": (lambda: Call(lambda net, x: x + net.out(nnx.relu(net.own(x)))[..., ::-1], own=conv(3, 4),
                                     out=conv(4, 3)), "h"),
    "answers": (lambda: through(out=Call(lambda net, x: {"a": 0.0, "b": net.own(x)[..., 0]}, own=conv(4, 1))), "h"),
    "axis 3": (lambda: through(lambda x: x.astype(jnp.float32), nnx.BatchNorm(4, axis=3, rngs=nnx.Rngs(0))), "h"),
    "windows": (lambda: through(Call(windows, own=nnx.Linear(4, 4, rngs=nnx.Rngs(0)))), "h"),
    "turned": (lambda: through(Call(lambda net, x: net.own(x.swapaxes(1, 2)).swapaxes(1, 2), own=nnx.Linear(
        4, 4, rngs=nnx.Rngs(0)))), "h"),
    "a first token": (lambda: nnx.Sequential(conv(3, 4), Call(first_token, own=nnx.Linear(4, 4, rngs=nnx.Rngs(0))),
                                             nnx.Linear(4, 2, rngs=nnx.Rngs(0))), "hv"),
    "a map without channels": (lambda: through(out=nnx.Sequential(conv(4, 1), lambda x: x[..., 0])), "hv"),
    "classes of pixels": (lambda: through(out=nnx.Sequential(conv(4, 3), lambda x: x.argmax(-1))), "h"),
    "a pool that is told": (lambda: through(Call(lambda net, x: net.pool(x, (2, 2), strides=(2, 2)),
                                                 pool=nnx.max_pool)), "h"),
    "blurred": (lambda: nnx.Sequential(lambda x: jax.lax.conv_general_dilated(
        x.astype(jnp.float32), jnp.ones((3, 3, 1, 3), jnp.float32), (1, 1), "SAME", dimension_numbers=(
            "NHWC", "HWIO", "NHWC"), feature_group_count=3), conv(3, 4), conv(4, 2)), "h"),
    "in sixteen bits": (lambda: through(conv(4, 4, dtype=jnp.bfloat16), nnx.BatchNorm(4, dtype=jnp.bfloat16,
                                                                                      rngs=nnx.Rngs(0))), "h"),
    "a case": (lambda: through(out=Call(lambda net, x: jax.lax.cond(x.mean() > 0, jnp.sin, jnp.cos, net.own(x)),
                                        own=conv(4, 2))), "h"),
    "numbers of one's own": (lambda: nnx.Sequential(Call(lambda net, x: x - net.mean, mean=jnp.arange(3.0)), conv(3, 4),
                                                    Call(lambda net, x: x * net.most, most=jnp.array(2.0)),
                                                    conv(4, 2)), "h"),
    "a query": (lambda: through(Call(lambda net, x: x * net.own(net.query[...]).mean(), own=nnx.Linear(
        4, 4, rngs=nnx.Rngs(0)), query=nnx.Param(jnp.ones((3, 4))))), "h"),
    "measured weights": (lambda: through(Call(lambda net, x: x / jnp.linalg.norm(net.all[...]), all=nnx.Param(
        jnp.ones((3, 4))))), "h"),
    "embedded": (lambda: through(Call(lambda net, x: x * net.own(jnp.zeros((1,), int))[:, None, None], own=nnx.Embed(
        3, 1, rngs=nnx.Rngs(0)))), "h"),
}  # fmt: skip


@pytest.mark.parametrize("name", LAWFUL)
def test_ordinary_networks_of_many_forms_obey(name):
    build, axes = LAWFUL[name]
    x = jnp.asarray(np.random.RandomState(0).standard_normal((1, 8, 9, 3)))
    model = build()
    new = equivariant(model, axes, example=x)
    shapes = [jax.tree.map(jnp.shape, nnx.eval_shape(call, net, x)) for net in (new, model)]
    assert shapes[0] == shapes[1]
    assert any(type(module).__name__ == "SymmetricConv" for _, module in nnx.iter_modules(new))


def test_functions_that_lie_otherwise_are_seen_in_the_mirror():
    x = jnp.ones((1, 8, 9, 3))
    new = equivariant(through(*STEPS[:2], *CROOKED, *STEPS[2:4]), "hv", example=x, measure=False)
    assert [isinstance(step, ours.Mirrored) for step in new.layers] == [*[False] * 3, *[True] * 4, *[False] * 3]
    new = equivariant(through(CROOKED[2]), "h", example=x, measure=False)  # along other axes it is alike
    assert not isinstance(new.layers[1], ours.Mirrored)
    pool = jax.jit(lambda y: nnx.max_pool(y, (2, 2), (2, 2)))  # which fits this size
    model = nnx.Sequential(conv(3, 4), pool, nnx.Conv(4, 4, (3, 3), rngs=nnx.Rngs(0)), pool, conv(4, 2))
    new = wild(equivariant(model, "hv", example=x[:, :, :8], measure=False))
    assert [isinstance(new.layers[index], ours.Mirrored) for index in (1, 3)] == [True, True]
    assert max(errors(new, "hv", jnp.asarray(np.random.RandomState(0).standard_normal((1, 11, 13, 3))))) < SMALL
    shared = nnx.clone(new)
    shared.layers[3] = shared.layers[1]
    plain = desymmetrize(shared, example=x[:, :, :8])
    assert not [module for _, module in nnx.iter_modules(plain) if isinstance(module, ours.Mirrored)]
    masked = Call(lambda net, y: net.pool(net.own(y), jnp.ones(())), own=conv(3, 4), pool=ours.Mirrored(
        lambda y, scale: nnx.max_pool(y * scale, (2, 2), (2, 2)), {"h": 4}))  # fmt: skip
    assert not isinstance(desymmetrize(masked, example=x[:, :, :8]).pool, ours.Mirrored)


def test_numbers_are_drawn_like_those_of_the_example():
    def steps(x):
        return jnp.log(x)

    x = jnp.asarray(np.random.RandomState(0).uniform(0.1, 1, (1, 8, 9, 3)))
    equivariant(nnx.Sequential(steps, conv(3, 4), conv(4, 2)), "h", example=x)
    with pytest.raises(SymmetryError) as refusal:
        equivariant(nnx.Sequential(steps, conv(3, 4), conv(4, 2)), "h", example=jnp.ones((1, 8, 9, 3)))
    assert str(refusal.value) == (
        "example: the converted network answers NaN to random numbers like these. Expected an example with numbers as "
        "the model takes them, between whose least and largest others are drawn. Pass such a one, or measure=False."
    )
    labels = nnx.Sequential(lambda x: x[..., 0], nnx.Embed(10, 4, rngs=nnx.Rngs(0)), conv(4, 4), conv(4, 2))
    equivariant(labels, "h", example=jnp.asarray(np.random.RandomState(0).randint(0, 10, (1, 8, 9, 1))))
    equivariant(labels, "h", example=jax.ShapeDtypeStruct((1, 8, 9, 1), "int32"), measure=False)


def typed(x):
    if x.dtype != jnp.float16:
        raise TypeError("sixteen bits are all that is taken here")
    return x.astype(jnp.float32)


class More(nnx.Conv):
    """A layer that can do more than its host."""

    def twice(self, x):
        return self(self(x))


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
    "a pool": (through(Call(crooked)), "h",
               "'max_pool' in 'layers.1' lies otherwise in the mirror at this size. Expected windows and padding that "
               "are alike on both sides. Make it a function that is an attribute, like self.pool = "
               "functools.partial(nnx.max_pool, ...), which is then seen in the mirror, too."),
    "neighbours": (through(Call(lambda net, x: x * jnp.cumsum(x, -1))), "h", "followed through 'cumsum'"),
    "rolled": (through(Call(lambda net, x: jnp.roll(x, 1, -1))), "h", "cuts channels at 3, which tears orbits of 'h'"),
    "shuffled": (through(Call(lambda net, x: x[..., jnp.array([2, 0, 1, 3])])), "h", "followed through 'an index'"),
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
    "two functions": (through(Call(lambda net, x: net.both(x, x), both=lambda a, b: nnx.max_pool(
        a, (2, 2), (2, 2)) + nnx.avg_pool(b, (2, 2), (2, 2)))), "h", "'max_pool' in 'layers.1' lies otherwise"),
    "both pools": (Call(lambda net, x: net.out(net.pool(nnx.relu(net.own(x))) + net.more(net.pool(x))),
                        pool=partial(nnx.max_pool, window_shape=(2, 2), strides=(2, 2)), own=conv(3, 4),
                        more=conv(3, 4), out=conv(4, 2)), "h",
                   "'pool' lies otherwise in the mirror, and is used on other arrays than"),
    "for four channels": (through(lambda x: x.reshape(1, 8, 9, 4)[:, :, 1:]), "h",
                          "'layers.1' lies otherwise in the mirror, and channels do not go through it one by one"),
    "mixed": (through(lambda x: nnx.softmax(x, -1)[:, :, 1:]), "h",
              "'layers.1' lies otherwise in the mirror, and channels do not go through it one by one"),
    "an array": (through(Call(lambda net, x: x * net.scale, scale=jnp.arange(1.0, 5.0))), "h",
                 "'layers.1.scale', an array, has one number for each channel of an orbit. Expected an nnx.Param"),
    "cut": (through(Call(lambda net, x: jnp.concatenate([x[..., 2:], x[..., :2]], -1))), "hv",
            "'layers.1' cuts channels at 2, which tears orbits of 'hv' apart. Expected a multiple of 4"),
    "einsum": (through(nnx.Einsum("bhwc,wcd->bhwd", (9, 4, 4), rngs=nnx.Rngs(0))), "h",
               "'layers.1', Einsum, has no form for orbits of channels"),
    "whole numbers": (nnx.Sequential(lambda x: x * jnp.roll(x, 1, 2), conv(3, 4), conv(4, 2)), "h",
                      "the converted network breaks the law by"),
    "single precision": (nnx.Sequential(lambda x: jax.lax.mul(x, jnp.arange(1.0, 10.0, dtype=jnp.float32)[
        None, None, :, None] * jnp.ones((1, 8, 9, 3), jnp.float32)), conv(3, 4), conv(4, 2)), "h",
        "the converted network breaks the law by"),
    "of its own type": (nnx.Sequential(Call(lambda net, x: net.checked(x), checked=typed), conv(3, 4), conv(4, 2)), "h",
                        "the converted network does not run with random numbers (sixteen bits"),
    "more methods": (through(More(4, 4, (3, 3), rngs=nnx.Rngs(0))), "h",
                     "'layers.1' weighs orbits of channels with the variable 'layers.1.kernel'"),
    "cases": (through(Call(lambda net, x: jax.lax.cond(x.mean() > 0, jnp.sin, jnp.cos, x))), "h",
              "cannot be followed through 'cond'"),
}  # fmt: skip


TYPES = {"whole numbers": "uint8", "single precision": "float32", "of its own type": "float16"}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_obey_is_refused_with_a_name_and_a_way_out(name):
    model, axes, reason = REFUSED[name]
    channels = 4 if name == "both" else 3
    with pytest.raises(SymmetryError) as refusal:
        equivariant(model, axes, example=jnp.ones((1, 8, 9, channels), TYPES.get(name, "float64")))
    assert reason in str(refusal.value)
    assert str(refusal.value).count("Expected") == 1
