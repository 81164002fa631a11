"""A program for a process of its own, because eager mode cannot be left: checks the layers, then saves a model.

Prints the name of each check that held; whatever fails ends it.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import numpy as np
import oracle
import tensorflow as tf
from cases_tf1 import LAYERS, every_layer, pictures, targets

from symmetric_layers import SymmetryError
from symmetric_layers.tf1 import GlobalConv1D, SymmetricConv2D, TopKPool

tf.compat.v1.enable_eager_execution()
SYMMETRY, INPUTS = {"h": 2, "hv": 8}, {"hv": 4}


def held(name):
    print("held:", name, flush=True)


def layer_and_truth():
    layer = SymmetricConv2D(12, 3, symmetry=SYMMETRY, in_symmetry=INPUTS, dtype="float64")
    random = np.random.RandomState(0)
    x = random.standard_normal((2, 6, 7, 5))
    layer(x)
    kernel, bias = random.standard_normal((3, 3, 5, 5)), random.standard_normal(5)
    layer.set_weights([kernel, bias])
    full = oracle.expand(np.moveaxis(kernel, (-1, -2), (0, 1)), SYMMETRY, 12, 1, INPUTS)
    full_bias = oracle.expand_bias(bias, SYMMETRY, 12)
    pads, ones = [(0, 0), (0, 0)], [1, 1]
    truth = np.moveaxis(oracle.conv(np.moveaxis(x, -1, 1), full, full_bias, ones, pads, ones), 1, -1)
    g = random.standard_normal(truth.shape)
    gradient = oracle.conv_weight_gradient(np.moveaxis(x, -1, 1), np.moveaxis(g, -1, 1), [3, 3], ones, pads, ones)
    of_kernel = np.moveaxis(oracle.collect(gradient, SYMMETRY, 12, 1, INPUTS), (0, 1), (-1, -2))
    return layer, x, truth, g, of_kernel


def main(folder):
    layer, x, truth, g, of_kernel = layer_and_truth()
    np.testing.assert_allclose(layer(x).numpy(), truth, rtol=0, atol=1e-12)
    held("answer")

    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(x) * g)
    np.testing.assert_allclose(tape.gradient(loss, layer.kernel).numpy(), of_kernel, rtol=0, atol=1e-11)
    held("gradient")

    traced = tf.function(layer.__call__, input_signature=[tf.TensorSpec([None, None, None, 5], tf.float64)])
    np.testing.assert_allclose(traced(tf.constant(x)).numpy(), truth, rtol=0, atol=1e-12)
    held("tf.function")

    try:
        TopKPool(9)(tf.zeros([1, 5, 2]))
        raise SystemExit("not refused")
    except SymmetryError as refusal:
        known = str(refusal)
    pool = TopKPool(9)
    unknown = tf.function(pool.__call__, input_signature=[tf.TensorSpec([None, None, 2])])
    try:
        unknown(tf.zeros([1, 5, 2]))
        raise SystemExit("not refused")
    except tf.errors.InvalidArgumentError as refusal:
        if known not in str(refusal):
            raise
    held("refusal")

    features = GlobalConv1D(4)(tf.zeros([2, 9, 3]), mask=tf.constant([[True] * 9, [True] * 4 + [False] * 5]))
    if features.shape.as_list() != [2, 9, 4]:
        raise SystemExit("lost its shape")
    held("mask")

    model = every_layer()
    model.compile("sgd", "mse")
    losses = model.fit(pictures(), targets(), epochs=20, verbose=0).history["loss"]
    if not losses[-1] < losses[0]:
        raise SystemExit("learnt nothing")
    held("fit")

    answers = model.predict(pictures())
    model.save(str(folder / "eager.h5"))
    again = tf.keras.models.load_model(str(folder / "eager.h5"), custom_objects=LAYERS)
    np.testing.assert_allclose(again.predict(pictures()), answers, rtol=0, atol=1e-6)
    tf.saved_model.save(model, str(folder / "eager_saved_model"))
    model.save_weights(str(folder / "eager_weights" / "weights"))
    np.save(str(folder / "eager.npy"), answers)
    held("save")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
