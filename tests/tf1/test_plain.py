"""The layers are the host's in everything that `symmetry` does not say."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from cases_tf1 import LAYERS
from tensorflow.keras import layers

from symmetric_layers import SymmetryError
from symmetric_layers.tf1 import OrbitPool, SymmetricConv1D, SymmetricConv2D, SymmetricConv2DTranspose

HOSTS = {
    "SymmetricConv1D": layers.Conv1D,
    "SymmetricConv2D": layers.Conv2D,
    "SymmetricConv3D": layers.Conv3D,
    "SymmetricConv2DTranspose": layers.Conv2DTranspose,
    "SymmetricConv3DTranspose": layers.Conv3DTranspose,
}
EVERYTHING = {
    "strides": 2,
    "padding": "same",
    "activation": "relu",
    "kernel_initializer": "he_normal",
    "bias_initializer": "ones",
    "kernel_regularizer": "l2",
    "bias_regularizer": "l1",
    "activity_regularizer": "l2",
    "kernel_constraint": "non_neg",
    "bias_constraint": "max_norm",
    "name": "mine",
    "trainable": False,
    "dtype": "float64",
}


@pytest.fixture
def session():
    """A graph and a session of its own for each test."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        yield session


def rank_of(name):
    return int(name[len("SymmetricConv")])


@pytest.mark.parametrize("options", [{}, EVERYTHING, {"use_bias": False}], ids=["defaults", "everything", "no bias"])
@pytest.mark.parametrize("name", sorted(HOSTS))
def test_without_symmetry_a_layer_is_the_hosts(name, options):
    x = np.random.RandomState(0).standard_normal([2] + [7, 6, 5][-rank_of(name) :] + [3])
    found = []
    for make in (HOSTS[name], LAYERS[name]):
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            tf.compat.v1.set_random_seed(5)
            layer = make(4, 3, **dict(options, name="mine", dtype="float64"))
            answer = layer(tf.constant(x))
            session.run(tf.compat.v1.global_variables_initializer())
            numbers = session.run([answer] + layer.weights + layer.losses)
            found.append((numbers, [v.name for v in layer.trainable_weights], layer.get_config()))
    (plain, names, config), (ours, our_names, our_config) = found
    assert len(plain) == len(ours)
    for one, other in zip(plain, ours):
        np.testing.assert_array_equal(one, other)
    assert names == our_names
    assert {key: our_config[key] for key in config} == config
    assert set(our_config) - set(config) == {"symmetry", "share_bias", "in_symmetry"}


@pytest.mark.parametrize("name", sorted(HOSTS))
def test_every_argument_of_the_host_is_understood(name, session):
    symmetry = {"h": 4}
    layer = LAYERS[name](6, 3, symmetry=symmetry, **EVERYTHING)
    answer = layer(tf.zeros([2] + [8] * rank_of(name) + [3], tf.float64))
    session.run(tf.compat.v1.global_variables_initializer())
    kernel, bias, losses = session.run([layer.kernel, layer.bias, layer.losses])
    stored = [3] * rank_of(name) + ([4, 3] if "Transpose" in name else [3, 4])
    assert list(kernel.shape) == stored
    assert bias.tolist() == [1, 1, 1, 1]
    assert answer.dtype == tf.float64
    assert layer.trainable_weights == []
    assert len(layer.non_trainable_weights) == 2
    assert layer.name == "mine"
    # regularizers and constraints see what is stored
    assert any(np.isclose(loss, 0.01 * (kernel**2).sum()) for loss in losses)
    assert any(np.isclose(loss, 0.01 * 4) for loss in losses)
    again = LAYERS[name].from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    assert again.get_config()["symmetry"] == symmetry


def test_constraints_hold_for_what_is_stored(session):
    model = tf.keras.Sequential(
        [SymmetricConv2D(4, 3, symmetry={"h": 4}, kernel_constraint="non_neg", input_shape=(5, 5, 1)), layers.Flatten()]
    )
    model.compile("sgd", "mse")
    model.fit(np.ones((4, 5, 5, 1)), -np.ones((4, 36)), epochs=2, verbose=0)
    kernel = model.get_weights()[0]
    assert kernel.shape == (3, 3, 1, 2)
    assert (kernel >= 0).all()


@pytest.mark.parametrize("initializer", ["glorot_uniform", "he_normal", "lecun_uniform", None])
@pytest.mark.parametrize("make", [SymmetricConv2D, SymmetricConv2DTranspose])
def test_the_stored_filters_are_drawn_with_the_variance_of_the_full_bank(make, initializer, session):
    symmetry = {"hv": "100%"}
    plain, ours = (make(256, 3, symmetry=s, kernel_initializer=initializer) for s in (None, symmetry))
    for layer in (plain, ours):
        layer.build([None, 8, 8, 64])
    session.run(tf.compat.v1.global_variables_initializer())
    full, stored = session.run([plain.kernel, ours.kernel])
    assert stored.size * 4 == full.size
    assert abs(stored.std() / full.std() - 1) < 0.02
    assert abs(np.abs(stored).max() / np.abs(full).max() - 1) < 0.1


def test_the_first_of_each_orbit_is_what_the_host_would_have_drawn():
    drawn = []
    for symmetry in (None, {"h": 4, "hv": 4}):
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            tf.compat.v1.set_random_seed(5)
            layer = SymmetricConv2D(10, 3, symmetry=symmetry)
            layer.build([None, 8, 8, 3])
            session.run(tf.compat.v1.global_variables_initializer())
            drawn.append(session.run([layer.kernel, layer.full_kernel()]))
    (host, _), (stored, full) = drawn
    np.testing.assert_array_equal(stored, host[..., [0, 2, 4, 8, 9]])
    np.testing.assert_array_equal(full[..., 1], full[:, ::-1, :, 0])
    np.testing.assert_array_equal(full[..., 6], full[::-1, :, :, 4])
    np.testing.assert_array_equal(full[..., 7], full[::-1, ::-1, :, 4])


@pytest.mark.parametrize("name", sorted(HOSTS))
def test_channels_first_raises_what_the_host_raises(name):
    said = []
    for make, options in ((HOSTS[name], {}), (LAYERS[name], {"symmetry": {"h": 4}})):
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            layer = make(4, 3, data_format="channels_first", **options)
            try:
                answer = layer(tf.zeros([1, 3] + [8] * rank_of(name)))
                session.run(tf.compat.v1.global_variables_initializer())
                said.append(session.run(answer).shape)
            except (tf.errors.OpError, ValueError) as error:
                said.append((type(error), str(error).splitlines()[0]))
    plain, ours = said
    assert type(plain) is type(ours)
    assert plain[0] == ours[0]
    assert ours[0] is not SymmetryError
    if name in ("SymmetricConv1D", "SymmetricConv2DTranspose"):
        assert plain == ours  # the host turns these round by itself
    else:
        assert issubclass(ours[0], tf.errors.OpError)


@pytest.mark.parametrize("name", ["SymmetricConv1D", "SymmetricConv2D", "SymmetricConv3D"])
def test_too_small_a_picture_is_refused_as_by_the_host(name):
    said = []
    for make, options in ((HOSTS[name], {}), (LAYERS[name], {"symmetry": {"h": 4}})):
        with tf.Graph().as_default(), pytest.raises(ValueError, match="Negative dimension size") as refusal:
            make(4, 5, name="mine", **options)(tf.zeros([1] + [3] * rank_of(name) + [2]))
        said.append((type(refusal.value), str(refusal.value)))
    assert said[0] == said[1]


@pytest.mark.parametrize("share_bias", [True, False])
def test_the_example_of_the_description_runs(share_bias, session):
    from custom_layers import SymmetricConv2D

    im = np.random.RandomState(0).standard_normal((4, 12, 12, 1)).astype("float32")
    symmetry = {"h": "50%", "v": "50%"}
    inputs = layers.Input(im.shape[1:])
    x = SymmetricConv2D(32, (5, 5), symmetry=symmetry, share_bias=share_bias)(inputs)
    model = tf.keras.Model(inputs, x)
    assert model.predict(im).shape == (4, 8, 8, 32)
    assert [w.shape for w in model.get_weights()] == [(5, 5, 1, 16), (16,) if share_bias else (32,)]


def test_the_old_names_are_this_face():
    import custom_layers
    import custom_layers_tf1

    for module in (custom_layers, custom_layers_tf1):
        assert {name: getattr(module, name) for name in module.__all__} == LAYERS


def test_a_causal_layer_is_causal(session):
    layer = SymmetricConv1D(4, 3, padding="causal", symmetry={"h": 4})
    x = tf.Variable(np.random.RandomState(0).standard_normal((1, 9, 2)).astype("float32"))
    (gradient,) = tf.gradients(layer(x)[:, 4], x)
    session.run(tf.compat.v1.global_variables_initializer())
    seen = np.abs(session.run(gradient)[0]).sum(-1) > 0
    assert seen.tolist() == [False] * 2 + [True] * 3 + [False] * 4


def test_what_cannot_be_known_before_the_channels_are_is_refused_by_build(session):
    layer = SymmetricConv2D(8, 3, symmetry={"h": 4}, in_symmetry={"h": "100%"})
    assert str(layer.plan) == str(SymmetricConv2D(8, 3, symmetry={"h": 4}).plan)
    with pytest.raises(SymmetryError) as refusal:
        SymmetricConv2D(8, 3, symmetry={"h": 4}, in_symmetry={"h": 6})(tf.zeros([1, 5, 5, 4]))
    assert str(refusal.value).startswith("in_symmetry: 'h': 6 does not fit 4 input channels.")
    with pytest.raises(SymmetryError) as refusal:
        SymmetricConv2D(8, 3, symmetry={"h": 4}, in_symmetry={"x": 6})
    assert str(refusal.value).startswith("in_symmetry: 'x' is no kind of mirror in 2-D.")
    with pytest.raises(ValueError, match="The channel dimension of the inputs should be defined"):
        layer.build([None, 5, 5, None])


def test_numpy_counts_survive_a_config(session):
    for layer in (SymmetricConv2D(8, 3, symmetry={"h": np.int64(4)}), OrbitPool({"h": np.int64(4)})):
        model = tf.keras.Sequential([layers.InputLayer((5, 5, 8)), layer])
        again = tf.keras.models.model_from_json(model.to_json(), custom_objects=LAYERS)
        assert again.layers[-1].get_config()["symmetry"] == {"h": 4}


def test_a_later_tensorflow_is_refused_in_one_sentence():
    code = (
        "import sys, types\n"
        "sys.modules['tensorflow'] = types.SimpleNamespace(__version__='2.16.1')\n"
        "import symmetric_layers.tf1"
    )
    done = subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE)
    assert done.stderr.decode().splitlines()[-1] == (
        "ImportError: symmetric_layers.tf1: TensorFlow 2.16.1 is no TensorFlow 1. Expected TensorFlow 1.15 "
        "(on Python 3.7). Use symmetric_layers.keras, or install tensorflow 1.15."
    )


def test_the_examples_in_the_docstrings_are_true():
    import doctest

    from symmetric_layers.tf1 import conv, global_conv, pool

    for module in (conv, global_conv, pool):
        with tf.Graph().as_default():
            found = doctest.testmod(module, extraglobs={"tf": tf})
        assert found.attempted > 1
        assert found.failed == 0


def test_no_constraint_is_missing_for_a_fresh_environment():
    pinned = (pathlib.Path(__file__).resolve().parents[2] / "constraints-tf1.txt").read_text().lower()
    for name in ("tensorflow==1.15.5", "protobuf==3.20", "h5py==2.10", "pytest==", "scikit-learn=="):
        assert name in pinned
