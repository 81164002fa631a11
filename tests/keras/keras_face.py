"""How Keras is spoken to, on whichever backend runs; arrays go in and come out as in PyTorch, in float64."""

import zlib

import keras
import numpy as np
from cases import name_of
from contract import Face
from keras import ops

import symmetric_layers.keras as layers

BACKEND = keras.backend.backend()


def gradients(layer, x, g):
    """The gradients of `sum(layer(x) * g)`: of x, and of all trainable variables."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        x, weights = tf.constant(x), [variable.value for variable in layer.trainable_variables]
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(layer(x) * g)
        found = tape.gradient(loss, [x, *weights])
    elif BACKEND == "jax":
        import jax

        def loss(x, trainable):
            return (layer.stateless_call(trainable, [v.value for v in layer.non_trainable_variables], x)[0] * g).sum()

        values = [variable.value for variable in layer.trainable_variables]
        of_x, of_weights = jax.jit(jax.grad(loss, argnums=(0, 1)))(ops.convert_to_tensor(x), values)
        found = [of_x, *of_weights]
    else:
        import torch

        x = torch.from_numpy(np.ascontiguousarray(x)).requires_grad_()
        weights = [variable.value for variable in layer.trainable_variables]
        found = torch.autograd.grad((layer(x) * torch.from_numpy(np.ascontiguousarray(g))).sum(), [x, *weights])
    found = [ops.convert_to_numpy(gradient) for gradient in found]
    return found[0], found[1:]


def compiled(layer):
    """The layer; in JAX as one program, which is compiled sooner than all of its operations one by one."""
    if BACKEND != "jax":
        return layer
    import jax

    trainable = [variable.value for variable in layer.trainable_variables]
    return jax.jit(lambda x: layer.stateless_call(trainable, [], x)[0])


class KerasFace(Face):
    def data_format(self, case):
        """One or the other, so that both occur with everything that the host has both for."""
        if BACKEND == "tensorflow" and (case.transposed or (case.rank < 3 and case.groups == 1)):
            return "channels_last"  # TensorFlow has no other on the CPU
        return ("channels_last", "channels_first")[zlib.crc32(name_of(case).encode()) % 2]

    def layer(self, case):
        name = f"SymmetricConv{case.rank}D{'Transpose' if case.transposed else ''}"
        more = {"output_padding": self.output_padding(case)} if case.transposed else {"groups": case.groups}
        layer = getattr(layers, name)(
            case.filters,
            case.kernel,
            strides=case.stride,
            padding=case.padding,
            data_format=self.data_format(case),
            dilation_rate=case.dilation,
            use_bias=case.bias is not None,
            dtype="float64",
            symmetry=case.symmetry,
            share_bias=case.bias == "shared",
            in_symmetry=case.in_symmetry,
            **more,
        )
        positions = (None,) * case.rank
        layer.build(
            (None, case.channels, *positions)
            if layer.data_format == "channels_first"
            else (None, *positions, case.channels)
        )
        return layer

    def output_padding(self, case):
        """Only axes with a stride have room for output padding."""
        if case.output_padding is None:
            return None
        return tuple(case.output_padding if s > 1 else 0 for s in case.stride)

    def stored(self, layer):
        kernel, bias = ops.convert_to_numpy(layer.kernel.value), layer.bias
        return self.turn(layer, kernel), None if bias is None else ops.convert_to_numpy(bias.value)

    def turn(self, layer, kernel):
        """From the layout of Keras to `(stored, channels / groups, *kernel)`."""
        transposed = "Transpose" in type(layer).__name__
        return np.moveaxis(kernel, (-2, -1) if transposed else (-1, -2), (0, 1))

    def store(self, layer, weight, bias):
        transposed = "Transpose" in type(layer).__name__
        layer.kernel.assign(np.moveaxis(weight, (0, 1), (-2, -1) if transposed else (-1, -2)))
        if bias is not None:
            layer.bias.assign(bias)

    def give(self, layer, x):
        """From the layout of PyTorch to the layer's."""
        return np.ascontiguousarray(x if layer.data_format == "channels_first" else np.moveaxis(x, 1, -1))

    def take(self, layer, y):
        """From the layer's layout to that of PyTorch."""
        y = ops.convert_to_numpy(y)
        return y if layer.data_format == "channels_first" else np.moveaxis(y, -1, 1)

    def call(self, layer, x):
        return self.take(layer, ops.stop_gradient(compiled(layer)(ops.convert_to_tensor(self.give(layer, x)))))

    def gradients(self, layer, x, g):
        of_x, weights = gradients(layer, self.give(layer, x), self.give(layer, g))
        return self.take(layer, of_x), self.turn(layer, weights[0]), weights[1] if len(weights) > 1 else None

    def reload(self, layer, case, folder):
        shape = [None, *(None,) * case.rank, case.channels]
        if layer.data_format == "channels_first":
            shape = [None, case.channels, *(None,) * case.rank]
        inputs = keras.Input(shape[1:], dtype="float64")
        keras.Model(inputs, layer(inputs)).save(folder / "model.keras")
        return keras.models.load_model(folder / "model.keras").layers[-1]

    def geometry(self, case, positions):
        axes = list(zip(positions, case.kernel, case.stride, case.dilation, strict=True))
        if case.transposed:
            more = self.output_padding(case) or (None,) * case.rank
            sizes = [
                _spread(n, d * (k - 1) + 1, s, case.padding, o) for (n, k, s, d), o in zip(axes, more, strict=True)
            ]
            crops = [
                max((n - 1) * s + d * (k - 1) + 1 - out, 0) // 2 if case.padding == "same" else 0
                for (n, k, s, d), out in zip(axes, sizes, strict=True)
            ]
            return crops, sizes
        if case.padding == "same":
            totals = [max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0) for n, k, s, d in axes]
            return [(total // 2, total - total // 2) for total in totals]
        if case.padding == "causal":
            return [(d * (k - 1), 0) for n, k, s, d in axes]
        return [(0, 0)] * case.rank


def _spread(n, reach, stride, padding, output_padding):
    """How many positions a transposed convolution makes of n."""
    if output_padding is None:
        return n * stride if padding == "same" else (n - 1) * stride + max(reach, stride)
    return (n - 1) * stride + output_padding + (reach % 2 if padding == "same" else reach)
