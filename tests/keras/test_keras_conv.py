"""What the convolutions promise beyond the contract: they stay layers of Keras in everything that Keras does."""

import inspect
import warnings
from functools import partial

import keras
import numpy as np
import pytest
from keras import ops
from keras_face import BACKEND

import symmetric_layers.keras as layers
from symmetric_layers import SymmetryError
from symmetric_layers.keras.convert.parts import SymmetricDense

CLASSES = [f"Conv{rank}D{transposed}" for rank in (1, 2, 3) for transposed in ("", "Transpose")]
BANK = {"h": 2, "hv": 4}


def numbers(x):
    return ops.convert_to_numpy(x.value if isinstance(x, keras.Variable) else x)


def random(*shape, dtype="float32"):
    return np.random.RandomState(0).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("name", CLASSES)
def test_the_arguments_are_the_hosts_in_the_hosts_order(name):
    host = list(inspect.signature(getattr(keras.layers, name).__init__).parameters)
    ours = inspect.signature(getattr(layers, "Symmetric" + name).__init__).parameters
    positional = [n for n, p in ours.items() if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert positional == host[: len(positional)]


def test_in_3d_the_host_takes_the_data_format_before_the_output_padding():
    layer = layers.SymmetricConv3DTranspose(4, 3, 2, "same", "channels_first", 1)
    assert layer.data_format == "channels_first"
    assert layer.output_padding == (1, 1, 1)


@pytest.mark.parametrize("name", CLASSES)
def test_without_symmetry_the_layer_is_the_hosts(name):
    rank = int(name[4])
    x = random(2, *(6, 7, 8)[-rank:], 3)
    answers, kernels = [], []
    for cls in (getattr(keras.layers, name), getattr(layers, "Symmetric" + name)):
        keras.utils.set_random_seed(1)
        layer = cls(4, 3, padding="same", activation="relu", bias_initializer="normal")
        answers.append(numbers(layer(x)))
        kernels.append(numbers(layer.kernel))
        assert type(layer).__name__.endswith(name)
    np.testing.assert_array_equal(*kernels)
    np.testing.assert_array_equal(*answers)


@pytest.mark.parametrize("name", ["Conv2D", "Conv2DTranspose"])
def test_the_initial_filters_are_the_hosts_representatives(name):
    """So their variance is the one that the host gives the full bank, whatever the initializer is."""
    drawn = []
    for cls, more in ((getattr(keras.layers, name), {}), (getattr(layers, "Symmetric" + name), {"symmetry": BANK})):
        keras.utils.set_random_seed(1)
        layer = cls(8, 3, bias_initializer="normal", **more)
        layer.build((None, 6, 6, 3))
        drawn.append((numbers(layer.kernel), numbers(layer.bias)))
    (full, biases), (stored, shared) = drawn
    first = [0, 2, 6, 7]
    np.testing.assert_array_equal(stored, full[:, :, first] if "Transpose" in name else full[..., first])
    np.testing.assert_array_equal(shared, biases[first])


def test_regularizers_and_constraints_see_what_is_stored():
    layer = layers.SymmetricConv2D(
        8,
        3,
        symmetry=BANK,
        kernel_regularizer=keras.regularizers.L2(1.0),
        bias_regularizer=keras.regularizers.L1(1.0),
        bias_initializer="ones",
        kernel_constraint=keras.constraints.UnitNorm(axis=(0, 1, 2)),
    )
    layer.build((None, 6, 6, 3))
    kernel = numbers(layer.kernel)
    assert kernel.shape == (3, 3, 3, 4)
    np.testing.assert_allclose(
        sum(numbers(ops.stop_gradient(loss)) for loss in layer.losses), (kernel**2).sum() + 4, rtol=1e-5
    )
    projected = numbers(layer.kernel.constraint(ops.convert_to_tensor(kernel)))
    np.testing.assert_allclose(np.sqrt((projected**2).sum((0, 1, 2))), np.ones(4), rtol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "bfloat16", "float64"])
def test_policies_of_the_host_hold(policy, tolerance):
    keras.utils.set_random_seed(1)
    exact = layers.SymmetricConv2D(8, 3, symmetry=BANK, dtype="float64")
    x = random(2, 6, 7, 3, dtype="float64")
    expected = numbers(exact(x))
    layer = layers.SymmetricConv2D(8, 3, symmetry=BANK, dtype=policy)
    layer.build((None, 6, 7, 3))
    layer.kernel.assign(numbers(exact.kernel))
    y = layer(x.astype("float32") if policy != "float64" else x)
    assert keras.backend.standardize_dtype(y.dtype) == layer.compute_dtype
    assert keras.backend.standardize_dtype(layer.kernel.dtype) == layer.variable_dtype
    atol = tolerance["float64" if policy == "float64" else "bfloat16"]
    np.testing.assert_allclose(numbers(y).astype("float64"), expected, atol=atol, rtol=0)


@pytest.mark.parametrize("name", ["Conv2D", "Conv2DTranspose"])
def test_symbolic_and_eager_calls_agree(name):
    layer = getattr(layers, "Symmetric" + name)(8, 3, strides=2, padding="same", symmetry=BANK)
    symbolic = layer(keras.KerasTensor((None, None, 9, 3)))
    assert symbolic.shape == tuple(layer.compute_output_shape((None, None, 9, 3)))
    assert tuple(layer(random(2, 5, 9, 3)).shape)[2:] == symbolic.shape[2:]


def small_network():
    """A network with every kind of layer."""
    keras.utils.set_random_seed(1)
    return keras.Sequential([
        keras.Input((6, 7, 4)),
        layers.SymmetricConv2D(8, 3, symmetry={"h": 4, "hv": 4}, activation="relu"),
        layers.SymmetricConv2D(8, 3, symmetry={"h": 4}, in_symmetry={"h": 4, "hv": 4}),
        layers.SymmetricConv2DTranspose(8, 2, 2, symmetry={"h": 4}),
        layers.OrbitPool({"h": 4}),
        keras.layers.Reshape((-1, 6)),
        layers.GlobalConv1D(4),
        layers.TopKPool(2),
    ])  # fmt: skip


def network_of_orbits():
    """A network whose channels are orbits from the first layer to the last."""
    keras.utils.set_random_seed(1)
    h = {"h": "100%"}
    return keras.Sequential([
        keras.Input((6, 7, 4)),
        layers.SymmetricConv2D(8, 3, 2, padding="same", symmetry=h, grid="mirrored", use_bias=False),
        layers.OrbitBatchNormalization(symmetry=h),
        layers.OrbitGroupNormalization(2, symmetry=h),
        layers.Mirrored(keras.layers.MaxPooling2D(2), h),
        layers.InvariantConv2D(3, 1, in_symmetry=h),
    ])  # fmt: skip


@pytest.mark.skipif(BACKEND == "torch", reason="inductor takes minutes; see the next test")
def test_jit_compiled_training_has_the_loss_that_the_eager_call_has():
    x, y = random(8, 6, 7, 4), random(8, 2, 4)
    model = small_network()
    expected = ((numbers(model(x)) - y) ** 2).mean()
    model.compile(keras.optimizers.Adam(0.001), "mse", jit_compile=True)
    first, *_, last = (model.train_on_batch(x, y) for _ in range(5))
    np.testing.assert_allclose(first, expected, rtol=1e-4)
    assert last < first


@pytest.mark.filterwarnings("ignore")  # what dynamo says about itself
@pytest.mark.skipif(BACKEND != "torch", reason="the others compile with XLA")
@pytest.mark.parametrize("build", [small_network, network_of_orbits])
def test_torch_compiles_the_whole_network(build):
    import torch

    x = random(8, 6, 7, 4)
    model = build()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        answer = torch.compile(model, backend="aot_eager", fullgraph=True)(torch.from_numpy(x))
    np.testing.assert_allclose(numbers(ops.stop_gradient(answer)), numbers(ops.stop_gradient(model(x))), atol=1e-5)
    assert not [str(warning.message) for warning in said if "symmetric_layers" in str(warning.message)]


def test_lora_adapts_the_stored_filters_and_the_mirrors_follow(tmp_path):
    x = random(2, 6, 7, 3)
    model = keras.Sequential([keras.Input((6, 7, 3)), layers.SymmetricConv2D(8, 3, symmetry=BANK)])
    layer = model.layers[0]
    before = numbers(layer(x))
    layer.enable_lora(2)
    np.testing.assert_allclose(numbers(layer(x)), before, atol=1e-5)
    assert [tuple(v.shape) for v in layer.trainable_variables] == [(4,), (3, 3, 3, 2), (2, 4)]
    layer.lora_kernel_b.assign(random(2, 4))
    after = numbers(layer(x))
    assert np.abs(after - before).max() > 0.1
    mirrored = numbers(layer(np.ascontiguousarray(x[:, :, ::-1])))
    np.testing.assert_allclose(mirrored[..., 1], after[:, :, ::-1, 0], atol=1e-4)
    model.save(tmp_path / "lora.keras")
    np.testing.assert_allclose(numbers(keras.models.load_model(tmp_path / "lora.keras")(x)), after, atol=1e-4)


def test_policies_of_whole_numbers_are_refused():
    sentence = (
        "dtype: 'int8_from_float32' quantizes a kernel of which one entry per orbit is stored. Expected a policy of "
        "floating numbers. Use such a one, and quantize what desymmetrize makes of the model."
    )
    for build in (layers.OrbitDense, partial(SymmetricDense, symmetry={"h": 6})):
        with pytest.raises(SymmetryError) as refusal:
            build(6, in_symmetry={"h": 8}, dtype="int8_from_float32")
        assert str(refusal.value) == sentence
    assert layers.OrbitDense(6, in_symmetry=None, dtype="int8_from_float32")(random(2, 8)).shape == (2, 6)


def test_quantization_is_refused_with_the_hosts_sentence():
    layer = layers.SymmetricConv2D(8, 3, symmetry=BANK)
    layer.build((None, 6, 7, 3))
    with pytest.raises(NotImplementedError) as refusal:
        layer.quantize("int8")
    assert str(refusal.value) == "Layer SymmetricConv2D does not have a `quantize` method implemented."
    with pytest.raises(NotImplementedError, match="Layer SymmetricConv2D does not have a `_int8_call` method"):
        layers.SymmetricConv2D(8, 3, symmetry=BANK, dtype="int8_from_float32")(random(2, 6, 7, 3))


@pytest.mark.parametrize("trainable", [True, False])
def test_nothing_of_the_host_is_lost_on_reload(tmp_path, trainable):
    x = random(2, 8, 9, 4)
    layer = layers.SymmetricConv2D(
        8, (2, 3), strides=(2, 1), padding="same", groups=2, activation="elu", bias_initializer="normal",
        kernel_regularizer="l2", kernel_constraint="max_norm", name="mine", trainable=trainable,
        symmetry={"h": "50%"}, share_bias=False, in_symmetry={"h": 4},
    )  # fmt: skip
    inputs = keras.Input((8, 9, 4))
    model = keras.Model(inputs, layer(inputs))
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(numbers(again(x)), numbers(model(x)))
    loaded = again.get_layer("mine")
    assert loaded.trainable is trainable
    assert loaded.plan == layer.plan
    assert loaded.get_config()["symmetry"] == {"h": "50%"}
    assert loaded.kernel_regularizer is not None
    assert loaded.kernel_constraint is not None


def test_counts_of_any_integer_type_are_saved(tmp_path):
    layer = layers.SymmetricConv1D(np.int64(4), 3, symmetry={"h": np.int64(2)})
    model = keras.Sequential([keras.Input((5, 2)), layer])
    model.save(tmp_path / "m.keras")
    assert keras.models.load_model(tmp_path / "m.keras").layers[0].plan == layer.plan


def test_full_kernel_and_full_bias_are_what_the_host_would_hold():
    ours = layers.SymmetricConv2D(8, 3, symmetry={"hv": 8}, bias_initializer="normal")
    x = random(2, 6, 7, 3)
    answer = numbers(ours(x))
    host = keras.layers.Conv2D(8, 3)
    host.build(x.shape)
    host.kernel.assign(ours.full_kernel())
    host.bias.assign(ours.full_bias())
    np.testing.assert_allclose(numbers(host(x)), answer, atol=1e-5)
    bare = layers.SymmetricConv2D(8, 3, use_bias=False, symmetry={"hv": 8})
    bare.build(x.shape)
    assert bare.full_bias() is None


def test_an_unreadable_in_symmetry_is_refused_by_the_constructor():
    with pytest.raises(ValueError) as refusal:
        layers.SymmetricConv2D(8, 3, in_symmetry="h")
    assert str(refusal.value) == (
        "in_symmetry: 'h' is no mapping. Expected kinds and numbers, like {'h': 8, 'hv': '50%'}, or None. Use a dict."
    )


def test_a_small_model_learns_digits_and_the_mirrors_stay_mirrors():
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    images = (images / 16).reshape(-1, 8, 8, 1).astype("float32")[:256]
    model = keras.Sequential([
        keras.Input((8, 8, 1)),
        layers.SymmetricConv2D(12, 3, activation="relu", symmetry={"h": 4, "hv": 4}),
        layers.OrbitPool({"h": 4, "hv": 4}),
        keras.layers.Reshape((36, 7)),
        layers.GlobalConv1D(16, activation="relu"),
        layers.TopKPool(4),
        keras.layers.Flatten(),
        keras.layers.Dense(10),
    ])  # fmt: skip
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    before = numbers(model.layers[0].kernel)
    losses = model.fit(images, labels[:256], batch_size=32, epochs=3, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    full = numbers(model.layers[0].full_kernel())
    assert np.abs(numbers(model.layers[0].kernel) - before).max() > 1e-3
    np.testing.assert_array_equal(full[..., 1], full[:, ::-1, :, 0])
    np.testing.assert_array_equal(full[..., 6], full[::-1, :, :, 4])
    np.testing.assert_array_equal(full[..., 7], full[::-1, ::-1, :, 4])
