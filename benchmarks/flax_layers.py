"""What the Flax layers cost beside the host's own: `python benchmarks/flax_layers.py`.

Prints a compiled training step (forward, gradients of pictures, filters and biases) of `SymmetricConv` against
`nnx.Conv`, deep layers and layers on the mirrored grid among them, the time to build a layer, and `GlobalConv1D`
against the literal wide convolution.
"""

import jax
import jax.numpy as jnp
from clock import machine, side_by_side, table
from flax import nnx

from symmetric_layers.flax import GlobalConv1D, OrbitBatchNorm, SymmetricConv, SymmetricConvTranspose

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


def main() -> None:
    """Measures and prints."""
    print(f"{machine()}, JAX {jax.__version__}, {jax.devices()[0].platform}, {jnp.ones(1).dtype}, medians.\n")
    print(f"Strides 1.\n\n{training_steps(1)}\n")
    print(f"Strides 2, on the mirrored grid.\n\n{training_steps(2, grid='mirrored')}\n")
    for part in (others, construction, global_convolutions):
        print(f"{part()}\n")


if __name__ == "__main__":
    main()
