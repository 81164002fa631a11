"""What the TensorFlow 1 layers cost, side by side with the plain ones; what is slower is in the table, too.

Run with Python 3.7 and TensorFlow 1.15: `python benchmarks/tf1_layers.py`. Both rivals of a row run in turn, in one
process, so that whatever else the machine does hits both alike, and every other round in the other order. Times are
medians; a ratio is the median of the ratios of all rounds.
"""

import argparse
import os
import platform
import resource
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf

from symmetric_layers.tf1 import GlobalConv1D, SymmetricConv2D, SymmetricConv2DTranspose, SymmetricConv3D

CORES = len(os.sched_getaffinity(0))  # those this process may use: more threads than cores would wait for each other


def step(layer, x):
    """One training step of one layer: forwards, backwards (to the input, too) and a gradient descent."""
    loss = tf.reduce_mean(tf.square(layer(x)))
    update = tf.compat.v1.train.GradientDescentOptimizer(1e-3).minimize(loss, var_list=layer.trainable_weights)
    with tf.control_dependencies([update]):
        return tf.reduce_sum(tf.gradients(loss, x)[0])  # its sum, because what nobody asks for is not computed


def answer(layer, x):
    """Forwards only."""
    return tf.reduce_sum(layer(x))


def interleaved(work, rivals, sizes, rounds):
    """The seconds of each rival in every round."""
    times = [[] for _ in rivals]
    threads = tf.compat.v1.ConfigProto(intra_op_parallelism_threads=CORES, inter_op_parallelism_threads=CORES)
    with tf.Graph().as_default(), tf.compat.v1.Session(config=threads) as session:
        x = tf.Variable(np.random.RandomState(0).standard_normal(sizes).astype("float32"))
        runs = [session.make_callable(work(layer, x)) for layer in (make() for make in rivals)]
        session.run(tf.compat.v1.global_variables_initializer())
        for run in runs * 2:
            run()
        turns = list(enumerate(runs))
        for _ in range(rounds):
            for turn, run in turns:
                start = time.perf_counter()
                run()
                times[turn].append(time.perf_counter() - start)
            turns.reverse()
    return times


def summary(host, ours):
    """The median seconds of both, and the median of their ratios, round by round."""
    return statistics.median(host), statistics.median(ours), statistics.median(b / a for a, b in zip(host, ours))


def convolutions(rounds, only):
    """Symmetric layers beside plain ones."""
    conv, plain = SymmetricConv2D, tf.keras.layers.Conv2D
    up, plain_up = SymmetricConv2DTranspose, tf.keras.layers.Conv2DTranspose
    deep, plain_deep = SymmetricConv3D, tf.keras.layers.Conv3D
    small, picture, large = [16, 16, 16, 64], [16, 32, 32, 64], [16, 32, 32, 128]
    same = {"padding": "same"}
    cases = [
        ("Conv2D 64 -> 64, 3x3, h 100%, 32x32", conv, plain, 64, 3, {"h": "100%"}, None, picture, same),
        ("Conv2D 64 -> 64, 3x3, hv 100%, 32x32", conv, plain, 64, 3, {"hv": "100%"}, None, picture, same),
        ("Conv2D 64 -> 64, 3x3, h 25%, v 25%, hv 25%", conv, plain, 64, 3, _mixed(), None, picture, same),
        ("Conv2D 64 -> 64, the same, in_symmetry hv", conv, plain, 64, 3, _mixed(), {"hv": "100%"}, picture, same),
        ("Conv2D 64 -> 64, the same, in_symmetry hv, 16x16", conv, plain, 64, 3, _mixed(), {"hv": "100%"}, small, same),
        ("Conv2D 128 -> 128, 3x3, h, v, hv 25% each", conv, plain, 128, 3, _mixed(), None, large, same),
        ("Conv2D 64 -> 64, 5x5, h 50%, v 50%", conv, plain, 64, 5, {"h": "50%", "v": "50%"}, None, picture, same),
        ("Conv3D 64 -> 64, 3x3x3, hvz 100%, 8x16x16", deep, plain_deep, 64, 3, {"hvz": "100%"}, None,
         [2, 8, 16, 16, 64], same),
        ("Conv2DTranspose 64 -> 64, 3x3, h, v, hv 25%", up, plain_up, 64, 3, _mixed(), None, picture, same),
    ]  # fmt: skip
    print(f"{'':<49}{'work':<10}{'plain':>10}{'symmetric':>12}{'ratio':>8}")
    for name, layer, host, filters, kernel, symmetry, in_symmetry, sizes, options in cases:
        if only not in name:
            continue
        rivals = [
            lambda: host(filters, kernel, **options),  # noqa: B023
            lambda: layer(filters, kernel, symmetry=symmetry, in_symmetry=in_symmetry, **options),  # noqa: B023
        ]
        for work in (step, answer):
            plain_time, ours, ratio = summary(*interleaved(work, rivals, sizes, rounds))
            slower = "  slower" if ratio > 1.05 else ""
            print(f"{name:<49}{work.__name__:<10}{plain_time * 1e3:>7.1f} ms{ours * 1e3:>9.1f} ms{ratio:>8.3f}{slower}")
            name = ""


def _mixed():
    return {"h": "25%", "v": "25%", "hv": "25%"}


class Literal(tf.keras.layers.Layer):
    """The convolution that `GlobalConv1D` is, with its wide kernel written out."""

    def __init__(self, filters, width):
        super().__init__()
        self.filters, self.width = filters, width

    def build(self, shape):
        self.centre, self.surround = (self.add_weight(n, [shape[-1], self.filters]) for n in ("centre", "surround"))

    def call(self, x):
        side = tf.tile(self.surround[tf.newaxis], [self.width - 1, 1, 1])
        return tf.nn.conv1d(x, tf.concat([side, self.centre[tf.newaxis], side], 0), 1, "SAME")


def global_convolution():
    """`GlobalConv1D` beside the wide convolution that it is."""
    print(f"\n{'':<49}{'work':<10}{'wide':>10}{'global':>12}{'ratio':>8}")
    for width, rounds in ((256, 15), (1024, 5), (4096, 3)):
        rivals = [lambda: Literal(16, width), lambda: GlobalConv1D(16, use_bias=False)]  # noqa: B023
        name = f"GlobalConv1D 16 -> 16, width {width}, batch 1"
        for work in (step, answer):
            wide, ours, ratio = summary(*interleaved(work, rivals, [1, width, 16], rounds))
            print(
                f"{name:<49}{work.__name__:<10}{wide * 1e3:>7.1f} ms{ours * 1e3:>9.2f} ms   1/{1 / ratio:.0f}"
                f"  ({rounds} rounds)"
            )
            name = ""
    (times,) = interleaved(step, [lambda: GlobalConv1D(16, use_bias=False)], [1, 100000, 16], 15)
    alone = statistics.median(times)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{'GlobalConv1D 16 -> 16, width 100000, batch 1':<49}{'step':<10}{'-':>10}{alone * 1e3:>9.2f} ms")
    print(f"peak memory of the whole process: {peak:.2f} GiB")


def main():
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=31, help="of each convolution")
    parser.add_argument("--only", default="", help="the rows whose name has this in it: 'Conv3D', '16x16', 'Global'")
    asked = parser.parse_args()
    print(
        f"TensorFlow {tf.__version__}, Python {platform.python_version()}, {CORES} cores, "
        f"medians of {asked.rounds} rounds"
    )
    convolutions(asked.rounds, asked.only)
    if asked.only in "GlobalConv1D":
        global_convolution()


if __name__ == "__main__":
    main()
