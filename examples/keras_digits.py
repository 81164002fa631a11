"""Digits with Keras 3: the first network of every course, made to mirror in one line, trained, saved and read again.

    python examples/keras_digits.py

Digits have no mirror symmetry, so this costs accuracy: the table says how much, and what a mirror changes.
"""

import sys

import keras
import numpy as np
from keras import layers
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from symmetric_layers.keras import equivariance_error, equivariant


def network() -> keras.Model:
    """A small one, written without a thought of mirrors."""
    inputs = keras.Input((8, 8, 1))
    x = layers.Conv2D(16, 3, padding="same", activation="relu")(inputs)
    x = layers.MaxPooling2D(2)(x)
    x = layers.Conv2D(32, 3, padding="same")(x)
    x = layers.Activation("relu")(layers.BatchNormalization()(x))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(10)(x))


def main(epochs: int = 30, out: str = "keras_digits.keras") -> None:
    """Trains the network and its twin, and reads the twin again."""
    keras.utils.set_random_seed(0)
    digits = load_digits()
    pictures = (digits.images[..., None] / 16).astype("float32")
    x, x_test, y, y_test = train_test_split(pictures, digits.target, test_size=0.3, random_state=0)
    plain = network()
    models = {"plain": plain, "twin": equivariant(plain, "h")}
    print("network   weights   accuracy   what a mirror changes")
    for name, model in models.items():
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile("adam", loss, metrics=["accuracy"])
        model.fit(x, y, epochs=epochs, batch_size=64, verbose=0)
        _, accuracy = model.evaluate(x_test, y_test, verbose=0)
        (row,) = equivariance_error(model, x_test[:64], "h")
        print(f"{name:8s} {model.count_params():8d} {accuracy:10.3f}   {row.relative:.0e} of the largest value")
    models["twin"].save(out)
    again = keras.models.load_model(out)
    same = np.array_equal(again.predict(x_test, verbose=0), models["twin"].predict(x_test, verbose=0))
    print(f"Saved and read again: {out}, {'the same answers' if same else 'OTHER ANSWERS'}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
