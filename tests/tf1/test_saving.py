"""What is saved answers the same, in eager mode and in a process that has never seen it."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from cases_tf1 import every_layer, pictures, targets

HERE = pathlib.Path(__file__).resolve().parent
CHECKS = ["answer", "gradient", "tf.function", "refusal", "mask", "fit", "save"]
SAVED = ["model.h5", "weights.h5", "weights", "saver", "exported", "session_saved_model", "keras_saved_model"]
EAGER = ["eager.h5", "eager_weights", "eager_saved_model"]


def program(name, folder):
    done = subprocess.run([sys.executable, str(HERE / name), str(folder)], capture_output=True)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("saved")


@pytest.fixture(scope="module")
def eager(folder):
    """What the eager program reports; it also saves a model."""
    return program("in_eager_mode.py", folder)


@pytest.fixture(scope="module")
def answers(folder, eager):
    """What each saved model answers in a fresh process, and what it has to."""
    with tf.Graph().as_default(), tf.compat.v1.Session().as_default() as session:
        model = every_layer()
        model.compile("sgd", "mse")
        model.fit(pictures(), targets(), epochs=2, verbose=0)
        expected = model.predict(pictures())
        model.save(str(folder / "model.h5"))
        model.save_weights(str(folder / "weights.h5"))
        model.save_weights(str(folder / "weights" / "weights"))
        (folder / "saver").mkdir()
        tf.compat.v1.train.Saver(model.weights).save(session, str(folder / "saver" / "model"))
        tf.compat.v1.saved_model.simple_save(
            session, str(folder / "session_saved_model"), {"x": model.input}, {"y": model.output}
        )
        tf.keras.experimental.export_saved_model(model, str(folder / "keras_saved_model"))
    code, _, errors = program("in_a_fresh_process.py", folder)
    assert code == 0, errors[-2000:]
    return np.load(str(folder / "answers.npz")), expected, np.load(str(folder / "eager.npy"))


@pytest.mark.parametrize("check", CHECKS)
def test_eager_mode_keeps_the_promises(check, eager):
    code, report, errors = eager
    assert "held: " + check in report.splitlines(), errors[-2000:]
    assert code == 0, errors[-2000:]


@pytest.mark.parametrize("name", SAVED)
def test_what_is_saved_answers_the_same_in_a_fresh_process(name, answers):
    found, expected, _ = answers
    np.testing.assert_allclose(found[name], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", EAGER)
def test_what_is_saved_eagerly_answers_the_same_in_a_fresh_graph(name, answers):
    found, _, expected = answers
    np.testing.assert_allclose(found[name], expected, rtol=0, atol=1e-6)
