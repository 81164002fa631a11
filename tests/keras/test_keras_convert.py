"""Whole models: to networks that obey the law, to mirrored banks, and back to ordinary layers."""

import os
import pathlib
import subprocess
import sys

import keras
import networks_keras
import numpy as np
import pytest
from converted_keras import SMALL, alike, errors, pictures, wild
from keras import layers, ops

import symmetric_layers.keras as ours
from symmetric_layers import SymmetryError
from symmetric_layers.keras import desymmetrize, equivariant, symmetrize

BACKEND = keras.backend.backend()


@pytest.mark.parametrize("name", ["mobile"] if BACKEND == "jax" else networks_keras.ALL)  # jax compiles each
def test_one_line_converts_and_the_law_holds(name):
    make, axes = networks_keras.ALL[name]
    model = wild(make())
    before = [ops.convert_to_numpy(weight) for weight in model.weights]
    new = wild(equivariant(model, axes))
    assert max(errors(model, axes)) > 1e-2
    assert max(errors(new, axes)) < SMALL
    assert new.count_params() < model.count_params() * (0.75 if axes == "h" else 0.5)
    for weight, value in zip(model.weights, before, strict=True):  # the old model stays as it was
        np.testing.assert_array_equal(ops.convert_to_numpy(weight), value)


@pytest.mark.parametrize("name", ["mobile"] if BACKEND == "jax" else ["unet", "mobile", "volume", "line"])
def test_the_way_back_answers_alike_with_ordinary_layers_alone(name):
    make, axes = networks_keras.ALL[name]
    new = wild(equivariant(make(), axes, measure=False))
    plain = desymmetrize(new)
    alike(new, plain, pictures(new))
    flat = [plain]
    for layer in flat:
        flat += getattr(layer, "layers", [])
        assert not type(layer).__module__.startswith("symmetric_layers")


def test_saved_and_loaded_it_answers_alike(tmp_path):
    new = wild(equivariant(networks_keras.mobile(), "h", measure=False))
    new.save(tmp_path / "model.keras")
    alike(keras.saving.load_model(tmp_path / "model.keras"), new, pictures(new))


def test_orbits_start_from_what_stood_where_their_representatives_stand():
    model = wild(networks_keras.classifier())
    new = equivariant(model, "hv", measure=False)
    for old, made in zip(model.layers, new.layers, strict=True):
        assert old.name == made.name
        if isinstance(made, (ours.SymmetricConv2D, ours.OrbitBatchNormalization)):
            for one, other in zip(old.weights, made.weights, strict=True):
                first = ops.convert_to_numpy(one)[..., ::4]
                np.testing.assert_array_equal(first, ops.convert_to_numpy(other))
    head, made = model.layers[-1].kernel, new.layers[-1].kernel
    np.testing.assert_array_equal(ops.convert_to_numpy(head)[::4], ops.convert_to_numpy(made))


def test_pools_that_know_no_double_precision_are_measured_in_single():
    steps = [layers.Conv3D(8, 3, padding="same"), layers.MaxPooling3D(2), layers.Conv3D(2, 1)]
    model = keras.Sequential([layers.Input((5, 6, 7, 1)), *steps])
    equivariant(model, "hvz")
    equivariant(model, "h", width=2, init="average")


def test_a_compiled_model_stays_compiled_and_learns(tmp_path):
    model = networks_keras.classifier(dtype="float32")
    model.compile(optimizer="adam", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    new = equivariant(model, "hv", measure=False)
    x, y = pictures(new).astype("float32"), np.array([0, 2])
    first = new.evaluate(x, y, verbose=0)
    new.fit(x, y, epochs=12, verbose=0)
    assert new.evaluate(x, y, verbose=0) < first
    assert max(errors(new, "hv")) < 1e-3


class Written(keras.Model):
    def call(self, x):
        return x


@pytest.mark.parametrize("convert", [lambda m: equivariant(m, "h"), lambda m: symmetrize(m, {"h": 2}), desymmetrize])
def test_models_without_a_graph_are_refused(convert):
    with pytest.raises(SymmetryError) as refusal:
        convert(Written())
    assert str(refusal.value) == (
        "model: 'Written' has no graph of layers. Expected a Sequential or a functional model. "
        "Write it as one of these."
    )
    with pytest.raises(SymmetryError) as refusal:
        convert(keras.Sequential([layers.Conv2D(4, 3)], name="unseen"))
    assert str(refusal.value) == (
        "model: 'unseen' does not know its input yet. Expected a model that has seen its input. "
        "Give it a keras.Input, or call it once."
    )


def test_other_wrong_arguments_are_refused():
    model = networks_keras.unet()
    for bad, sentence in [
        (lambda: equivariant(model, "z"), "axes: 'z' is no kind of mirror in 2-D."),
        (lambda: equivariant(model, "h", keep=["nothing"]), "keep: 'nothing' is no layer of the model."),
        (lambda: equivariant(model, "h", measure=1), "measure: 1 is no bool."),
        (lambda: symmetrize(model, {"hv": 6}), "cannot have this symmetry. symmetry: 'hv': 6 does not fit 8 filters."),
        (lambda: symmetrize(model, {"h": 2}, where=lambda name, conv: False), "no ordinary convolution is left in it."),
        (lambda: desymmetrize(model), "model: no layer of this package is in it."),
        (lambda: equivariant(keras.Sequential([layers.Input((3,)), layers.Dense(2)]), "h"), "hold no pictures."),
    ]:
        with pytest.raises(SymmetryError) as refusal:
            bad()
        assert sentence in str(refusal.value)


@pytest.mark.skipif(BACKEND != "jax", reason="the others have double precision")
def test_without_double_precision_it_is_measured_in_single_without_a_word():
    code = (
        "import keras, networks_keras; from symmetric_layers.keras import equivariant; "
        "equivariant(networks_keras.line(dtype='float32'), 'h')"
    )
    environment = {**os.environ, "PYTHONPATH": str(pathlib.Path(__file__).parent), "JAX_ENABLE_X64": "0"}
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=250)
    assert told.returncode == 0, told.stderr
    assert "float64" not in told.stderr
