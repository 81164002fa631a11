"""Several processes train what one process trains; what cannot be spread is one sentence before anything is trained."""

import subprocess
import sys

import folders
import numpy as np
import pytest
import torch
from command import results
from PIL import Image
from sklearn.datasets import load_digits

from symmetric_layers import SymmetryError
from symmetric_layers.__main__ import main
from symmetric_layers.compare.budget import usual
from symmetric_layers.compare.crew import Crew
from symmetric_layers.compare.data import IGNORE
from symmetric_layers.compare.data.faces import TASK as FACES
from symmetric_layers.compare.learner import Part, mirror_some
from symmetric_layers.compare.rows import choose
from symmetric_layers.compare.scale import Scale, Share
from symmetric_layers.compare.training import train

MODULE = ("-m", "symmetric_layers", "compare")
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", *MODULE)


def command(start, *arguments):
    """Runs a command to its end, among processes that it starts itself or that are started for it."""
    found = subprocess.run(
        [sys.executable, *start, *map(str, arguments)], capture_output=True, text=True, encoding="utf-8", timeout=240
    )
    return found.returncode, found.stdout, found.stderr


def checkpoints(folder):
    """The trained networks, by name."""
    return {path.name: torch.load(path, weights_only=True) for path in (folder / "checkpoints").iterdir()}


def same_weights(one, other):
    """Whether two folders hold the same networks, up to rounding in float64.

    In float32 a sum in another order is another number in its last digit, and AdamW, which divides gradients by
    their size, makes 1e-2 of that within fifteen steps on brains. In float64 the same steps stay below 1e-9.
    """
    theirs = checkpoints(other)
    assert checkpoints(one).keys() == theirs.keys()
    for name, checkpoint in checkpoints(one).items():
        assert checkpoint["state_dict"].keys() == theirs[name]["state_dict"].keys()
        for key, value in checkpoint["state_dict"].items():
            assert value.dtype in (torch.float64, torch.int64)
            torch.testing.assert_close(theirs[name]["state_dict"][key], value, rtol=0, atol=1e-9, msg=key)


def partly_labelled(folder, count=20):
    """Digits with a class for every pixel, but for some rows: fewer in one picture than in another."""
    folder.mkdir()
    rows = []
    for number, picture in enumerate(load_digits().images[:count]):
        mask = (picture > 8).astype(np.uint8)
        mask[: number % 6] = 255  # no label
        names = {"image": f"{number}.png", "mask": f"{number}-mask.png"}
        folders.save(picture / 16, folder / names["image"])
        Image.fromarray(mask).save(folder / names["mask"])
        rows.append(names)
    return folders.table(folder / "list.csv", rows)


def test_two_processes_train_the_networks_that_one_process_trains(tmp_path):
    data, one, two = partly_labelled(tmp_path / "digits"), tmp_path / "one", tmp_path / "two"
    arguments = ("--data", str(data), "--axes", "hv", "--epochs", "1", "--seeds", "1", "--only", "augment")
    arguments += ("--precision", "64-true")
    assert main(["compare", *arguments, "--out", str(one)]) == 0
    code, printed, complaint = command(MODULE, *arguments, "--out", two, "--devices", "2", "--strategy", "ddp")
    assert (code, complaint) == (0, "")
    assert printed.count("│ plain + augmentation │") == 1
    assert results(two)["settings"]["processes"] == 2
    assert results(two)["command"].endswith(f"--devices=2 --precision=64-true --out={two}")
    same_weights(one, two)


def test_torchrun_trains_together_chooses_by_all_validation_pictures_and_prints_one_table(tmp_path):
    data, one, two = folders.digits(tmp_path / "digits", each=13, classes=4), tmp_path / "one", tmp_path / "two"
    arguments = ("--data", str(data), "--epochs", "1", "--seeds", "1", "--only", "twin", "--precision", "64-true")
    assert main(["compare", *arguments, "--out", str(one)]) == 0
    code, printed, _ = command(TORCHRUN, *arguments, "--out", two, "--devices", "2")
    assert code == 0
    assert printed.count("│ twin, equal channels │") == 1
    assert printed.count("Written: ") == 1
    assert results(two)["settings"]["pictures"]["validation"] == 9  # which two processes do not share evenly
    same_weights(one, two)
    (ours,), (theirs,) = checkpoints(one).values(), checkpoints(two).values()
    assert ours["score"] == theirs["score"]
    assert 0 < ours["score"] < 1


@pytest.mark.parametrize("letters", ["h", "hv"])
def test_a_share_of_a_batch_is_mirrored_as_in_the_whole_batch(letters):
    pictures, targets = torch.randn(6, 1, 3, 4), torch.randint(3, (6, 3, 4))
    whole = mirror_some(pictures, targets, letters, torch.Generator().manual_seed(0))
    assert not torch.equal(whole[0], pictures)
    for rank in range(3):
        own = slice(rank, None, 3)
        found = mirror_some(
            pictures[own], targets[own], letters, torch.Generator().manual_seed(0), share=Share(rank, 3)
        )
        assert torch.equal(found[0], whole[0][own])
        assert torch.equal(found[1], whole[1][own])


@pytest.mark.parametrize("count", [1, 3, 6, 7])
def test_shares_of_validation_pictures_are_of_one_size_and_count_every_picture_once(count):
    pictures = [(torch.full((1,), float(number)), torch.tensor(number)) for number in range(count)]
    parts = [Part(pictures, Share(rank, 3)) for rank in range(3)]
    assert len({len(part) for part in parts}) == 1
    items = [part[number] for part in parts for number in range(len(part))]
    assert sorted(int(target) for _, target in items if target != IGNORE) == list(range(count))
    assert all(picture == target for picture, target in items if target != IGNORE)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            ("--devices", "0"),
            "--devices: 0 is no usable count. Expected a whole number, at least 1. Use such a number.",
        ),
        (
            ("--num-nodes", "two"),
            "--num-nodes: 'two' is no usable count. Expected a whole number, at least 1. Use such a number.",
        ),
        (
            ("--strategy", "dp"),
            "--strategy: 'dp' is no choice here. Expected 'ddp' or 'fsdp'. Use one of these.",
        ),
        (
            ("--precision", "16"),
            "--precision: '16' is no choice here. Expected '32-true' or '64-true' or 'bf16-mixed'. Use one of these.",
        ),
        (
            ("--accelerator", "tpu"),
            "--accelerator: 'tpu' is no choice here. Expected 'cpu' or 'gpu' or 'auto'. Use one of these.",
        ),
        (
            ("--strategy", "fsdp"),
            "--strategy: 'fsdp' shares a network among devices, and there is 1. Expected at least 2. Use --devices=2, "
            "or leave it out.",
        ),
        (
            ("--strategy", "fsdp", "--devices", "2"),
            "--strategy: 'fsdp' shares a network among graphics cards, and the accelerator is 'cpu'. Expected 'ddp' "
            "there. Use --strategy=ddp, or --accelerator=gpu.",
        ),
        (
            ("--strategy", "fsdp", "--devices", "2", "--accelerator", "gpu", "--precision", "64-true"),
            "--precision: '64-true' is nothing for 'fsdp'. Expected '32-true' or 'bf16-mixed'. Use one "
            "of these, or --strategy=ddp.",
        ),
        (
            ("--devices", "2"),
            "--devices: 2 processes are started by running this command again, and this program is another one. "
            "Expected symmetric-layers, or python -m symmetric_layers. Run it from a shell.",
        ),
    ],
)
def test_what_cannot_be_spread_is_one_sentence(capsys, tmp_path, options, sentence):
    assert main(["compare", "--data", "faces", *options, "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == sentence + "\n"
    assert not (tmp_path / "results.json").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a graphics card")
@pytest.mark.parametrize("options", [("--accelerator", "gpu"), ("--accelerator", "gpu", "--devices", "2")])
def test_graphics_cards_that_are_not_there_are_one_sentence(capsys, tmp_path, options):
    assert main(["compare", "--data", "faces", *options, "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        f"--accelerator: 'gpu' with --devices {len(options) // 2} is more than the 0 graphics cards of this machine. "
        "Expected at most as many devices. Use fewer, or --accelerator=cpu.\n"
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a graphics card")
def test_auto_is_a_processor_where_there_is_no_graphics_card(capsys, tmp_path):
    options = ("--accelerator", "auto", "--devices", "2", "--strategy", "fsdp")
    assert main(["compare", "--data", "faces", *options, "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith(
        "--strategy: 'fsdp' shares a network among graphics cards, and the accelerator is 'cpu'. "
    )


def test_a_batch_that_is_not_shared_evenly_is_one_sentence():
    with pytest.raises(SymmetryError) as refused:
        Scale(devices=2, num_nodes=2).check_batch(50)
    assert str(refused.value) == (
        "--devices: 4 processes do not share a batch of 50 pictures evenly. Expected one of 1, 2, 5, 10, 25, 50 "
        "processes. Use as many, or another --batch if these are your own data."
    )
    Scale(devices=5, num_nodes=2).check_batch(50)


def test_more_processes_than_were_asked_for_are_one_sentence():
    with pytest.raises(SymmetryError) as refused:
        Scale().check_started({"torchrun": 4})
    assert str(refused.value) == (
        "--devices: 1 times --num-nodes 1 is 1, but torchrun started 4 processes. Expected the same number. Use "
        "--devices for those of one machine, and --num-nodes for the machines."
    )
    Scale(devices=2, num_nodes=2).check_started({"torchrun": 4})


def test_only_what_shapes_numbers_is_a_setting():
    assert Scale().settings() == {}
    assert Scale(devices=2, num_nodes=3).settings() == {"processes": 6}
    assert Scale(precision="bf16-mixed", accelerator="gpu").settings() == {
        "precision": "bf16-mixed",
        "accelerator": "gpu",
    }


def test_half_precision_is_trained_and_predicts_in_float32(tmp_path):
    arguments = ("--data", "faces", "--epochs", "1", "--seeds", "1", "--only", "twin", "--precision", "bf16-mixed")
    assert main(["compare", *arguments, "--out", str(tmp_path / "half")]) == 0
    assert main(["compare", *arguments[:-2], "--out", str(tmp_path / "full")]) == 0
    (half,), (full,) = checkpoints(tmp_path / "half").values(), checkpoints(tmp_path / "full").values()
    assert half["settings"]["precision"] == "bf16-mixed"
    assert all(value.dtype != torch.bfloat16 for value in half["state_dict"].values())
    assert any(not torch.equal(value, full["state_dict"][name]) for name, value in half["state_dict"].items())
    assert results(tmp_path / "half")["runs"][0]["largest_difference"] < 1e-5


@pytest.mark.parametrize("precision", ["32-true", "64-true", "bf16-mixed"])
def test_an_interrupted_training_goes_on_bit_for_bit(tmp_path, precision):
    crew, done = Crew(Scale(precision=precision)), []

    def tick():
        done.append(1)
        if len(done) == 15:
            raise KeyboardInterrupt

    what = (FACES, *choose("augment"), 100, 0, usual(FACES, 3))
    broken, whole = tmp_path / "broken.ckpt", tmp_path / "whole.ckpt"
    with pytest.raises(KeyboardInterrupt):
        train(*what, broken, tick, crew)
    train(*what, broken, tick, crew)
    assert len(done) == 15 + 20  # the second epoch again, and the third
    train(*what, whole, crew=crew)
    ours, theirs = (torch.load(path, weights_only=True)["state_dict"] for path in (broken, whole))
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
