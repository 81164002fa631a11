"""Every example of the Keras face gives what it says."""

import keras
import pytest
from docstrings import modules, run

import symmetric_layers.keras as face


@pytest.mark.parametrize("name", modules(face))
def test_every_example_gives_what_it_says(name):
    assert run(name, face, keras=keras)[1] == 0


def test_there_are_examples():
    assert run("symmetric_layers.keras.conv", face, keras=keras)[0] > 5
