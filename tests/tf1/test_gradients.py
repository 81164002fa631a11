"""Gradients are ordinary ones: optimizers, second derivatives and other processes can work with them."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from symmetric_layers.tf1 import SymmetricConv2D, SymmetricConv2DTranspose

QUARTERS, INPUTS = {"h": 2, "v": 2, "hv": 8}, {"hv": 4}
MAKES = pytest.mark.parametrize("make", [SymmetricConv2D, SymmetricConv2DTranspose])
ELSEWHERE = """
import sys, tensorflow as tf
tf.compat.v1.train.import_meta_graph(sys.argv[1])
loss = tf.compat.v1.get_default_graph().get_tensor_by_name(sys.argv[2])
found = tf.gradients(loss, tf.compat.v1.trainable_variables())
assert "symmetric_layers" not in sys.modules
print([gradient.shape.as_list() for gradient in found])
"""


@pytest.fixture
def session():
    """A graph and a session of its own for each test."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        yield session


def pictures():
    return tf.constant(np.random.RandomState(0).standard_normal((2, 5, 6, 7)))


@MAKES
@pytest.mark.parametrize("in_symmetry", [None, INPUTS])
def test_optimizers_get_tensors_not_indexed_slices(make, in_symmetry, session):
    """Slices would have Adam and momentum skip or repeat what a layer of the host would not."""
    layer = make(14, 3, symmetry=QUARTERS, in_symmetry=in_symmetry, dtype="float64")
    found = tf.gradients(tf.reduce_sum(layer(pictures())), layer.trainable_weights)
    assert [type(gradient) for gradient in found] == [tf.Tensor, tf.Tensor]


@MAKES
@pytest.mark.parametrize("in_symmetry", [None, INPUTS])
def test_a_gradient_has_a_gradient(make, in_symmetry, session):
    layer = make(14, 3, symmetry=QUARTERS, in_symmetry=in_symmetry, dtype="float64")
    loss = tf.reduce_sum(layer(pictures()) ** 2)  # its gradient is linear in the weights: no limit needs to be taken
    gradients = tf.gradients(loss, layer.trainable_weights)
    random = np.random.RandomState(1)
    moves = [random.standard_normal(weight.shape) for weight in layer.trainable_weights]
    slope = sum(tf.reduce_sum(gradient * move) for gradient, move in zip(gradients, moves))
    seconds = tf.gradients(slope, layer.trainable_weights)
    session.run(tf.compat.v1.global_variables_initializer())
    before, predicted = session.run([gradients, seconds])
    for weight, move in zip(layer.trainable_weights, moves):
        weight.load(session.run(weight) + move, session)
    for new, old, difference in zip(session.run(gradients), before, predicted):
        np.testing.assert_allclose(new - old, difference, rtol=1e-10, atol=1e-10)


@MAKES
def test_an_imported_graph_has_gradients_where_nobody_knows_the_layers(make, session, tmp_path):
    layer = make(14, 3, symmetry=QUARTERS, in_symmetry=INPUTS, dtype="float64")
    loss = tf.reduce_sum(layer(pictures()))
    path = str(tmp_path / "graph.meta")
    tf.compat.v1.train.export_meta_graph(path)
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", ELSEWHERE, path, loss.name], capture_output=True)
    assert done.stdout.decode().strip().endswith(str([layer.kernel.shape.as_list(), [layer.plan.stored]])), done.stderr
