"""Every example of the PyTorch face gives what it says."""

import pytest
import torch
from docstrings import modules, run
from torch import nn

import symmetric_layers.torch as face


@pytest.mark.parametrize("name", [name for name in modules(face) if ".triton" not in name])
def test_every_example_gives_what_it_says(name):
    assert run(name, face, torch=torch, nn=nn)[1] == 0


def test_there_are_examples():
    numbers = [run(f"symmetric_layers.torch.{name}", face, torch=torch, nn=nn)[0] for name in ("conv", "norm", "law")]
    assert min(numbers) > 5
