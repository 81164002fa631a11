"""Networks that are told something beside the picture: times, words, classes."""

import jax.numpy as jnp
import numpy as np
from flax import nnx
from steps_flax import conv, tokens

EXACT = {"param_dtype": jnp.float64}


def exact(inner, outer, *size, **more):
    return conv(inner, outer, *size, **{**EXACT, **more})


def linear(inner, outer, **more):
    return nnx.Linear(inner, outer, rngs=nnx.Rngs(3), **EXACT, **more)


def embed(count, features):
    return nnx.Embed(count, features, rngs=nnx.Rngs(4), **EXACT)


def drawn(*shape):
    return jnp.asarray(np.random.RandomState(len(shape)).standard_normal(shape))


def waves(times, count):
    angles = times[:, None] * jnp.exp(-jnp.arange(count // 2) / count)
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], -1)


class Block(nnx.Module):
    """A residual block that is told the time."""

    def __init__(self, inner, outer):
        norms = [nnx.GroupNorm(channels, 2, rngs=nnx.Rngs(0), **EXACT) for channels in (inner, outer)]
        self.norms, self.first, self.second = nnx.List(norms), exact(inner, outer), exact(outer, outer)
        self.time, self.way = linear(16, 2 * outer), exact(inner, outer, 1, 1)

    def __call__(self, x, time):
        scale, shift = jnp.split(self.time(nnx.swish(time))[:, None, None], 2, -1)
        y = self.first(nnx.swish(self.norms[0](x)))
        return self.way(x) + self.second(nnx.swish(self.norms[1](y) * (1 + scale) + shift))


class Looks(nnx.Module):
    """Pixels look at words, in products that are written out, and by the host's attention; then at each other."""

    def __init__(self, channels):
        self.query, self.key, self.value = linear(channels, 16), linear(24, 16), linear(24, 16)
        self.out = linear(16, channels)
        more = {"decode": False, "rngs": nnx.Rngs(0), **EXACT}
        self.words = nnx.MultiHeadAttention(2, channels, in_kv_features=24, **more)
        self.own = nnx.MultiHeadAttention(2, channels, **more)

    def __call__(self, x, words):
        seen = tokens(x)
        weights = nnx.softmax(self.query(seen) @ jnp.swapaxes(self.key(words), 1, 2) / 4)
        seen = seen + self.out(weights @ self.value(words))
        seen = seen + self.words(seen, words)
        return (seen + self.own(seen)).reshape(x.shape)


class Told(nnx.Module):
    """A small UNet that removes noise, told the time, words and a class."""

    def __init__(self):
        self.times = nnx.Sequential(linear(8, 16), nnx.swish, linear(16, 16))
        self.labels, self.reads = embed(10, 8), nnx.LayerNorm(24, rngs=nnx.Rngs(0), **EXACT)
        self.stem, self.down = exact(3, 8), exact(8, 8, strides=2)
        self.first, self.middle, self.last = Block(8, 8), Block(8, 16), Block(24, 8)
        self.looks, self.norm = Looks(16), nnx.GroupNorm(8, 2, rngs=nnx.Rngs(0), **EXACT)
        self.up = nnx.ConvTranspose(16, 16, (2, 2), (2, 2), rngs=nnx.Rngs(0), **EXACT)
        self.out = exact(8, 3)

    def __call__(self, x, times, words, label):
        time = self.times(waves(times, 8))
        seen = self.first(self.stem(x) + self.labels(label)[:, None, None, :], time)
        deep = self.looks(self.middle(self.down(seen), time), self.reads(words))
        joined = jnp.concatenate([seen, self.up(deep)], -1)
        return self.out(nnx.swish(self.norm(self.last(joined, time))))


def told():
    """The UNet and what it is given."""
    given = {"x": drawn(2, 8, 8, 3), "times": jnp.array([0.3, 7.0]), "words": drawn(2, 7, 24)}
    return Told(), {**given, "label": jnp.array([1, 9])}
