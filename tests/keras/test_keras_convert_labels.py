"""Numbers that stand for something: labels and tokens that layers look up, alone and beside pictures."""

import keras
import numpy as np
import pytest
from converted_keras import wild
from keras import layers, ops

from symmetric_layers import SymmetryError
from symmetric_layers.keras import desymmetrize, equivariant

EXACT = {"dtype": "float64"}
RANDOM = np.random.RandomState(3)
CONV = {"padding": "same", "dtype": "float64"}


def answer(model, x):
    return ops.convert_to_numpy(ops.stop_gradient(model(x)))


def label_map(first, size=(9, 8), dtype="int32"):
    start = x = layers.Input(size, dtype=dtype)
    x = layers.Conv2D(8, 3, strides=2, activation="relu", **CONV)(first(x))
    return keras.Model(start, layers.Conv2D(2, 3, **CONV)(x))


LOOKED_UP = {
    "Embedding": (lambda: layers.Embedding(10, 4, **EXACT), "int32"),
    "Embedding of floats": (lambda: layers.Embedding(10, 4, **EXACT), "float32"),
    "one_hot": (lambda: lambda x: ops.one_hot(x, 10, dtype="float64"), "int32"),
    "inside a model": (
        lambda: keras.Sequential([layers.Input((9, 8), dtype="int32"), layers.Embedding(10, 4, **EXACT)]), "int32"),
    "after an operation": (lambda: lambda x: layers.Embedding(10, 4, **EXACT)(x % 10), "int32"),
}  # fmt: skip


@pytest.mark.parametrize("how", [{}, {"width": 4, "init": "average"}], ids=str)
@pytest.mark.parametrize("name", LOOKED_UP)
def test_maps_of_labels_are_mirrored_along_their_positions(name, how):
    make, dtype = LOOKED_UP[name]
    model = wild(label_map(make(), dtype=dtype))
    new = wild(equivariant(model, "hv", **how))
    x = RANDOM.randint(0, 10, (2, 9, 8))
    for axis in (1, 2):
        seen = answer(new, np.flip(x, axis))
        np.testing.assert_allclose(seen, np.flip(answer(new, x), axis), rtol=0, atol=1e-10)
        assert np.abs(answer(model, np.flip(x, axis)) - np.flip(answer(model, x), axis)).max() > 1e-2
    np.testing.assert_allclose(answer(desymmetrize(new), x), answer(new, x), rtol=0, atol=1e-5)


def test_what_breaks_the_law_on_labels_is_found():
    def breach(x):
        return layers.Embedding(10, 4)(x)[:, :, 1:]

    for example in (None, np.zeros((1, 9, 8), "int32"), RANDOM.randint(0, 10, (1, 9, 8))):
        with pytest.raises(SymmetryError, match="breaks the law"):
            equivariant(label_map(breach), "h", example=example)


def tokens_and_picture(room=50):
    picture, words = layers.Input((9, 8, 3)), layers.Input((6,), dtype="int32")
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(8, 3)(layers.Conv2D(8, 3)(picture)))
    said = layers.Dense(8)(layers.LSTM(4)(layers.Embedding(room, 4)(words)))
    return keras.Model([picture, words], layers.Dense(2)(layers.Concatenate()([x, said])))


@pytest.mark.parametrize("example", [None, [np.zeros((1, 9, 8, 3)), np.zeros((1, 6), "int32")]], ids=["none", "zeros"])
def test_tokens_beside_pictures_are_numbers_that_the_layer_knows(example):
    new = wild(equivariant(tokens_and_picture(), "h", example=example))
    x, words = RANDOM.standard_normal((2, 9, 8, 3)), RANDOM.randint(0, 50, (2, 6))
    one, other = answer(new, [x, words]), answer(new, [np.flip(x, 2), words])
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-5 * np.abs(one).max())


def counted(rooms=(3, 5)):
    """Two columns of numbers, of which each has a room of its own that nothing but the layer's call tells."""
    picture, numbers = layers.Input((9, 8, 3)), layers.Input((2,), dtype="int32")
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(8, 3)(layers.Conv2D(8, 3)(picture)))
    found = [Looked(room)(numbers[:, place]) for place, room in enumerate(rooms)]
    said = [layers.Dense(8)(layers.Reshape((1,))(one)) for one in found]
    return keras.Model([picture, numbers], layers.Dense(2)(layers.Concatenate()([x, *said])))


class Looked(layers.Layer):
    """Knows no numbers from its room on, and says so."""

    def __init__(self, room, **more):
        super().__init__(**more)
        self.room = room

    def call(self, x):
        if not keras.backend.is_keras_tensor(x) and int(ops.convert_to_numpy(ops.max(x))) >= self.room:
            raise ValueError("no such number")
        return ops.cast(x, self.compute_dtype)

    def compute_output_spec(self, x):
        return keras.KerasTensor(x.shape, self.compute_dtype)

    def get_config(self):
        return {**super().get_config(), "room": self.room}


def test_the_numbers_of_an_example_are_kept_where_they_stand():
    equivariant(counted(), "h", example=[np.zeros((1, 9, 8, 3)), np.array([[2, 4]])])
    with pytest.raises(SymmetryError) as refusal:
        equivariant(counted(), "h")
    assert str(refusal.value) == (
        "example: the model does not take the whole numbers that were drawn (no such number). Expected numbers that it "
        "takes. Pass an example with such, or measure=False."
    )


def test_whole_numbers_of_a_blank_example_are_drawn():
    def breach(x):
        return layers.Conv2D(2, 1)(layers.Conv2D(4, 3)(layers.Rescaling(1 / 255)(x)[:, :, 1:]))

    start = layers.Input((8, 8, 3), dtype="uint8")
    model = keras.Model(start, breach(start))
    for example in (np.zeros((1, 8, 8, 3), "uint8"), np.full((1, 8, 8, 3), 7, "uint8"), np.eye(8, dtype="uint8")):
        example = np.resize(example, (1, 8, 8, 3)) if example.ndim == 2 else example
        with pytest.raises(SymmetryError, match="breaks the law"):
            equivariant(model, "h", example=example)
