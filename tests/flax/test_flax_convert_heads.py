"""Attention with several heads: channels that are split into heads, and put together again."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from converted_flax import SMALL, alike, errors, wild
from flax import nnx
from steps_flax import Call, conv, tokens

from symmetric_layers import SymmetryError
from symmetric_layers.flax import desymmetrize, equivariant


class Attention(nnx.Module):
    """Every pixel looks at every pixel, with several heads."""

    def __init__(self, attend, heads=2, channels=16, **parts):
        layers = [nnx.Linear(channels, channels, rngs=nnx.Rngs(seed), param_dtype=jnp.float64) for seed in range(4)]
        self.query, self.key, self.value, self.out = layers
        self.attend, self.heads = (attend,), heads
        for name, part in parts.items():
            setattr(self, name, part)

    def __call__(self, x):
        seen = tokens(x)
        split = [self.split(layer(seen)) for layer in (self.query, self.key, self.value)]
        return x + self.out(self.attend[0](self, *split).reshape(seen.shape)).reshape(x.shape)

    def split(self, x):
        return x.reshape(*x.shape[:2], self.heads, -1)


def written(net, q, k, v):
    weights = nnx.softmax(jnp.einsum("bqhd,bkhd->bhqk", q, k) / 2)
    return jnp.einsum("bhqk,bkhd->bqhd", weights, v)


def heads_first(net, q, k, v):
    q, k, v = (one.transpose(0, 2, 1, 3) for one in (q, k, v))
    return (nnx.softmax(q @ k.swapaxes(-1, -2)) @ v).transpose(0, 2, 1, 3)


def heads_in_the_batch(net, q, k, v):
    batch, positions, heads, size = q.shape
    q, k, v = (one.swapaxes(1, 2).reshape(batch * heads, positions, size) for one in (q, k, v))
    seen = nnx.softmax(q @ k.swapaxes(-1, -2)) @ v
    return seen.reshape(batch, heads, positions, size).swapaxes(1, 2)


def scaled(net, q, k, v):
    weights = nnx.softmax(jnp.einsum("bqhd,bkhd->bhqk", q, k) * net.scale[:, None, None])
    return jnp.einsum("bhqk,bkhd->bqhd", weights, v)


def few_keys(net, q, k, v):
    return jax.nn.dot_product_attention(q, k[:, :, :1], v[:, :, :1])


def normed(net, q, k, v):
    return jax.nn.dot_product_attention(net.norm(q), net.norm(k), v)


WAYS = {
    "written": lambda: Attention(written),
    "heads first": lambda: Attention(heads_first, 4),
    "heads in the batch": lambda: Attention(heads_in_the_batch),
    "jax": lambda: Attention(lambda net, *given: jax.nn.dot_product_attention(*given)),
    "nnx": lambda: Attention(lambda net, *given: nnx.dot_product_attention(*given), 4),
    "few keys": lambda: Attention(few_keys, 4),
    "a number for each head": lambda: Attention(scaled, scale=nnx.Param(jnp.ones(2))),
    "norms within heads": lambda: Attention(normed, norm=nnx.LayerNorm(8, rngs=nnx.Rngs(0), param_dtype=jnp.float64)),
}


def network(step):
    rngs = nnx.Rngs(0)
    ends = [nnx.Conv(inner, outer, (3, 3), rngs=rngs, param_dtype=jnp.float64) for inner, outer in ((3, 16), (16, 2))]
    return nnx.Sequential(ends[0], step, ends[1])


def picture():
    return jnp.asarray(np.random.RandomState(0).standard_normal((2, 4, 5, 3)))


@pytest.mark.parametrize("way", WAYS)
def test_heads_that_hold_whole_orbits_are_followed(way):
    model = network(WAYS[way]())
    axes = "h" if way == "few keys" else "hv"
    new = wild(equivariant(model, axes, example=picture(), measure=False))
    names = [type(getattr(new.layers[1], name)).__name__ for name in ("query", "key", "value", "out")]
    assert names == ["SymmetricLinear"] * 4
    single = way in ("jax", "nnx", "few keys", "norms within heads")  # `jax.nn` takes its softmax of float32 numbers
    assert max(errors(new, axes, picture())) < (1e-6 if single else SMALL)
    alike(new, desymmetrize(new, example=picture()), picture())


class Fused(nnx.Module):
    """One layer for queries, keys and values, a token that reads all pixels, a number for each channel of a head."""

    def __init__(self):
        self.token, self.scale = nnx.Param(jnp.zeros((1, 1, 16))), nnx.Param(jnp.ones(8))
        self.all, self.out = (nnx.Linear(16, outer, rngs=nnx.Rngs(0), param_dtype=jnp.float64) for outer in (48, 2))

    def __call__(self, x):
        x = jnp.concatenate([jnp.broadcast_to(self.token[...], (len(x), 1, 16)), tokens(x)], 1)
        q, k, v = self.all(x).reshape(*x.shape[:2], 3, 2, 8).transpose(2, 0, 3, 1, 4)
        seen = nnx.softmax(q * self.scale @ k.swapaxes(-1, -2)) @ v
        return self.out(seen.transpose(0, 2, 1, 3).reshape(x.shape)[:, 0])


def test_heads_of_queries_keys_and_values_may_come_together():
    model = nnx.Sequential(nnx.Conv(3, 16, (3, 3), rngs=nnx.Rngs(0), param_dtype=jnp.float64), Fused())
    new = wild(equivariant(model, "hv", example=picture(), measure=False))
    assert max(errors(new, "hv", picture())) < SMALL
    assert new.layers[1].scale.get_value().shape == (2,)
    assert type(new.layers[1].all).__name__ == "SymmetricLinear"
    alike(new, desymmetrize(new, example=picture()), picture())


def test_a_number_for_each_head_stays_ordinary():
    new = equivariant(network(WAYS["a number for each head"]()), "h", example=picture(), measure=False)
    assert type(new.layers[1].scale) is nnx.Param
    assert new.layers[1].scale.get_value().shape == (2,)


def test_heads_grow_with_the_network():
    model = network(WAYS["written"]())
    new = wild(equivariant(model, "h", example=picture(), width="parameters", measure=False))
    assert new.layers[1].query.out_features > 16
    assert max(errors(new, "h", picture())) < SMALL


def shuffled(net, x):
    batch, height, width, _ = x.shape
    pixels = x.reshape(batch, height, width, 2, 2, -1).transpose(0, 1, 3, 2, 4, 5)
    return net.own(pixels.reshape(batch, 2 * height, 2 * width, -1))


REFUSED = {
    "small heads": (Attention(written, 8), "'layers.1' cuts channels at 2, which tears orbits of 'hv' apart. Expected "
                    "a multiple of 4. Cut elsewhere, or keep that part ordinary with keep."),
    "pixels": (Call(shuffled, own=conv(4, 16)), "'layers.1.own', Conv, reads channels that 'reshape' has mixed with "
               "positions. Expected channels alone. Take the mean over all positions first, or keep that part ordinary "
               "with keep."),
    "a shuffle": (Call(lambda net, x: net.own(x.reshape(2, 4, 5, 4, 4).swapaxes(3, 4).reshape(x.shape)), own=conv(
        16, 16)), "'layers.1.own', Conv, reads channels that cannot be followed through 'a shuffle of channels'. "
        "Expected channels that are moved, joined or combined one by one. Write that part otherwise, or keep it "
        "ordinary with keep."),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_leave_orbits_whole_is_refused(name):
    step, sentence = REFUSED[name]
    with pytest.raises(SymmetryError) as refusal:
        equivariant(network(step), "hv", example=picture(), measure=False)
    assert str(refusal.value) == f"model: {sentence}"
