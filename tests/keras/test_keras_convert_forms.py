"""What whole models may look like, what of them is kept or refused, and the ordinary forms of all layers."""

import keras
import networks_keras
import numpy as np
import pytest
from converted_keras import SMALL, alike, errors, pictures, wild
from keras import layers, ops

import symmetric_layers.keras as ours
from symmetric_layers import SymmetryError
from symmetric_layers.keras import desymmetrize, equivariance_error, equivariant, symmetrize

BACKEND = keras.backend.backend()
EXACT = {"dtype": "float64"}


def test_sizes_may_be_open():
    model = networks_keras.unet((None, None))
    with pytest.raises(SymmetryError) as refusal:
        equivariant(model, "h")
    assert str(refusal.value) == (
        "example: None does not say at which size the model is to be measured, whose input is (None, None, None, 1). "
        "Expected pictures. Pass some of a usual size, or measure=False."
    )
    new = wild(equivariant(model, "h", example=np.zeros((1, 8, 12, 1))))
    for size in ((8, 12), (12, 20)):
        found = equivariance_error(new, np.random.RandomState(0).standard_normal((1, *size, 1)), "h")
        assert max(row.relative for row in found) < SMALL


def test_channels_may_come_first():
    if BACKEND == "tensorflow":
        pytest.skip("TensorFlow has no other than channels-last on the CPU")
    more = {"data_format": "channels_first", "dtype": "float64"}
    model = keras.Sequential(
        [
            layers.Input((1, 9, 8), dtype="float64"),
            layers.Conv2D(8, 3, strides=2, **more),
            layers.BatchNormalization(axis=1, **EXACT),
            layers.PReLU(shared_axes=[2, 3], **EXACT),
            layers.MaxPooling2D(2, **more),
            layers.Conv2D(2, 1, **more),
        ]
    )
    new = wild(equivariant(model, "hv"))
    assert max(errors(new, "hv", data_format="channels_first")) < SMALL
    alike(desymmetrize(keras.Sequential([new.inputs[0], *new.layers[:3]])), keras.Sequential(
        [new.inputs[0], *new.layers[:3]]), pictures(new))  # fmt: skip


def built(shape, answer, dtype=None):
    x = layers.Input(shape, dtype=dtype)
    return keras.Model(x, answer(x))


def pad():
    return layers.ZeroPadding2D(((0, 1), (0, 1)))


def twice_behind_a_pad(x):
    conv = layers.Conv2D(4, 3)
    return layers.Conv2D(2, 1)(conv(conv(pad()(layers.Conv2D(4, 1)(x)))))


def inner_pad_that_is_shown(x):
    start = layers.Input((9, 8, 4))
    padded = pad()(start)
    shown, seen = keras.Model(start, [padded, layers.Conv2D(4, 3)(padded)])(layers.Conv2D(4, 1)(x))
    return [layers.Conv2D(2, 1)(shown), layers.Conv2D(2, 1)(seen)]


def tokens(x):
    x = layers.Reshape((-1, 4))(layers.Conv2D(4, 3, padding="same")(x))
    return layers.Dense(2)(layers.GlobalAveragePooling1D()(x))


def turned_and_turned_back(x):
    x = layers.Permute((2, 3, 1))(layers.Permute((3, 1, 2))(layers.Conv2D(4, 3)(x)))
    return layers.Conv2D(2, 1)(x)


def attention_over_space(x):
    x = layers.Conv2D(4, 3)(x)
    both = [keras.ops.mean(x, -1, keepdims=True), keras.ops.max(x, -1, keepdims=True)]
    gate = layers.Conv2D(4, 7, padding="same", activation="relu")(keras.ops.concatenate(both, -1))
    gate = layers.Conv2D(1, 1, activation="sigmoid")(gate)
    return layers.Conv2D(2, 1)(x * gate)


def shared_slopes_of_pixels(x):
    x = layers.GlobalAveragePooling2D(keepdims=True)(layers.Conv2D(4, 3)(x))
    return layers.Conv2D(2, 1)(layers.PReLU()(x))


def groups(x):
    x = layers.Conv2D(16, 3, groups=2)(layers.Conv2D(8, 3)(x))
    return layers.Conv2D(2, 3, groups=2)(x)


def grown(x):
    x = layers.Conv2D(4, 3)(x)
    return layers.Conv2D(2, 1)(keras.ops.stack([x, x], 1)[:, 0])


def across(x):
    """Columns in the place of rows, and back."""
    x = layers.Permute((2, 1, 3))(layers.Conv2D(4, 3)(x))
    return layers.Conv2D(2, 1)(layers.Permute((2, 1, 3))(layers.Dense(4)(x)))


def windows(x):
    """Attention in windows cuts pictures so, and lays them together again."""
    x = keras.ops.reshape(layers.Conv2D(4, 3, padding="same")(x), (-1, 3, 3, 2, 4, 4))
    x = keras.ops.reshape(keras.ops.transpose(x, (0, 1, 3, 2, 4, 5)), (-1, 3, 4, 4))
    x = keras.ops.reshape(layers.Dense(4)(x), (-1, 3, 2, 3, 4, 4))
    return layers.Conv2D(2, 1)(keras.ops.reshape(keras.ops.transpose(x, (0, 1, 3, 2, 4, 5)), (-1, 9, 8, 4)))


def tokens_of(x, channels):
    return layers.Reshape((72, channels), dtype="float64")(layers.Conv2D(channels, 1, dtype="float64")(x))


def attended(attend):
    """Positions attend to positions, by products that are written out."""

    def build(x):
        x = layers.Conv2D(8, 3, padding="same", dtype="float64")(x)
        seen = layers.Reshape((9, 8, 8), dtype="float64")(attend(*(tokens_of(x, channels) for channels in (4, 4, 8))))
        return layers.Conv2D(2, 1, dtype="float64")(x + seen)

    return build


def keys_first(q, k, v):
    weights = ops.softmax(ops.matmul(k, ops.transpose(q, (0, 2, 1))), axis=1)
    return ops.transpose(ops.matmul(ops.transpose(v, (0, 2, 1)), weights), (0, 2, 1))


def linear(q, k, v):
    return ops.softmax(q) @ (ops.swapaxes(ops.softmax(k, axis=1), 1, 2) @ v)


def dotted(q, k, v):
    weights = layers.Softmax(dtype="float64")(layers.Dot(2, dtype="float64")([q, k]))
    return layers.Dot((2, 1), dtype="float64")([weights, v])


ATTENTION = {
    "matmul": lambda q, k, v: ops.matmul(ops.softmax(ops.matmul(q, ops.transpose(k, (0, 2, 1)))), v),
    "@": lambda q, k, v: ops.softmax(q @ ops.swapaxes(k, 1, 2) / 2.0) @ v,
    "keys first": keys_first,
    "linear": linear,
    "dot": dotted,
    "einsum": lambda q, k, v: ops.einsum("bqk,bkc->bqc", ops.softmax(ops.einsum("bqc,bkc->bqk", q, k)), v),
}


LAWFUL = {
    **{f"attention, {name}": (attended(attend), "hv") for name, attend in ATTENTION.items()},
    "windows": (windows, "h"),
    "across": (across, "h"),
    "twice behind a pad": (twice_behind_a_pad, "h"),
    "an inner pad that is shown": (inner_pad_that_is_shown, "h"),
    "tokens": (tokens, "hv"),
    "turned": (turned_and_turned_back, "hv"),
    "attention": (attention_over_space, "h"),
    "slopes": (shared_slopes_of_pixels, "h"),
    "groups": (groups, "hv"),
    "one slope": (lambda x: layers.Conv2D(2, 1)(layers.PReLU(shared_axes=[1, 2, 3])(layers.Conv2D(4, 3)(x))), "h"),
    "stacked": (grown, "h"),
    "mask": (lambda x: keras.ops.squeeze(layers.Conv2D(1, 1)(layers.Conv2D(4, 3)(x)), -1), "hv"),
    "a function": (lambda x: layers.Conv2D(2, 1)(layers.Lambda(lambda t: 2 * t)(layers.Conv2D(4, 3)(x))), "h"),
    "one number for all": (lambda x: layers.Conv2D(2, 1)(layers.Conv2D(4, 3)(x) * layers.Conv2D(1, 1)(
        layers.Conv2D(4, 3)(x))), "h"),
}  # fmt: skip


@pytest.mark.parametrize("name", LAWFUL)
def test_ordinary_networks_of_many_forms_obey(name):
    build, axes = LAWFUL[name]
    model = built((9, 8, 3), build)
    new = wild(equivariant(model, axes))
    assert [answer.shape for answer in new.outputs] == [answer.shape for answer in model.outputs]
    found = errors(new, axes)
    assert max(found) < 1e-3, found  # float32


def test_whole_numbers_are_pictures_too():
    def breach(x):
        return layers.Conv2D(2, 1)(layers.Conv2D(4, 3)(layers.Rescaling(1 / 255)(x)[:, :, 1:]))

    with pytest.raises(SymmetryError, match="breaks the law"):
        equivariant(built((8, 8, 3), breach, "uint8"), "h")


def test_what_is_random_is_measured_in_evaluation_alone():
    told = []
    flips = keras.Sequential([layers.Input((9, 8, 3)), layers.RandomFlip(), layers.Conv2D(4, 3), layers.Conv2D(2, 1)])
    equivariant(flips, "hv", report=told.append)
    assert told == ["In training mode something is random in this network: the law is not measured there."]


class Lopsided(layers.Layer):
    """Tells left from right when it is trained."""

    def call(self, x, training=None):
        return (
            keras.ops.flip(x, 2) * keras.ops.reshape(keras.ops.arange(7, dtype=x.dtype), (1, 1, 7, 1))
            if training
            else x
        )


def test_the_law_is_measured_in_training_too():
    with pytest.raises(SymmetryError, match="in training mode, first at 'lopsided"):
        equivariant(built((9, 9, 3), lambda x: layers.Conv2D(2, 1)(Lopsided()(layers.Conv2D(4, 3)(x)))), "h")


def test_what_a_model_was_stays():
    inner = keras.Sequential([layers.Input((7, 6, 4)), layers.Conv2D(4, 1, kernel_regularizer="l2")], name="inner")
    x = start = layers.Input((9, 8, 3), name="scan")
    x = inner(layers.Conv2D(4, 3)(x))
    x = layers.SeparableConv2D(4, 3, depthwise_regularizer="l1", pointwise_constraint="non_neg")(x)
    model = keras.Model(start, layers.Conv2D(2, 1)(x))
    model.layers[-2].trainable, inner.trainable = False, False
    new = equivariant(model, "h", measure=False)
    assert new.inputs[0].name == "scan"
    assert [layer.name for layer in new.layers] == [layer.name for layer in model.layers]
    assert [layer.trainable for layer in new.layers] == [layer.trainable for layer in model.layers]
    assert new.trainable
    model.trainable = False
    assert not equivariant(model, "h", measure=False).trainable
    assert type(new.get_layer("inner").layers[0].kernel_regularizer) is keras.regularizers.L2
    deep, point = new.layers[-2].layers
    assert type(deep.kernel_regularizer) is keras.regularizers.L1
    assert type(point.kernel_constraint) is keras.constraints.NonNeg


def test_what_a_model_is_compiled_with_need_not_have_a_name():
    def loss(y, p):
        return keras.ops.mean(y - p)

    model = networks_keras.classifier()
    model.compile("adam", loss)
    with pytest.warns(UserWarning, match="model: the new one is not compiled like the old one"):
        new = equivariant(model, "hv", measure=False)
    assert model.compiled
    assert not new.compiled


def test_a_class_of_ones_own_becomes_a_plain_one_with_a_warning():
    class Net(keras.Model):
        def __init__(self, filters):
            x = layers.Input((9, 8, 3))
            super().__init__(x, layers.Conv2D(2, 1)(layers.Conv2D(filters, 3)(x)))

    with pytest.warns(UserWarning, match="model: the new one is a Functional, no Net."):
        equivariant(Net(4), "h", measure=False)


def test_adapted_kernels_are_refused():
    model = keras.Sequential([layers.Input((9, 8, 3)), layers.Conv2D(4, 3, name="first"), layers.Conv2D(2, 1)])
    model.layers[0].enable_lora(2)
    for convert in (lambda: equivariant(model, "h"), lambda: ours.symmetrize(model, {"h": 2})):
        with pytest.raises(SymmetryError) as refusal:
            convert()
        assert str(refusal.value) == (
            "model: 'first' is adapted or quantized. Expected a kernel of its own in floating point. Merge what was "
            "adapted, or convert before."
        )


def test_wrapped_layers_are_no_ordinary_ones():
    wrapped = layers.SpectralNormalization(ours.SymmetricConv2D(4, 3, symmetry={"h": 4}), name="each")
    with pytest.raises(SymmetryError) as refusal:
        desymmetrize(keras.Sequential([layers.Input((8, 8, 3)), wrapped]))
    assert str(refusal.value) == (
        "model: 'each' wraps a layer of this package. Expected symmetric layers that stand by themselves. Take it out "
        "of the part that is converted."
    )


@pytest.mark.parametrize("example", ["a", np.zeros((1, 8, 8)), np.zeros((1, 8, 8, 5)), [np.zeros((1, 8, 8, 1))] * 2])
def test_examples_that_do_not_fit_are_refused(example):
    with pytest.raises(SymmetryError, match=r"example: .* does not fit the inputs"):
        equivariant(networks_keras.unet((None, None)), "h", example=example)


class Unsaid(layers.Layer):
    """A layer that cannot be made again."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def call(self, x):
        return x * self.factor

    def get_config(self):
        return {"factor": self.factor, "more": 1}


def test_layers_that_cannot_be_made_again_are_named():
    with pytest.raises(SymmetryError) as refusal:
        equivariant(built((9, 8, 3), lambda x: layers.Conv2D(2, 1)(Unsaid(2)(layers.Conv2D(4, 3)(x)))), "h")
    assert str(refusal.value).startswith("model: 'unsaid")
    assert "an Unsaid, cannot be made again from its config" in str(refusal.value)


REFUSED = [
    ("Flatten", lambda x: layers.Dense(8)(layers.LayerNormalization()(layers.Flatten()(layers.Conv2D(4, 3)(x)))),
     "has mixed with positions"),
    ("orbits", lambda x: layers.Conv2D(2, 1)(layers.Conv2D(5, 3)(x)), "has 5 output channels, which are no whole"),
    ("alone", lambda x: layers.Conv2D(4, 3)(x), "reads a picture and gives an answer, with no orbits between"),
    ("weights", lambda x: layers.Conv2D(2, 1)(layers.UnitNormalization()(layers.SpectralNormalization(
        layers.Conv2D(4, 3))(layers.Conv2D(4, 3)(x)))), "has weights for orbits of channels, and no form"),
    ("concatenated", lambda x: layers.Conv2D(2, 1)(layers.Concatenate()([x, layers.Conv2D(
        4, 3, padding="same")(x)])), "concatenates an input of the model with channels of layers"),
    ("multiplier", lambda x: layers.DepthwiseConv2D(3, depth_multiplier=2)(layers.Conv2D(4, 3)(x)),
     "reads orbits channel by channel, and makes ordinary channels"),
    ("depthwise", lambda x: layers.Conv2D(2, 1)(layers.DepthwiseConv2D(3, depth_multiplier=3)(x)),
     "has 9 output channels in 3 groups"),
    ("torn groups", lambda x: layers.Conv2D(2, 1)(layers.GroupNormalization(2)(layers.Conv2D(6, 3)(x))),
     "are torn apart by the exchange"),
    ("norms of positions", lambda x: layers.Conv2D(2, 1)(layers.LayerNormalization(axis=[1, 2, 3])(
        layers.Conv2D(4, 3)(x))), "holds positions as well as channels"),
    ("both", lambda x: (lambda y, conv: layers.Conv2D(2, 1)(conv(conv(y))))(layers.Concatenate()([x, x])[
        ..., :4], layers.Conv2D(4, 3)), "is used both on pictures and on orbits"),
    ("orbits of groups", lambda x: layers.Conv2D(2, 1)(layers.Conv2D(6, 3, groups=2)(layers.Conv2D(4, 3)(x))),
     "Expected a multiple of 4"),
    ("blind", lambda x: layers.Conv2D(2, 1)(layers.Rescaling(0.0)(layers.ReLU()(layers.Conv2D(4, 3)(x)[:, :, 1:]))),
     "in evaluation mode, first at 're_lu"),
    ("slopes", lambda x: layers.Conv2D(2, 1)(layers.PReLU()(layers.Conv2D(4, 3)(x))), "has slopes for each position"),
    ("breach", lambda x: layers.Conv2D(2, 1)(layers.Conv2D(4, 3)(x)[:, :, 1:]), "the converted network breaks the law"),
    ("no convolution", lambda x: layers.Dense(3)(layers.GlobalMaxPooling2D()(x)), "no convolution is in it"),
    ("ours", lambda x: layers.Conv2D(2, 1)(ours.SymmetricConv2D(4, 3, symmetry={"h": 4})(x)),
     "is a layer of this package already"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "build", "reason"), REFUSED, ids=[row[0] for row in REFUSED])
def test_what_cannot_obey_is_refused_with_a_name_and_a_way_out(name, build, reason):
    x = layers.Input((8, 9, 3))
    with pytest.raises(SymmetryError) as refusal:
        equivariant(keras.Model(x, build(x)), "h")
    assert reason in str(refusal.value)
    assert str(refusal.value).count("Expected") == 1


def test_mirrored_banks_take_the_place_of_convolutions():
    model = wild(networks_keras.unet())
    new = symmetrize(model, {"hv": "50%"}, where=lambda name, conv: conv.kernel_size != (1, 1))
    convs = [layer for layer in new.layers if isinstance(layer, layers.Conv2D)]
    assert [layer.plan.stored for layer in convs if hasattr(layer, "plan")] == [5, 10, 10, 10, 5, 2]
    assert sum(type(layer) is layers.Conv2D for layer in new.layers) == 1
    assert max(errors(new, "h")) > 1e-2  # layers obey, the network does not
    (old, made) = next(pair for pair in zip(model.layers, new.layers, strict=True) if hasattr(pair[1], "plan"))
    first = list(made.plan.firsts)
    np.testing.assert_array_equal(ops.convert_to_numpy(old.kernel)[..., first], ops.convert_to_numpy(made.kernel))
    np.testing.assert_array_equal(ops.convert_to_numpy(old.bias)[first], ops.convert_to_numpy(made.bias))
    alike(desymmetrize(new), new, pictures(new))
