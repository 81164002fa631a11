"""Norms that treat an orbit as one channel seen several times."""

import keras
import numpy as np
import oracle
import pytest
from keras import ops
from keras_face import gradients

from symmetric_layers import SymmetryError
from symmetric_layers.keras import OrbitBatchNormalization, OrbitGroupNormalization, OrbitLayerNormalization

MIXED = {"h": 4, "hvz": 8}
NORMS = [
    (OrbitLayerNormalization, keras.layers.LayerNormalization, {}),
    (OrbitGroupNormalization, keras.layers.GroupNormalization, {"groups": 1}),
    (OrbitGroupNormalization, keras.layers.GroupNormalization, {"groups": -1}),
]
AFFINE = {"gamma_initializer": "normal", "beta_initializer": "normal"}


def numbers(x):
    return ops.convert_to_numpy(ops.stop_gradient(x.value if isinstance(x, keras.Variable) else x))


def picture(*positions, channels=15):
    return 3 * np.random.RandomState(0).standard_normal((4, channels, *positions)) + 1


def batch_norm(symmetry=MIXED, **more):
    return OrbitBatchNormalization(symmetry=symmetry, dtype="float64", **AFFINE, **more)


@pytest.mark.parametrize("axis", [-1, 1])
@pytest.mark.parametrize("positions", [(), (5,), (5, 6), (3, 4, 5)])
def test_an_orbit_is_one_channel_seen_several_times(positions, axis, tolerance):
    norm, x = batch_norm(axis=axis, momentum=0.9), picture(*positions)
    given = np.ascontiguousarray(np.moveaxis(x, 1, axis))
    norm.build(given.shape)
    expected, means, variances = oracle.orbit_batch_norm(
        x, MIXED, norm.epsilon, numbers(norm.gamma), numbers(norm.beta)
    )
    answer = np.moveaxis(numbers(norm(given, training=True)), axis, 1)
    np.testing.assert_allclose(answer, expected, rtol=0, atol=10 * tolerance["float64"])
    assert tuple(norm.gamma.shape) == tuple(norm.moving_mean.shape) == means.shape
    np.testing.assert_allclose(numbers(norm.moving_mean), 0.1 * means, atol=1e-12)
    np.testing.assert_allclose(numbers(norm.moving_variance), 0.9 + 0.1 * variances, atol=1e-12)


def test_in_evaluation_or_frozen_the_tracked_statistics_count(tolerance):
    x = np.moveaxis(picture(5, 6), 1, -1)
    norm = batch_norm(momentum=0.0)
    trained = numbers(norm(x, training=True))
    np.testing.assert_allclose(numbers(norm(x)), trained, atol=1e-12)
    np.testing.assert_allclose(numbers(norm(x[:2])), trained[:2], atol=1e-12)
    norm.trainable = False
    np.testing.assert_allclose(numbers(norm(x[:2], training=True)), trained[:2], atol=1e-12)


def test_positions_that_are_masked_do_not_count(tolerance):
    x, there = np.moveaxis(picture(7), 1, -1), np.random.RandomState(1).rand(4, 7) > 0.3
    norm = batch_norm()
    norm.build(x.shape)
    seen = x[there]
    expected, _, _ = oracle.orbit_batch_norm(seen, MIXED, norm.epsilon, numbers(norm.gamma), numbers(norm.beta))
    filled = np.where(there[..., None], x, 1e6)
    answer = numbers(norm(filled, training=True, mask=ops.convert_to_tensor(there)))
    np.testing.assert_allclose(answer[there], expected, atol=1e-6)  # the host adds a ten-millionth to the count
    nothing = numbers(norm(x, training=True, mask=ops.convert_to_tensor(np.zeros((4, 7), bool))))
    assert np.isfinite(nothing).all()
    with pytest.raises(ValueError, match="The mask provided should be one dimension less than the inputs"):
        norm(x, training=True, mask=ops.convert_to_tensor(there[..., None]))


@pytest.mark.parametrize("axis", [-1, 1])
def test_a_mask_lacks_the_last_axis_as_the_hosts_do(axis):
    """What the host sees in the place of orbits: their second members as more rows of the first."""
    x = np.moveaxis(picture(6, channels=4), 1, axis)
    there = np.random.RandomState(1).rand(4, 6 if axis == -1 else 4) > 0.3
    norm = batch_norm({"h": 4}, axis=axis)
    norm.build(x.shape)
    norm(x, training=True, mask=ops.convert_to_tensor(there))
    if axis == -1:
        host = keras.layers.BatchNormalization(dtype="float64")
        rows, mask = np.concatenate([x[..., ::2], x[..., 1::2]], 1), np.concatenate([there, there], 1)
        host(rows, training=True, mask=ops.convert_to_tensor(mask))
        np.testing.assert_allclose(numbers(norm.moving_mean), numbers(host.moving_mean), atol=1e-6)
        np.testing.assert_allclose(numbers(norm.moving_variance), numbers(host.moving_variance), atol=1e-6)
        return
    for orbit in range(2):
        seen = np.concatenate([x[:, channel][there[:, channel]].ravel() for channel in (2 * orbit, 2 * orbit + 1)])
        np.testing.assert_allclose(numbers(norm.moving_mean)[orbit], 0.01 * seen.mean(), atol=1e-6)
        np.testing.assert_allclose(numbers(norm.moving_variance)[orbit], 0.99 + 0.01 * seen.var(), atol=1e-6)


def test_scale_and_center_may_be_left_out():
    x = np.moveaxis(picture(5), 1, -1)
    full = OrbitBatchNormalization(symmetry=MIXED, dtype="float64")
    for more in ({"scale": False}, {"center": False}, {"scale": False, "center": False}):
        norm = OrbitBatchNormalization(symmetry=MIXED, dtype="float64", **more)
        np.testing.assert_allclose(numbers(norm(x, training=True)), numbers(full(x, training=True)), atol=1e-12)
        assert len(norm.trainable_variables) == 2 - len(more)


def test_16_bits_hold_the_statistics_of_many_positions():
    x = np.moveaxis(picture(40, 50), 1, -1) + 20
    norm = OrbitBatchNormalization(symmetry=MIXED, dtype="mixed_bfloat16", momentum=0.0)
    norm(x.astype("float32"), training=True)
    exact = batch_norm(momentum=0.0)
    exact(ops.convert_to_numpy(ops.cast(ops.cast(x, "bfloat16"), "float64")), training=True)
    np.testing.assert_allclose(numbers(norm.moving_mean), numbers(exact.moving_mean), rtol=1e-4)
    np.testing.assert_allclose(numbers(norm.moving_variance), numbers(exact.moving_variance), rtol=1e-3)


def test_other_channels_are_refused_by_the_hosts_check():
    norm = batch_norm()
    norm.build((None, 5, 15))
    with pytest.raises(ValueError, match="expected axis -1 of input shape to have value 15"):
        norm(np.ones((2, 5, 14)))


def test_without_symmetry_it_is_the_hosts():
    host = OrbitLayerNormalization(axis=[1, 2])
    host.build((None, 5, 6))
    assert tuple(host.gamma.shape) == (5, 6)
    x = np.moveaxis(picture(5, 6), 1, -1).astype("float32")
    host, norm = keras.layers.BatchNormalization(), OrbitBatchNormalization()
    for training in (True, False):
        np.testing.assert_array_equal(numbers(norm(x, training=training)), numbers(host(x, training=training)))


@pytest.mark.parametrize(("ours", "host", "arguments"), NORMS)
def test_affine_terms_are_shared_and_all_else_is_the_hosts(ours, host, arguments):
    x = np.moveaxis(picture(5, 6), 1, -1).astype("float32")
    layer, plain = ours(symmetry=MIXED, **AFFINE, **arguments), host(**arguments)
    layer.build(x.shape)
    plain.build(x.shape)
    assert isinstance(layer, host)
    assert tuple(layer.gamma.shape) == tuple(layer.beta.shape) == (6,)
    who = list(layer.plan.representative)
    plain.gamma.assign(numbers(layer.gamma)[who])
    plain.beta.assign(numbers(layer.beta)[who])
    np.testing.assert_allclose(numbers(layer(x)), numbers(plain(x)), atol=1e-5)
    bare = ours(symmetry=MIXED, scale=False, center=False, **arguments)
    np.testing.assert_allclose(numbers(bare(x)), numbers(host(**arguments)(x)), atol=1e-5)
    assert not bare.weights


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize(
    ("ours", "host", "arguments"), [*NORMS, (OrbitBatchNormalization, keras.layers.BatchNormalization, {})]
)
def test_policies_of_the_host_hold(ours, host, arguments, policy):
    x = np.moveaxis(picture(5, 6), 1, -1).astype("float32")
    layer, plain = ours(symmetry=MIXED, dtype=policy, **arguments), host(dtype=policy, **arguments)
    answer, expected = layer(x), plain(x)
    assert keras.backend.standardize_dtype(answer.dtype) == keras.backend.standardize_dtype(expected.dtype)
    assert keras.backend.standardize_dtype(layer.gamma.dtype) == "float32"
    np.testing.assert_allclose(numbers(answer).astype("float32"), numbers(expected).astype("float32"), atol=5e-2)


def test_exchanging_channels_before_or_after_is_the_same(tolerance):
    x = picture(4, 5, 6, channels=16)
    more = {"symmetry": {"hvz": 16}, "dtype": "float64", **AFFINE}
    for norm in (OrbitBatchNormalization(**more), OrbitLayerNormalization(**more), OrbitGroupNormalization(2, **more)):
        straight = np.moveaxis(numbers(norm(np.moveaxis(x, 1, -1), **training(norm))), -1, 1)
        for letter in "hvz":
            seen = np.ascontiguousarray(np.moveaxis(oracle.act(x, letter, {"hvz": 16}), 1, -1))
            mirrored = np.moveaxis(numbers(norm(seen, **training(norm))), -1, 1)
            expected = oracle.act(straight, letter, {"hvz": 16})
            # the host's other norms calculate in float32, whatever comes
            own = tolerance["float64" if training(norm) else "float32"]
            np.testing.assert_allclose(mirrored, expected, rtol=0, atol=10 * own)


def training(norm):
    return {"training": True} if isinstance(norm, OrbitBatchNormalization) else {}


def test_gradients_pass_through_the_shared_statistics():
    x, g = np.moveaxis(picture(5), 1, -1), np.random.RandomState(1).standard_normal((4, 5, 15))
    norm = batch_norm()
    norm.build(x.shape)
    layer = Training(norm)
    layer(x)
    of_x, (of_gamma, of_beta) = gradients(layer, x, g)
    step, direction = 1e-6, np.random.RandomState(2).standard_normal(x.shape)
    ahead, behind = ((numbers(norm(x + sign * step * direction, training=True)) * g).sum() for sign in (1, -1))
    np.testing.assert_allclose((of_x * direction).sum(), (ahead - behind) / (2 * step), rtol=1e-6)
    assert of_gamma.shape == of_beta.shape == (6,)


class Training(keras.layers.Layer):
    """A layer that is always training."""

    def __init__(self, inner):
        super().__init__(dtype="float64")
        self.inner = inner

    def call(self, inputs):
        return self.inner(inputs, training=True)


def test_a_network_with_norms_learns_and_is_saved(tmp_path):
    model = keras.Sequential([
        keras.Input((6, 7, 8)),
        OrbitBatchNormalization(symmetry={"hv": "50%", "h": 2}, momentum=0.5),
        OrbitLayerNormalization(symmetry={"h": 8}),
        OrbitGroupNormalization(2, symmetry={"h": 8}),
        keras.layers.Flatten(),
        keras.layers.Dense(2),
    ])  # fmt: skip
    x, y = np.moveaxis(picture(6, 7, channels=8), 1, -1).astype("float32"), np.zeros((4, 2), "float32")
    model.compile(keras.optimizers.SGD(0.01), "mse", jit_compile=False)
    losses = [model.train_on_batch(x, y) for _ in range(5)]
    assert losses[-1] < losses[0]
    assert np.abs(numbers(model.layers[0].moving_mean)).max() > 0.1
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(numbers(again(x)), numbers(model(x)))
    assert again.layers[0].get_config() == model.layers[0].get_config()
    assert again.layers[0].get_config()["symmetry"] == {"hv": "50%", "h": 2}


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (
            lambda: OrbitBatchNormalization(symmetry={"h": 4}, renorm=True),
            "renorm: True is not shared within orbits. Expected False. Use it with ordinary batch norms only.",
        ),
        (
            lambda: OrbitLayerNormalization(axis=[1, 2, 3], symmetry={"h": 4}),
            "axis: [1, 2, 3] holds positions as well as channels. Expected the axis of the channels. "
            "Use OrbitLayerNormalization(axis=-1), which any size of picture fits.",
        ),
        (
            lambda: OrbitGroupNormalization(4, symmetry={"hv": 12}).build((None, 5, 5, 12)),
            "groups: 4 groups of 3 channels are torn apart by the exchange along 'h'. "
            "Expected one of [1, 3, 6, 12]. Use such a number.",
        ),
        (
            lambda: OrbitBatchNormalization(symmetry={"h": 4.0}).build((None, 8)),
            "symmetry: 'h': 4.0 is neither a whole number of filters nor a percentage. Expected a multiple of 2 from 0 "
            "to 8, or a string like '50%'. Use one of these.",
        ),
        (
            lambda: OrbitBatchNormalization(symmetry={"h": True}).build((None, 8)),
            "symmetry: 'h': True is neither a whole number of filters nor a percentage. Expected a multiple of 2 from "
            "0 to 8, or a string like '50%'. Use one of these.",
        ),
        (
            lambda: OrbitBatchNormalization(symmetry={"h": 2}).build((None, None)),
            "input channels: None is no usable count. Expected a whole number, at least 1. Use such a number.",
        ),
        (
            lambda: OrbitBatchNormalization(symmetry="h"),
            "symmetry: 'h' is no mapping. Expected kinds and numbers, like {'h': 8, 'hv': '50%'}, or None. Use a dict.",
        ),
        (
            lambda: OrbitBatchNormalization(symmetry={"hv": 8}).build((None, 6)),
            "symmetry: 'hv': 8 does not fit 6 filters. Expected a multiple of 4 (the size of one 'hv' orbit), at most "
            "6. Use such a number, or a percentage, which rounds down to whole orbits.",
        ),
    ],
)
def test_what_does_not_fit_is_refused(make, sentence):
    with pytest.raises(SymmetryError) as refusal:
        make()
    assert str(refusal.value) == sentence
