"""The five promises, kept by the TensorFlow 1 layers in a plain graph and session."""

import numpy as np
import pytest
import tensorflow as tf
from cases import conv_cases, name_of, transpose_cases
from cases_tf1 import LAYERS
from contract import ConvContract, Face, GoldenContract, RefusalContract


def to_host(x):
    """From channels first to channels last."""
    return np.ascontiguousarray(np.moveaxis(x, 1, -1))


def from_host(x):
    return np.moveaxis(x, -1, 1)


class Running:
    """A layer in a graph and a session of its own, fed through a model of unknown sizes."""

    def __init__(self, make_model, transposed):
        self.transposed = transposed
        self.graph = tf.Graph()
        plain = tf.compat.v1.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
        # each graph runs once or twice: rewriting it first takes longer
        plain.graph_options.rewrite_options.disable_meta_optimizer = True
        self.session = tf.compat.v1.Session(graph=self.graph, config=plain)
        with self.graph.as_default(), self.session.as_default():
            self.model = make_model()
            self.layer = self.model.layers[-1]

    def start(self):
        """Initialises a layer that was not loaded."""
        self.session.run([v.initializer for v in self.layer.weights])
        return self

    def __del__(self):
        self.session.close()


class TF1Face(Face):
    def output_padding(self, case):
        """None lets the host infer the size; only axes with a stride have room for output padding."""
        if case.output_padding is None:
            return None
        return tuple(case.output_padding if s > 1 else 0 for s in case.stride)

    def layer(self, case):
        name = "SymmetricConv{}D{}".format(case.rank, "Transpose" if case.transposed else "")
        options = {
            "strides": case.stride,
            "padding": case.padding,
            "dilation_rate": case.dilation,
            "use_bias": case.bias is not None,
            "symmetry": case.symmetry,
            "share_bias": case.bias == "shared",
            "in_symmetry": case.in_symmetry,
            "dtype": "float64",
        }
        if case.transposed:
            options["output_padding"] = self.output_padding(case)

        def model():
            inputs = tf.keras.layers.Input((None,) * case.rank + (case.channels,), dtype="float64")
            return tf.keras.Model(inputs, LAYERS[name](case.filters, case.kernel, **options)(inputs))

        return Running(model, case.transposed).start()

    def turn(self, running, kernel):
        """From the host's layout of kernels to `(stored, channels, *kernel)`."""
        last = (-2, -1) if running.transposed else (-1, -2)
        return np.moveaxis(kernel, last, (0, 1))

    def turn_back(self, running, weight):
        last = (-2, -1) if running.transposed else (-1, -2)
        return np.moveaxis(weight, (0, 1), last)

    def stored(self, running):
        kernel, bias = running.session.run(
            (running.layer.kernel, [] if running.layer.bias is None else running.layer.bias)
        )
        return self.turn(running, kernel), None if running.layer.bias is None else bias

    def store(self, running, weight, bias):
        layer = running.layer
        layer.kernel.load(self.turn_back(running, weight), running.session)
        if bias is not None:
            layer.bias.load(bias, running.session)

    def call(self, running, x):
        return from_host(running.session.run(running.model.output, {running.model.input: to_host(x)}))

    def gradients(self, running, x, g):
        layer, model = running.layer, running.model
        with running.graph.as_default():
            seed = tf.constant(to_host(g))
            sources = [model.input, layer.kernel] + ([] if layer.bias is None else [layer.bias])
            found = tf.gradients(tf.reduce_sum(model.output * seed), sources)
            of_x, of_kernel, *of_bias = running.session.run(found, {model.input: to_host(x)})
        return from_host(of_x), self.turn(running, of_kernel), of_bias[0] if of_bias else None

    def reload(self, running, case, folder):
        path = str(folder / "model.h5")
        with running.graph.as_default(), running.session.as_default():
            running.model.save(path)
        return Running(lambda: tf.keras.models.load_model(path, custom_objects=LAYERS), running.transposed)

    def geometry(self, case, positions):
        reach = [d * (k - 1) + 1 for d, k in zip(case.dilation, case.kernel)]
        axes = list(zip(positions, case.stride, reach))
        if not case.transposed:
            if case.padding == "valid":
                return [(0, 0)] * case.rank
            if case.padding == "causal":
                return [(r - 1, 0) for r in reach]
            totals = [max((-(-n // s) - 1) * s + r - n, 0) for n, s, r in axes]
            return [(total // 2, total - total // 2) for total in totals]
        more = self.output_padding(case)
        if more is not None:
            cut = [r // 2 if case.padding == "same" else 0 for r in reach]
            out = [(n - 1) * s + r - 2 * c + o for (n, s, r), c, o in zip(axes, cut, more)]
        elif case.padding == "same":
            out = [n * s for n, s, _ in axes]
        else:
            out = [n * s + max(r - s, 0) for n, s, r in axes]
        if case.padding == "valid":
            return [0] * case.rank, out
        return [max((n - 1) * s + r - o, 0) // 2 for (n, s, r), o in zip(axes, out)], out


def host_takes(case):
    """TensorFlow 1 on a CPU: no dilation with strides, no dilated transposed convolutions but in 2-D."""
    dilated, strided = set(case.dilation) != {1}, set(case.stride) != {1}
    if dilated and strided:
        return False
    if not case.transposed:
        return not (case.padding == "causal" and case.rank > 1)
    if dilated and (case.rank != 2 or case.output_padding is not None):
        return False
    # with 'same', the host takes k // 2 off on both sides: it contradicts itself where an even kernel has no stride
    even = any(k % 2 == 0 for k in case.kernel)
    return not (case.padding == "same" and case.output_padding is not None and even)


CONV = conv_cases(paddings=["valid", "same", "causal"], modes=["zeros"], groups=[1], possible=host_takes)
TRANSPOSE = transpose_cases(
    paddings=["valid", "same"], groups=[1], output_paddings=[None, 1], possible=host_takes, ranks=(2, 3)
)


@pytest.mark.parametrize("case", CONV + TRANSPOSE, ids=name_of)
class TestConv(ConvContract):
    face = TF1Face()


class TestGolden(GoldenContract):
    face = TF1Face()

    def takes(self, case):
        return not (case.transposed and case.rank == 1)


def build(name, rank, filters, channels, groups, **arguments):
    with tf.Graph().as_default():
        LAYERS[name](filters, 3, **arguments).build([None] + [8] * rank + [channels])


class TestRefusal(RefusalContract):
    groups_too = False

    def build(self, rank, *sizes, **arguments):
        build(f"SymmetricConv{rank}D", rank, *sizes, **arguments)


class TestRefusalOfTransposed(RefusalContract):
    groups_too = False

    def build(self, rank, *sizes, **arguments):
        if rank == 1:
            return pytest.skip("TensorFlow 1 has no Conv1DTranspose")
        return build(f"SymmetricConv{rank}DTranspose", rank, *sizes, **arguments)
