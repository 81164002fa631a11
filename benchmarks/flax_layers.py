"""What the Flax layers cost beside the host's own: `python benchmarks/flax_layers.py`.

Prints a compiled training step (forward, gradients of pictures, filters and biases) of `SymmetricConv` against
`nnx.Conv`, deep layers and layers on the mirrored grid among them, the time to build a layer, `GlobalConv1D` against
the literal wide convolution, and what it takes to convert a residual network and to train it then.
"""

import time
from functools import partial

import jax
import jax.numpy as jnp
from clock import machine, side_by_side, table
from flax import nnx

from symmetric_layers.flax import GlobalConv1D, OrbitBatchNorm, SymmetricConv, SymmetricConvTranspose, equivariant

SHAPES = [(16, 64, 64, 32), (16, 128, 128, 32), (8, 256, 256, 14)]  # batch, features in and out, height and width
H, HV, MIXED = {"h": "100%"}, {"hv": "100%"}, {"h": "25%", "v": "25%", "hv": "25%"}
ASKED = {
    "h": {"symmetry": H},
    "hv": {"symmetry": HV},
    "mixed": {"symmetry": MIXED},
    "deep h": {"symmetry": H, "in_symmetry": H},
    "deep hv": {"symmetry": HV, "in_symmetry": HV},
}


def step(layer: nnx.Module, *shape: int):
    """A training step without its optimizer, compiled, as a function without arguments."""
    kind, state = nnx.split(layer)
    x = jax.random.normal(jax.random.key(0), shape)

    @jax.jit
    def gradients(state, x):
        return jax.value_and_grad(lambda state, x: (nnx.merge(kind, state)(x) ** 2).mean(), argnums=(0, 1))(state, x)

    return lambda: jax.block_until_ready(gradients(state, x))


def training_steps(strides: int, **more: str) -> str:
    """Ratios of a training step to the host's."""
    rows = []
    for batch, inputs, outputs, size in SHAPES:
        shape, rngs = (batch, size, size, inputs), nnx.Rngs(0)
        candidates = {"host": step(nnx.Conv(inputs, outputs, (3, 3), strides, rngs=rngs), *shape)}
        for name, asked in ASKED.items():
            layer = SymmetricConv(inputs, outputs, (3, 3), strides, rngs=rngs, **asked, **more)
            candidates[name] = step(layer, *shape)
        times = side_by_side(candidates)
        ratios = [f"{times.ratio(name, 'host'):.2f}" for name in ASKED]
        rows.append([f"{batch}, {inputs}, {outputs}, {size}", f"{times.milliseconds('host'):.1f} ms", *ratios])
    return table(["batch, Cin, Cout, H=W", "nnx.Conv", *ASKED], rows)


def others() -> str:
    """Transposed layers and norms."""
    rngs, shape, rows = nnx.Rngs(0), (16, 32, 32, 64), []
    pairs = [
        ("ConvTranspose, kernel 2, strides 2", nnx.ConvTranspose, SymmetricConvTranspose, (64, 64, (2, 2), 2)),
        ("BatchNorm", nnx.BatchNorm, OrbitBatchNorm, (64,)),
    ]
    for name, host, ours, arguments in pairs:
        candidates = {"host": step(host(*arguments, rngs=rngs), *shape)}
        for kind, symmetry in (("h", H), ("hv", HV), ("mixed", MIXED)):
            candidates[kind] = step(ours(*arguments, symmetry=symmetry, rngs=rngs), *shape)
        times = side_by_side(candidates)
        ratios = [f"{times.ratio(kind, 'host'):.2f}" for kind in ("h", "hv", "mixed")]
        rows.append([name, f"{times.milliseconds('host'):.1f} ms", *ratios])
    return table(["16 pictures of 32 x 32, 64 features", "host", "h", "hv", "mixed"], rows)


def construction() -> str:
    """The time to build a layer of 256 features."""
    candidates = {"nnx.Conv": lambda: nnx.Conv(256, 256, (3, 3), rngs=nnx.Rngs(0))}
    for name, asked in ASKED.items():
        candidates[name] = lambda asked=asked: SymmetricConv(256, 256, (3, 3), rngs=nnx.Rngs(0), **asked)
    times = side_by_side(candidates)
    rows = [[name, f"{times.milliseconds(name):.1f} ms", f"{times.ratio(name, 'nnx.Conv'):.2f}"] for name in candidates]
    return table(["256 -> 256 features, 3x3", "to build", "ratio"], rows)


def global_convolutions() -> str:
    """The order-blind convolution beside the literal wide one."""
    rows = []
    for width in (256, 1024, 4096):
        candidates = {
            "ours": step(GlobalConv1D(16, 16, rngs=nnx.Rngs(0)), 1, width, 16),
            "wide": step(nnx.Conv(16, 16, (2 * width - 1,), rngs=nnx.Rngs(0)), 1, width, 16),
        }
        times = side_by_side(candidates, rounds=5, warm_up=1)
        ours, wide = (f"{times.milliseconds(name):.3g} ms" for name in candidates)
        rows.append([str(width), ours, wide, f"1/{1 / times.ratio('ours', 'wide'):.0f}"])
    return table(["features", "GlobalConv1D", "wide nnx.Conv", "ratio"], rows)


class Block(nnx.Module):
    """Two layers of 3x3 around a shortcut."""

    def __init__(self, inputs: int, outputs: int, strides: int, rngs: nnx.Rngs) -> None:
        more = {"use_bias": False, "rngs": rngs}
        self.first, self.norm = nnx.Conv(inputs, outputs, (3, 3), strides, **more), nnx.BatchNorm(outputs, rngs=rngs)
        self.second, self.last = nnx.Conv(outputs, outputs, (3, 3), **more), nnx.BatchNorm(outputs, rngs=rngs)
        self.way = nnx.Conv(inputs, outputs, (1, 1), strides, **more) if inputs != outputs else lambda x: x

    def __call__(self, x: jax.Array) -> jax.Array:
        """Pictures to pictures."""
        return nnx.relu(self.last(self.second(nnx.relu(self.norm(self.first(x))))) + self.way(x))


def resnet18() -> nnx.Module:
    """A ResNet-18."""
    rngs, sizes = nnx.Rngs(0), [(64, 64, 1), (64, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1),
                                (256, 512, 2), (512, 512, 1)]  # fmt: skip
    return nnx.Sequential(
        nnx.Conv(3, 64, (7, 7), 2, use_bias=False, rngs=rngs),
        nnx.BatchNorm(64, rngs=rngs),
        nnx.relu,
        partial(nnx.max_pool, window_shape=(3, 3), strides=(2, 2), padding="SAME"),
        *[Block(*size, rngs) for size in sizes],
        lambda x: x.mean((1, 2)),
        nnx.Linear(512, 1000, rngs=rngs),
    )


def networks() -> str:
    """A ResNet-18, converted: seconds to convert it with and without measuring, and ratios of a training step."""
    plain, shape = resnet18(), (8, 128, 128, 3)
    x, twins, rows = jnp.ones((1, *shape[1:])), {}, []
    for kind in ("h", "hv"):
        seconds = []
        for measure in (False, True):
            start = time.perf_counter()
            twins[kind] = equivariant(plain, kind, example=x, measure=measure)
            seconds.append(time.perf_counter() - start)
        weights = [
            sum(leaf.size for leaf in jax.tree.leaves(nnx.state(net, nnx.Param))) for net in (twins[kind], plain)
        ]
        rows.append([kind, f"{weights[0] / weights[1]:.2f}", *[f"{took:.1f} s" for took in seconds]])
    times = side_by_side({"plain": step(plain, *shape), **{kind: step(net, *shape) for kind, net in twins.items()}})
    rows = [[*row, f"{times.ratio(row[0], 'plain'):.2f}"] for row in rows]
    return table(["ResNet-18, 8 x 128 x 128", "weights", "`measure=False`", "measured", "training step"], rows)


def main() -> None:
    """Measures and prints."""
    print(f"{machine()}, JAX {jax.__version__}, {jax.devices()[0].platform}, {jnp.ones(1).dtype}, medians.\n")
    print(f"Strides 1.\n\n{training_steps(1)}\n")
    print(f"Strides 2, on the mirrored grid.\n\n{training_steps(2, grid='mirrored')}\n")
    for part in (others, construction, global_convolutions, networks):
        print(f"{part()}\n")


if __name__ == "__main__":
    main()
