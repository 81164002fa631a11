"""Keras knows one backend per process: these tests run once per backend, with `KERAS_BACKEND` in the environment."""

import os
import pathlib
from collections import Counter

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow says on stderr which processor it found
collect_ignore_glob = [] if "KERAS_BACKEND" in os.environ else ["test_*.py"]
if os.environ.get("KERAS_BACKEND") == "jax":
    collect_ignore_glob += ["test_keras_convert_*.py"]  # graphs are the same on all backends, and jax compiles each

if os.environ.get("KERAS_BACKEND") == "jax":
    # what runs once need not be fast: compiling is where the time goes
    os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true")
    import jax

    jax.config.update("jax_enable_x64", True)

THEIRS = [  # what the frameworks warn of among themselves
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning",
]


def pytest_collection_modifyitems(config, items):
    here = pathlib.Path(__file__).parent
    if os.environ.get("KERAS_BACKEND") == "jax":
        thin_out(config, items)
    for item in items:
        if here in item.path.parents:
            for warning in THEIRS:
                item.add_marker(pytest.mark.filterwarnings(warning))


def thin_out(config, items):
    """Every second of the cases that differ in numbers alone: what they run is the same, and jax compiles each."""
    seen, left = Counter(), []
    for item in items:
        if item.path.stem in ("test_keras_norm", "test_keras_pool", "test_keras_invariant", "test_keras_global_conv"):
            seen[item.path, item.originalname] += 1
            if seen[item.path, item.originalname] % 2 == 0:
                left.append(item)
    config.hook.pytest_deselected(items=left)
    items[:] = [item for item in items if item not in left]


@pytest.fixture(autouse=True)
def _same_numbers_every_time():
    import keras

    keras.utils.set_random_seed(0)
