"""A small model learns from real pictures, by Keras and by an estimator, and its mirrors stay mirrors."""

import numpy as np
import pytest
import tensorflow as tf
from cases_tf1 import LAYERS
from sklearn.datasets import load_digits
from tensorflow.keras import layers

from symmetric_layers.tf1 import OrbitPool, SymmetricConv2D

SYMMETRY = {"h": 4, "v": 4, "hv": 8}


def digits():
    pictures, answers = load_digits(return_X_y=True)
    return (pictures.reshape(-1, 8, 8, 1) / 16).astype("float32")[:512], answers[:512].astype("int32")


def small_model():
    tf.compat.v1.set_random_seed(4)
    return tf.keras.Sequential(
        [
            layers.InputLayer((8, 8, 1), name="pictures"),
            SymmetricConv2D(16, 3, padding="same", activation="relu", symmetry=SYMMETRY),
            SymmetricConv2D(16, 3, padding="same", activation="relu", symmetry={"hv": 16}, share_bias=False),
            OrbitPool({"hv": 8}),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(10, activation="softmax"),
        ]
    )


@pytest.fixture
def session():
    """A graph and a session of its own for each test."""
    with tf.Graph().as_default(), tf.compat.v1.Session().as_default() as session:
        yield session


OPTIMIZERS = {
    "keras": lambda: tf.keras.optimizers.Adam(0.01),
    "tf.train": lambda: tf.compat.v1.train.AdamOptimizer(0.01),
}


@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
def test_fit_lowers_the_loss_and_mirrors_stay_mirrors(optimizer, session):
    pictures, answers = digits()
    model = small_model()
    model.compile(OPTIMIZERS[optimizer](), "sparse_categorical_crossentropy", metrics=["acc"])
    before, _ = model.evaluate(pictures, answers, verbose=0)
    model.fit(pictures, answers, batch_size=64, epochs=4, verbose=0)
    after, _ = model.evaluate(pictures, answers, verbose=0)
    assert after < 0.5 * before
    kernel, full = session.run([model.layers[0].kernel, model.layers[0].full_kernel()])
    assert kernel.shape == (3, 3, 1, 6)
    for filters, step in (
        ((0, 1), (1, -1)),
        ((4, 5), (-1, 1)),
        ((8, 9), (1, -1)),
        ((8, 10), (-1, 1)),
        ((8, 11), (-1, -1)),
    ):
        one, other = (full[..., filter] for filter in filters)
        np.testing.assert_array_equal(other, one[:: step[0], :: step[1]])
        assert np.abs(other - one).max() > 0


def test_an_estimator_trains_it_as_well(tmp_path):
    pictures, answers = digits()

    def feed(epochs, shuffle):
        return tf.compat.v1.estimator.inputs.numpy_input_fn(
            {"pictures": pictures}, answers, batch_size=64, num_epochs=epochs, shuffle=shuffle
        )

    with tf.Graph().as_default(), tf.compat.v1.Session().as_default():
        model = small_model()
        model.compile(tf.compat.v1.train.AdamOptimizer(0.01), "sparse_categorical_crossentropy")
        estimator = tf.keras.estimator.model_to_estimator(
            model, custom_objects=LAYERS, model_dir=str(tmp_path / "estimator")
        )
    before = estimator.evaluate(feed(1, False))["loss"]
    estimator.train(feed(None, True), steps=24)
    assert estimator.evaluate(feed(1, False))["loss"] < before
    names = [name for name in estimator.get_variable_names() if name.endswith("conv2d/kernel")]
    assert [estimator.get_variable_value(name).shape for name in names] == [(3, 3, 1, 6)]
    (predicted,) = next(estimator.predict(feed(1, False))).values()
    assert predicted.shape == (10,)
