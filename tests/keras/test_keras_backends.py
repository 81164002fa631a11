"""A model saved under one backend answers the same under the next, round to the first; it needs no `custom_objects`."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import ops
from keras_face import BACKEND

import symmetric_layers.keras as layers

QUICK = {"XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"}  # to compile
NEXT = {"tensorflow": "jax", "jax": "torch", "torch": "tensorflow"}[BACKEND]
LOAD = """
import sys, numpy as np, keras, symmetric_layers.keras
model = keras.models.load_model(sys.argv[1])
assert keras.backend.backend() == sys.argv[4]
np.save(sys.argv[3], keras.ops.convert_to_numpy(keras.ops.stop_gradient(model(np.load(sys.argv[2])))))
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A model with every layer, a picture, and the answer."""
    folder = tmp_path_factory.mktemp("saved")
    keras.utils.set_random_seed(0)
    model = keras.Sequential([
        keras.Input((8, 9, 6)),
        layers.SymmetricConv2D(8, 3, padding="same", symmetry={"h": 4, "hv": 4}, groups=1, bias_initializer="normal"),
        layers.SymmetricConv2DTranspose(8, 2, 2, symmetry={"hv": 8}, in_symmetry={"hv": 4}, activation="elu"),
        keras.layers.Reshape((16, 18, 8, 1)),
        layers.SymmetricConv3D(8, 3, 2, "same", symmetry={"hvz": "100%"}),
        layers.SymmetricConv3DTranspose(4, 2, symmetry={"vz": 4}, share_bias=False, bias_initializer="normal"),
        layers.OrbitPool({"vz": 4}, reduce="max"),
        keras.layers.Reshape((-1, 15)),
        layers.SymmetricConv1D(12, 3, padding="causal", groups=3, symmetry={"h": 6}),
        layers.SymmetricConv1DTranspose(6, 3, 2, "same", symmetry={"h": 2}, in_symmetry={"h": 6}),
        layers.GlobalConv1D(5, activation="tanh", bias_initializer="normal"),
        layers.TopKPool(7),
    ])  # fmt: skip
    x = np.random.RandomState(0).standard_normal((2, 8, 9, 6)).astype("float32")
    model.save(folder / "model.keras")
    np.save(folder / "x.npy", x)
    return folder, ops.convert_to_numpy(ops.stop_gradient(model(x)))


def test_the_next_backend_gives_the_same_outputs(saved):
    folder, expected = saved
    arguments = [folder / "model.keras", folder / "x.npy", folder / "answer.npy", NEXT]
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOAD, *map(str, arguments)],
        env={**QUICK, **os.environ, "KERAS_BACKEND": NEXT},
        check=True,
        timeout=240,
    )
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(np.load(folder / "answer.npy"), expected, rtol=1e-4, atol=2e-5)
