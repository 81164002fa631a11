"""Networks by name: MONAI's, and those of a function."""

import folders
import pytest
from command import results
from torch import nn

from symmetric_layers import SymmetryError
from symmetric_layers.__main__ import main
from symmetric_layers.compare.experiment import Experiment
from symmetric_layers.compare.models import example, parameters
from symmetric_layers.compare.named import check_answer, named
from symmetric_layers.compare.rows import ROWS
from symmetric_layers.compare.twins import build
from symmetric_layers.compare.wishes import Wishes
from symmetric_layers.torch import equivariance_error


def tiny(in_channels, num_classes, width=8):
    """A network as anybody might write it."""
    first, second = nn.Conv2d(in_channels, width, 3, stride=2), nn.Conv2d(width, width, 3)
    return nn.Sequential(first, nn.ReLU(), second, nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(width, num_classes))


def lopsided(in_channels, num_classes):
    """A network that cannot be made equivariant: it has numbers of its own for every position."""
    norm = nn.BatchNorm1d(4 * 36)
    return nn.Sequential(nn.Conv2d(in_channels, 4, 3), nn.Flatten(), norm, nn.Linear(4 * 36, num_classes))


def nothing():
    """No network."""
    return 3


@pytest.fixture
def digits(tmp_path):
    """A folder of classes."""
    return folders.digits(tmp_path / "digits")


def task(data, **wishes):
    """The task with these wishes."""
    return Wishes(str(data), **wishes).check().task()


def test_a_function_of_ones_own_is_compared_end_to_end(digits, tmp_path):
    chosen = ("--model", f"{__name__}:tiny", "--model-args", '{"width": 12}', "--symmetry", '{"h": 4, "v": 4}')
    arguments = ["compare", "--data", str(digits), *chosen, "--epochs", "1", "--seeds", "1", "--only"]
    assert main([*arguments, "bank,twin", "--out", str(tmp_path / "out")]) == 0
    found = results(tmp_path / "out")
    assert found["settings"]["model_arguments"] == '{"width": 12}'
    assert {run["row"]: run["changed"] == 0 for run in found["runs"]}["twin"]
    plain = parameters(tiny(1, 3, 12))
    weights = {run["row"]: run["weights"] for run in found["runs"]}
    assert weights["bank"] == plain - 4 * (9 + 1) - 4 * (
        12 * 9 + 1
    )  # two orbits of two filters in two kinds, per layer
    assert weights["twin"] < 0.55 * plain
    assert f"--model={__name__}:tiny" in found["command"]


@pytest.mark.parametrize("name", ["monai:UNet", "monai:DynUNet"])
def test_a_network_of_monai_gets_axes_channels_and_classes_from_the_data(tmp_path, name):
    found = task(folders.patients(tmp_path, count=6, planes=12), model=name, axes="h", size="32x32")
    net = build(found, "twin", measure=True).double().eval()
    assert max(row.relative for row in equivariance_error(net, example(found).double(), "h")) < 1e-9
    banked = [module for module in build(found, "bank").modules() if isinstance(module, nn.ConvTranspose2d | nn.Conv2d)]
    assert any(hasattr(module, "plan") for module in banked)
    assert not any(hasattr(module, "plan") for module in banked if module.out_channels == 3)  # it gives the classes


def test_what_cannot_be_a_network_is_one_sentence(digits):
    expected = {
        f"{__name__}:nothing": f"--model: '{__name__}:nothing' makes a int. Expected an nn.Module. Name a function "
        "that returns one.",
        f"{__name__}:none": f"--model: '{__name__}:none' is not to be found (module '{__name__}' has no attribute "
        "'none'). Expected 'small', 'unet', 'monai:NAME' or 'package.module:function'. Name one that can be imported.",
        f"{__name__}:task": f"--model: '{__name__}:task' cannot be made (task() missing 1 required positional "
        "argument: 'data'). Expected a network from no arguments. Give what it needs with --model-args.",
    }
    for model, sentence in expected.items():
        with pytest.raises(SymmetryError) as refused:
            named(model, {}, (1, 8, 8), 3)
        assert str(refused.value) == sentence
    with pytest.raises(SymmetryError) as refused:
        check_answer("net", nn.Conv2d(1, 3, 1), example(task(digits)), 3, maps=False)
    assert str(refused.value) == (
        "--model: 'net' answers (2, 3, 8, 8) to pictures of (2, 1, 8, 8). Expected (2, 3). Give --model-args that make "
        "it so."
    )


def test_a_twin_that_cannot_be_made_is_refused_before_anything_is_trained(digits):
    experiment = Experiment(task(digits, model=f"{__name__}:lopsided"), ROWS, 1, 1, None)
    with pytest.raises(SymmetryError) as refused:
        experiment.check()
    assert str(refused.value).startswith(
        f"--model: no network for the row 'twin' can be made from '{__name__}:lopsided'. "
    )
    assert str(refused.value).endswith(" Or leave the row out with --only.")


def test_a_map_model_for_classes_and_strange_widths_are_one_sentence(digits):
    with pytest.raises(SymmetryError) as refused:
        task(digits, model="unet")
    assert str(refused.value) == (
        "--model: 'unet' gives a class to every pixel. Expected a network that gives one to the picture. "
        "Use --model=small, or name another."
    )
    with pytest.raises(SymmetryError) as refused:
        task(digits, model_args='{"width": 3}')
    assert str(refused.value) == (
        '--model-args: {"width": 3} is nothing that this model takes. Expected {"widths": [8, 16, 32]}, the channels '
        "of each level. Give that, or nothing."
    )
    assert task(digits, model_args='{"widths": [4, 6]}').widths == (4, 6)


def test_sizes_of_learning_curves_are_shares_or_numbers(digits):
    assert task(digits, train_sizes="25,50,100%").samples == (22, 11, 6)
    assert task(digits, train_sizes="5,20").samples == (20, 5)
    with pytest.raises(SymmetryError) as refused:
        task(digits, train_sizes="50,200")
    assert str(refused.value) == (
        "--train-sizes: '50,200' asks for 200 pictures. Expected at most 22, those for training. Ask for fewer."
    )
