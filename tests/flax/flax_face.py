"""How Flax is spoken to; arrays go in and come out as in PyTorch, in float64."""

import zlib

import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from cases import name_of
from contract import Face
from flax import nnx

from symmetric_layers.flax import SymmetricConv, SymmetricConvTranspose

apply = nnx.jit(lambda layer, x: layer(x))


@nnx.jit
def gradients(layer, x, g):
    """The gradients of `sum(layer(x) * g)`: of the layer's parameters, and of x."""
    return nnx.grad(lambda layer, x: (layer(x) * g).sum(), argnums=(0, 1))(layer, x)


def flat(array):
    """From the layout of PyTorch to the host's."""
    return jnp.asarray(np.moveaxis(array, 1, -1))


def deep(array):
    """From the host's layout to that of PyTorch."""
    return np.moveaxis(np.asarray(array), -1, 1)


def padding_of(case):
    """What the host calls it."""
    if case.mode != "zeros":
        return case.mode.upper()
    return case.padding.upper() if isinstance(case.padding, str) else list(case.padding)


def is_turned(case):
    """Whether a transposed layer keeps the filters of the convolution that it transposes: one or the other."""
    return case.transposed and zlib.crc32(name_of(case).encode()) % 2 == 1


class FlaxFace(Face):
    def layer(self, case, seed=0):
        more = {"transpose_kernel": is_turned(case)} if case.transposed else {"feature_group_count": case.groups}
        return (SymmetricConvTranspose if case.transposed else SymmetricConv)(
            case.channels,
            case.filters,
            case.kernel,
            case.stride,
            padding=padding_of(case),
            kernel_dilation=case.dilation,
            use_bias=case.bias is not None,
            param_dtype=jnp.float64,
            symmetry=case.symmetry,
            share_bias=case.bias == "shared",
            in_symmetry=case.in_symmetry,
            rngs=nnx.Rngs(seed),
            **more,
        )

    def stored(self, layer):
        bias = None if layer.bias is None else np.asarray(layer.bias[...])
        return self.turn(layer, np.asarray(layer.kernel[...])), bias

    def turn(self, layer, kernel):
        """To `(stored, channels / groups, *kernel)`, in which a transposed convolution spreads a pixel out."""
        if getattr(layer, "transpose_kernel", False):
            return np.moveaxis(kernel, (-2, -1), (0, 1))
        kernel = np.moveaxis(kernel, (-1, -2), (0, 1))
        return self.read(layer, kernel)

    def read(self, layer, weight):
        """The host of a transposed layer reads what it spreads out backwards, unless the kernel is turned."""
        if isinstance(layer, nnx.ConvTranspose):
            return np.flip(weight, tuple(range(2, weight.ndim)))
        return weight

    def store(self, layer, weight, bias):
        if getattr(layer, "transpose_kernel", False):
            layer.kernel[...] = jnp.asarray(np.moveaxis(weight, (0, 1), (-2, -1)))
        else:
            layer.kernel[...] = jnp.asarray(np.moveaxis(self.read(layer, weight), (0, 1), (-1, -2)))
        if bias is not None:
            layer.bias[...] = jnp.asarray(bias)

    def call(self, layer, x):
        return deep(apply(layer, flat(x)))

    def gradients(self, layer, x, g):
        weights, of_x = gradients(layer, flat(x), flat(g))
        bias = np.asarray(weights["bias"][...]) if layer.bias is not None else None
        return deep(of_x), self.turn(layer, np.asarray(weights["kernel"][...])), bias

    def reload(self, layer, case, folder):
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(folder / "layer", nnx.state(layer))
            checkpointer.wait_until_finished()
            kind, empty = nnx.split(nnx.eval_shape(lambda: self.layer(case, seed=1)))
            return nnx.merge(kind, checkpointer.restore(folder / "layer", empty))

    def lawful(self, case, positions):
        if case.mode == "zeros":
            return super().lawful(case, positions)
        axes = zip(positions, self.geometry(case, positions), case.kernel, case.stride, case.dilation, strict=True)
        return [_mirrors(_windows(*axis, case.mode), axis[0]) for axis in axes]

    def geometry(self, case, positions):
        axes = list(zip(positions, case.kernel, case.stride, case.dilation, strict=True))
        if case.transposed:
            pads = [_spread(d * (k - 1) + 1, s, padding) for (n, k, s, d), padding in zip(axes, self.pads(case))]
            crops = [d * (k - 1) - before for (n, k, s, d), (before, _) in zip(axes, pads, strict=True)]
            sizes = [(n - 1) * s + 1 + sum(pad) - d * (k - 1) for (n, k, s, d), pad in zip(axes, pads, strict=True)]
            return crops, sizes
        if case.mode != "zeros":
            return [(d * (k - 1) // 2, d * (k - 1) - d * (k - 1) // 2) for n, k, s, d in axes]
        if case.padding == "SAME":
            totals = [max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0) for n, k, s, d in axes]
            return [(total // 2, total - total // 2) for total in totals]
        if case.padding == "CAUSAL":
            return [(d * (k - 1), 0) for n, k, s, d in axes]
        return [(p, p) for p in self.pads(case)] if isinstance(case.padding, tuple) else [(0, 0)] * case.rank

    def pads(self, case):
        return case.padding if isinstance(case.padding, tuple) else [case.padding.upper()] * case.rank


def _spread(reach, stride, padding):
    """How far a transposed convolution of that reach pads the pixels that it has moved apart, before and after."""
    if padding == "SAME":
        before = reach - 1 if stride > reach - 1 else -(-(reach + stride - 2) // 2)
        return before, reach + stride - 2 - before
    if padding == "VALID":
        return reach - 1, max(stride - 1, reach - 1)
    return padding, padding


def _windows(size, pads, taps, stride, dilation, mode):
    """Per answer along one axis, which pixels it sees: what a picture shows around itself are pixels of its own."""
    seen = np.pad(np.arange(size), pads, mode={"reflect": "reflect", "circular": "wrap"}[mode])
    starts = range(0, len(seen) - dilation * (taps - 1), stride)
    return np.array([seen[start : start + dilation * (taps - 1) + 1 : dilation] for start in starts])


def _mirrors(windows, size):
    """Whether the answers of the mirrored picture see what the mirrored answers see."""
    return bool((windows == size - 1 - windows[::-1, ::-1]).all())
