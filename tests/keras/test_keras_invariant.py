"""The way out of the orbits: what comes out mirrors with the picture, and is ordinary."""

import keras
import numpy as np
import pytest
from keras import ops
from keras_face import gradients

import symmetric_layers.keras as ours
from symmetric_layers import SymmetryError, plan
from symmetric_layers.keras import InvariantConv2D, OrbitDense, equivariance_error

FORMAT = "channels_last"
CASES = [
    ("InvariantConv1D", (7,), 2, "h", {}),
    ("InvariantConv1D", (9,), 3, "h", {"padding": "causal", "dilation_rate": 2}),
    ("InvariantConv2D", (7, 8), 3, "hv", {"strides": 2, "padding": "same"}),
    ("InvariantConv2D", (6, 8), (3, 2), "v", {"groups": 2}),
    ("InvariantConv3D", (5, 6, 4), 3, "hvz", {"strides": (1, 2, 1), "padding": "same"}),
    ("InvariantConv1DTranspose", (5,), 3, "h", {"strides": 2, "padding": "same"}),
    ("InvariantConv2DTranspose", (4, 5), 2, "hv", {"strides": 2}),
    ("InvariantConv3DTranspose", (3, 4, 3), 3, "hz", {"strides": 2, "padding": "same"}),
]


def host_of(layer):
    host = next(base for base in type(layer).__mro__ if base.__module__.startswith("keras."))
    config = {key: value for key, value in layer.get_config().items() if key != "in_symmetry"}
    return host.from_config({**config, "name": "host"})


def built(case):
    name, positions, kernel, kind, more = case
    channels = 16
    layer = getattr(ours, name)(
        4, kernel, in_symmetry={kind: channels}, bias_initializer="normal", dtype="float64", **more
    )
    x = np.random.RandomState(0).standard_normal((2, *positions, channels))
    layer.build(x.shape)
    return layer, x, kind


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{case[3]}")
def test_the_answer_is_an_ordinary_map_that_mirrors(case, tolerance):
    layer, x, kind = built(case)
    assert {found.axis for found in equivariance_error(layer, x, kind, in_symmetry={kind: 16})} == set(kind)
    for found in equivariance_error(layer, x, kind, in_symmetry={kind: 16}):
        assert found.absolute <= tolerance["float64"]
    (stored,) = [size for size in layer.kernel.shape[-2:] if size != 4] or [4]
    groups = case[4].get("groups", 1)
    assert stored == 16 // 2 ** len(kind) // groups


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{case[3]}")
def test_it_is_the_mean_of_the_hosts_answers_over_all_mirrors(case, tolerance):
    layer, x, kind = built(case)
    host = host_of(layer)
    host.build(x.shape)
    host.kernel.assign(layer.full_kernel())
    host.bias.assign(layer.bias)
    arranged = plan({kind: 16}, 16, len(x.shape) - 2, case[4].get("groups", 1))
    answers = []
    for index in range(2 ** len(kind)):
        letters = "".join(letter for bit, letter in enumerate(kind) if index >> bit & 1)
        axes = [{"h": -2, "v": -3, "z": -4}[letter] for letter in letters]
        seen = np.flip(x, axes)[..., list(arranged.exchange(letters))] if letters else x
        answers.append(np.flip(ops.convert_to_numpy(host(np.ascontiguousarray(seen))), axes))
    np.testing.assert_allclose(ops.convert_to_numpy(layer(x)), np.mean(answers, 0), atol=10 * tolerance["float64"])


def test_the_gradient_of_what_is_stored_is_the_sum_over_its_mirrors(tolerance):
    layer, x, _ = built(("InvariantConv2D", (6, 8), 3, "hv", {}))
    host = host_of(layer)
    host.build(x.shape)
    host.kernel.assign(layer.full_kernel())
    host.bias.assign(layer.bias)
    g = np.random.RandomState(1).standard_normal(tuple(layer(x).shape))
    of_x, (of_kernel, of_bias) = gradients(layer, x, g)
    of_host_x, (of_full, of_host_bias) = gradients(host, x, g)
    members = of_full.reshape(3, 3, 4, 4, 4)  # orbits, then members
    summed = sum(np.flip(members[:, :, :, i], axes) for i, axes in enumerate([(), (1,), (0,), (0, 1)]))
    np.testing.assert_allclose(of_kernel, summed, atol=100 * tolerance["float64"])
    np.testing.assert_allclose(of_x, of_host_x, atol=10 * tolerance["float64"])
    np.testing.assert_allclose(of_bias, of_host_bias, atol=10 * tolerance["float64"])


def test_a_head_ignores_an_exchange(tolerance):
    bank = {"h": 4, "hv": 8}
    head = OrbitDense(3, in_symmetry=bank, bias_initializer="normal", dtype="float64")
    x = np.random.RandomState(0).standard_normal((5, 14))
    head.build(x.shape)
    assert tuple(head.kernel.shape) == (2 + 2 + 2, 3)
    arranged = plan(bank, 14, 3)
    for letter in "hv":
        exchanged = x[:, list(arranged.exchange(letter))]
        np.testing.assert_allclose(  # some hosts multiply in single precision whatever the layer's type
            ops.convert_to_numpy(head(exchanged)), ops.convert_to_numpy(head(x)), rtol=0, atol=tolerance["float32"]
        )
    full = ops.convert_to_numpy(head.full_kernel())
    expected = x @ full + ops.convert_to_numpy(head.bias)
    np.testing.assert_allclose(ops.convert_to_numpy(head(x)), expected, atol=1e-6)
    np.testing.assert_array_equal(full[4:8], np.stack([full[4]] * 4))


@pytest.mark.parametrize(
    "model",
    [
        [keras.layers.Input((6, 6, 8)), InvariantConv2D(3, 3, strides=2, padding="same", in_symmetry={"hv": 8})],
        [keras.layers.Input((8,)), OrbitDense(3, in_symmetry={"hv": "100%"})],
    ],
)
def test_saved_and_loaded_they_answer_alike(model, tmp_path):
    model = keras.Sequential(model)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    x = np.random.RandomState(0).standard_normal((2, *model.input_shape[1:])).astype("float32")
    np.testing.assert_array_equal(ops.convert_to_numpy(again(x)), ops.convert_to_numpy(model(x)))


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({}, "in_symmetry: {} names no orbits to lead out of. Expected kinds and numbers, like {'h': 8}. "
             "Use keras.layers.Conv2D where channels are ordinary."),
        ({"h": 4}, "in_symmetry: {'h': 4} of 8 input channels holds channels of several kinds. Expected one kind for "
                   "all. Use a layer for each and add the answers."),
        ({"hv": 6}, "in_symmetry: 'hv': 6 does not fit 8 input channels. Expected a multiple of 4 (the size of one "
                    "'hv' orbit), at most 8. Use such a number, or a percentage, which rounds down to whole orbits."),
    ],
)  # fmt: skip
def test_what_leads_nowhere_is_refused(asked, sentence):
    with pytest.raises(SymmetryError) as refusal:
        InvariantConv2D(3, 3, in_symmetry=asked).build((None, 6, 6, 8))
    assert str(refusal.value) == sentence
