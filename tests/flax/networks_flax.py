"""Networks of ordinary layers, as people write them with `flax.nnx`."""

from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx

EXACT = {"param_dtype": jnp.float64}


class Block(nnx.Module):
    """A residual block."""

    def __init__(self, inner, outer, stride, rngs):
        more = {"use_bias": False, "rngs": rngs, **EXACT}
        self.first = nnx.Conv(inner, outer, (3, 3), stride, **more)
        self.norm = nnx.BatchNorm(outer, rngs=rngs, **EXACT)
        self.second = nnx.Conv(outer, outer, (3, 3), **more)
        self.last = nnx.BatchNorm(outer, rngs=rngs, **EXACT)
        self.way = nnx.Conv(inner, outer, (1, 1), stride, **more) if inner != outer else None
        self.drop = nnx.Dropout(0.3, rngs=rngs)

    def __call__(self, x):
        y = self.last(self.second(nnx.relu(self.norm(self.first(x)))))
        return nnx.relu(self.drop(y) + (x if self.way is None else self.way(x)))


class Residual(nnx.Module):
    """Stem, a pool that is an attribute, blocks in a list, a mean over all positions, a hidden linear layer."""

    def __init__(self, rngs):
        self.stem = nnx.Conv(3, 8, (7, 7), 2, rngs=rngs, **EXACT)
        self.pool = partial(nnx.max_pool, window_shape=(3, 3), strides=(2, 2), padding="SAME")
        self.blocks = nnx.List([Block(8, 8, 1, rngs), Block(8, 16, 2, rngs)])
        self.hidden = nnx.Linear(16, 8, rngs=rngs, **EXACT)
        self.head = nnx.Linear(8, 3, rngs=rngs, **EXACT)

    def __call__(self, x):
        x = self.pool(nnx.relu(self.stem(x)))
        for block in self.blocks:
            x = block(x)
        return self.head(nnx.tanh(self.hidden(x.mean((1, 2)))))


class UNet(nnx.Module):
    """Skips that are concatenated, transposed convolutions, group norms, two answers in a dict."""

    def __init__(self, rngs):
        more = {"rngs": rngs, **EXACT}
        self.down = nnx.List([nnx.Conv(1, 8, (3, 3), **more), nnx.Conv(8, 16, (3, 3), **more)])
        self.norms = nnx.List([nnx.GroupNorm(8, 2, **more), nnx.GroupNorm(16, 4, **more)])
        self.middle = nnx.Conv(16, 16, (3, 3), **more)
        self.up = nnx.data({
            "0": nnx.ConvTranspose(16, 16, (3, 3), (2, 2), **more),
            "1": nnx.ConvTranspose(16, 8, (2, 2), (2, 2), transpose_kernel=True, **more),
        })  # fmt: skip
        self.joined = nnx.List([nnx.Conv(32, 16, (3, 3), **more), nnx.Conv(16, 8, (3, 3), **more)])
        self.out = nnx.Conv(8, 3, (1, 1), **more)
        self.deep = nnx.ConvTranspose(16, 2, (3, 3), (2, 2), **more)

    def __call__(self, x):
        skips = []
        for conv, norm in zip(self.down, self.norms, strict=True):
            x = nnx.gelu(norm(conv(x)))
            skips.append(x)
            x = nnx.avg_pool(x, (2, 2), (2, 2))
        middle = x = self.middle(x)
        for index, conv in enumerate(self.joined):
            x = nnx.silu(conv(jnp.concatenate([self.up[str(index)](x), skips.pop()], -1)))
        return {"map": self.out(x), "deep": self.deep(middle)}


class Gate(nnx.Module):
    """Squeeze and excite: a gate for every channel."""

    def __init__(self, channels, rngs):
        self.squeeze = nnx.Linear(channels, 4, rngs=rngs, **EXACT)
        self.excite = nnx.Linear(4, channels, rngs=rngs, **EXACT)

    def __call__(self, x):
        gate = nnx.sigmoid(self.excite(nnx.relu(self.squeeze(x.mean((1, 2))))))
        return x * gate[:, None, None, :]


class ConvNext(nnx.Module):
    """Depthwise layers, layer norms, linear layers on pixels, a scale for each channel, gates, resizing, attention."""

    def __init__(self, rngs):
        more = {"rngs": rngs, **EXACT}
        self.patches = nnx.Conv(3, 8, (2, 2), (2, 2), padding="VALID", **more)
        self.deep = nnx.Conv(8, 8, (5, 5), feature_group_count=8, **more)
        self.norm = nnx.LayerNorm(8, **more)
        self.wide = nnx.Linear(8, 32, **more)
        self.narrow = nnx.Linear(32, 8, **more)
        self.scale = nnx.Param(jnp.full((8,), 0.7, jnp.float64))
        self.slope = nnx.PReLU(0.3, param_dtype=jnp.float64)
        self.gate = Gate(8, rngs)
        self.looks = nnx.Sequential(nnx.Conv(2, 4, (3, 3), **more), nnx.relu, nnx.Conv(4, 1, (3, 3), **more))
        self.down = nnx.Conv(8, 16, (2, 2), (2, 2), feature_group_count=2, **more)
        self.out = nnx.Conv(16, 2, (3, 3), **more)

    def __call__(self, x):
        x = self.patches(x)
        y = self.narrow(nnx.gelu(self.wide(self.norm(self.deep(x)))))
        x = self.slope(self.gate(x + y * self.scale))
        seen = jnp.stack([x.mean(-1), x.max(-1)], -1)
        x = self.down(x * nnx.sigmoid(self.looks(seen)))
        batch, height, width, channels = x.shape
        return self.out(jax.image.resize(x, (batch, 2 * height, 2 * width, channels), "bilinear"))


class Volume(nnx.Module):
    """Two inputs, of which one says how the other is scaled; instance norms; dilated filters."""

    def __init__(self, rngs):
        more = {"rngs": rngs, **EXACT}
        self.first = nnx.Conv(1, 8, (3, 3, 3), **more)
        self.norm = nnx.InstanceNorm(8, **more)
        self.second = nnx.Conv(8, 16, (3, 3, 3), 2, kernel_dilation=2, **more)
        self.time = nnx.Linear(4, 16, **more)
        self.out = nnx.ConvTranspose(16, 2, (3, 3, 3), (2, 2, 2), **more)

    def __call__(self, scan, time=None, scaled=False):
        x = self.second(nnx.relu(self.norm(self.first(scan))))
        if scaled:
            x = x * self.time(time)[:, None, None, None, :]
        return self.out(nnx.leaky_relu(x))


def line(rngs):
    """A chain for signals, causal at first."""
    return nnx.Sequential(
        nnx.Conv(4, 8, 3, padding="CAUSAL", rngs=rngs, **EXACT),
        jnp.tanh,
        nnx.RMSNorm(8, rngs=rngs, **EXACT),
        lambda x: nnx.avg_pool(x, (2,), (2,)),
        nnx.Conv(8, 6, 4, 3, rngs=rngs, **EXACT),
        nnx.elu,
        nnx.Conv(6, 2, 3, rngs=rngs, **EXACT),
    )


ALL = {
    "residual": (Residual, "hv", (2, 18, 20, 3)),
    "unet": (UNet, "hv", (2, 8, 12, 1)),
    "convnext": (ConvNext, "h", (2, 8, 12, 3)),
    "volume": (Volume, "hvz", {"scan": (2, 6, 7, 6, 1), "time": (2, 4), "scaled": True}),
    "line": (line, "h", (2, 11, 4)),
}
