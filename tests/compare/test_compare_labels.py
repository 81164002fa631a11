"""Left and right with labels of their own: a mirror exchanges them, wherever something is mirrored."""

import folders
import numpy as np
import pytest
import torch
from command import results
from test_compare_networks import randomised
from torch import nn
from torch.utils.data import TensorDataset

from symmetric_layers import SymmetryError
from symmetric_layers.__main__ import main
from symmetric_layers.compare.data import IGNORE
from symmetric_layers.compare.experiment import Experiment
from symmetric_layers.compare.heads import check_paired, law_error
from symmetric_layers.compare.labels import answers_seen, map_seen, read_pairs
from symmetric_layers.compare.learner import mirror_some
from symmetric_layers.compare.measure import disagreement, predictor
from symmetric_layers.compare.models import example, parameters
from symmetric_layers.compare.rows import ROWS
from symmetric_layers.compare.twins import build
from symmetric_layers.compare.wishes import Wishes

PAIRS = ((1, 2),)
MAP = torch.tensor([[0, 0, 1, 1, 0, 2, 2, 2, IGNORE]])
SEEN = torch.tensor([[IGNORE, 1, 1, 1, 0, 2, 2, 0, 0]])


def hemispheres(folder, count=8):
    """Planes of the brain with the values 0 outside, 3 in the left hemisphere, 4 in the right, 7 in the middle."""
    picture, tissue, _ = folders.brain()
    random = np.random.RandomState(0)
    folder.mkdir(parents=True)
    rows = []
    for number in range(count):
        plane = (picture / picture.max()).T[11]
        noisy = np.clip(plane + 0.05 * random.randn(*plane.shape), 0, 1)
        column = np.arange(plane.shape[1])
        middle = plane.shape[1] // 2
        side = np.where(abs(column - middle) < 2, 7, np.where(column < middle, 3, 4))
        folders.save(noisy, folder / f"{number}.png")
        folders.save(np.where(tissue.T[11] > 0, side, 0) / 255, folder / f"{number}-mask.png")
        rows.append({"image": f"{number}.png", "mask": f"{number}-mask.png"})
    return folders.table(folder / "list.csv", rows)


def task(data, labels="3:4", **wishes):
    """The task with left and right labels."""
    return Wishes(str(data), left_right_labels=labels, **wishes).check().task()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A table of hemispheres."""
    return hemispheres(tmp_path_factory.mktemp("hemispheres") / "data")


def two_answers(in_channels, out_channels):
    """A network whose classes are the sum of two convolutions."""

    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.other = (nn.Conv2d(in_channels, out_channels, 3, padding=1) for _ in range(2))

        def forward(self, x):
            return self.one(x) + self.other(x)

    return Sum()


def test_a_map_in_a_mirror_has_left_and_right_exchanged_and_nothing_else():
    assert torch.equal(map_seen(MAP, "h", PAIRS), SEEN)
    assert torch.equal(map_seen(SEEN, "h", PAIRS), MAP)
    assert torch.equal(map_seen(MAP, "h", ()), MAP.flip(-1))
    assert torch.equal(map_seen(MAP[None], "v", PAIRS), MAP[None].flip(-2))
    assert torch.equal(map_seen(MAP[None], "hv", PAIRS), SEEN[None].flip(-2))


def test_answers_in_a_mirror_agree_with_maps_in_a_mirror():
    answers = torch.randn(2, 4, 5, 6, 7)
    pairs = ((0, 3), (1, 2))
    for letters in ("h", "v", "hz"):
        assert torch.equal(answers_seen(answers, letters, pairs).argmax(1), map_seen(answers.argmax(1), letters, pairs))


def test_augmentation_exchanges_labels_where_the_coin_for_h_says_so_and_only_there():
    pictures, targets = torch.arange(9.0).expand(64, 1, 1, 9), MAP.expand(64, 1, 9)
    for kind in ("h", "v", "hv"):
        mirrored, labels = mirror_some(pictures, targets, kind, torch.Generator().manual_seed(0), pairs=PAIRS)
        flipped = mirrored[:, 0, 0, 0] == 8
        assert 0 < flipped.sum() < 64 or kind == "v"
        assert torch.equal(labels, torch.where(flipped[:, None, None], SEEN, MAP))


class Sides(nn.Module):
    """Left is 1 and right is 2, by the place alone: right about sides, unlike any network that forgets them."""

    def forward(self, x):
        left = torch.linspace(-3, 3, x.shape[-1]).expand(x.shape[0], x.shape[-2], -1)
        return torch.stack([torch.full_like(left, -9), left, -left], 1)


def test_exchanged_answers_agree_with_the_mirrored_picture_and_average_to_themselves(data):
    found = task(data)
    pictures = torch.randn(3, 1, 4, 8)
    plain, _, averaged, *_ = ROWS
    answers = predictor(Sides(), found, averaged)(pictures)
    assert torch.equal(answers, predictor(Sides(), found, plain)(pictures))
    testing = TensorDataset(pictures, torch.zeros(3, 4, 8, dtype=torch.long))
    assert disagreement(found, predictor(Sides(), found, plain), testing) == (0, 0)
    forgotten = found.__class__(**{**found.__dict__, "pairs": ()})
    assert disagreement(forgotten, predictor(Sides(), forgotten, plain), testing)[0] == 1


def test_the_mirrored_test_side_has_left_and_right_exchanged(data):
    straight, mirrored = task(data).testing(0).sides
    for (picture, target), (seen, other) in zip(straight, mirrored):
        assert torch.equal(seen, picture.flip(-1))
        assert torch.equal(other == 1, (target == 2).flip(-1))
        assert torch.equal(other == 2, (target == 1).flip(-1))
        assert torch.equal(other == 3, (target == 3).flip(-1))


@pytest.mark.parametrize("net", ["twin", "wide"])
@pytest.mark.parametrize("axes", ["h", "hv"])
def test_a_twin_exchanges_left_and_right_exactly(data, net, axes, tolerance):
    found = task(data, axes=axes)
    model = randomised(build(found, net, measure=True))
    picture = torch.randn(2, *found.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    answer = model(picture)
    assert (model(picture.flip(-1)) - answer.flip(-1)[:, [0, 2, 1, 3]]).abs().max() < tolerance["float64"]
    assert (answer[:, 1] - answer[:, 2]).abs().max() > 1e-3  # two classes, not one twice
    assert (answer[:, 1] - answer[:, 1].flip(-1)).abs().max() > 1e-3  # which know their side
    if "v" in axes:
        assert (model(picture.flip(-2)) - answer.flip(-2)).abs().max() < tolerance["float64"]


def test_a_twin_with_sides_stores_what_a_twin_without_stores(data):
    with_sides, without = (parameters(build(task(data, labels), "twin")) for labels in ("3:4", None))
    assert with_sides == without - 1  # a pair has one bias
    assert parameters(build(task(data), "plain")) / with_sides == pytest.approx(2, rel=0.01)


@pytest.mark.parametrize("name", ["monai:DynUNet", "monai:UNet", "monai:BasicUNet"])
def test_networks_of_monai_exchange_left_and_right(data, name):
    found = task(data, model=name, size="32x32")
    model = randomised(build(found, "twin", measure=True))
    assert law_error(model, example(found).double(), PAIRS, "h") < 1e-9


def test_three_axes_exchange_left_and_right(tmp_path):
    found = task(folders.patients(tmp_path / "brains", count=6), "1:2", axes="hvz", size="8x8x8")
    model = randomised(build(found, "twin", measure=True))
    assert law_error(model, example(found).double(), PAIRS, "hvz") < 1e-9


def test_a_law_that_is_broken_is_noticed(data):
    found = task(data)
    with pytest.raises(SymmetryError) as refused:
        check_paired(build(task(data, None), "twin"), example(found), found.pairs, "h")
    assert str(refused.value) == (
        "model: left and right labels cannot be exchanged in its twin, because classes of a pair are not exchanged "
        "where their last convolution is. Expected a network that ends in one convolution to the classes. Use one."
    )


def test_a_network_with_two_last_layers_has_no_twin_with_sides(data):
    found = task(data, model=f"{__name__}:two_answers")
    with pytest.raises(SymmetryError) as refused:
        Experiment(found, ROWS, 1, 1, None).check()
    assert str(refused.value) == (
        f"--model: no network for the row 'twin' can be made from '{__name__}:two_answers'. model: left and right "
        "labels cannot be exchanged in its twin, because classes of a pair are not exchanged where their last "
        "convolution is. Expected a network that ends in one convolution to the classes. Use one. Or leave the row out "
        "with --only."
    )
    Experiment(found, ROWS[:4], 1, 1, None).check()


def test_left_and_right_are_compared_end_to_end_and_kept_apart_from_other_runs(data, tmp_path, capsys):
    arguments = ["compare", "--data", str(data), "--epochs", "1", "--seeds", "1", "--only", "tta,twin"]
    arguments += ["--out", str(tmp_path)]
    assert main([*arguments, "--left-right-labels", "4:3"]) == 0
    found = results(tmp_path)
    assert "--left-right-labels=4:3" in found["command"]
    assert found["settings"]["left_right_labels"] == "3:4"
    assert {run["row"]: run["changed"] for run in found["runs"]} == {"tta": 0, "twin": 0}
    assert all(run["trained"] == pytest.approx(run["other"], abs=1e-9) for run in found["runs"])
    assert found["drawings"]["pictures"].count("what differs once mirrored back: 0.") == 2
    assert "Left and right have labels of their own (3 and 4)" in (tmp_path / "report.html").read_text()
    capsys.readouterr()
    assert main(arguments) == 2
    assert capsys.readouterr().err == (
        f"--out: {str(tmp_path)!r} holds another comparison (left_right_labels: 3:4 there, None here). "
        "Expected a new folder, or the same settings. Choose another --out, or delete this one.\n"
    )


@pytest.mark.parametrize("text", ["3", "3-4", "3:4,", "3:4:5", "a:b", "3:-4", ""])
def test_what_is_no_list_of_pairs_is_one_sentence(text):
    with pytest.raises(SymmetryError) as refused:
        read_pairs(text)
    assert str(refused.value) == (
        f"--left-right-labels: {text!r} is no list of pairs. Expected two values of the masks with a colon in between, "
        "and commas between pairs: 3:4,7:8. Write it so."
    )


@pytest.mark.parametrize(("text", "value"), [("3:4,4:5", 4), ("3:3", 3), ("3:4,4:3", 3)])
def test_a_value_named_twice_is_one_sentence(text, value):
    with pytest.raises(SymmetryError) as refused:
        read_pairs(text)
    assert str(refused.value) == (
        f"--left-right-labels: {text!r} names {value} more than once. Expected each value in one pair, with another "
        "one. Write every pair once."
    )


def refused(path, labels, **wishes):
    """The sentence with which labels are refused."""
    with pytest.raises(SymmetryError) as refusal:
        task(path, labels, **wishes)
    return str(refusal.value)


def test_labels_that_fit_no_data_are_one_sentence(data, tmp_path):
    assert refused(data, "3:9") == (
        "--left-right-labels: 9 is no class of these masks. Expected values out of 0, 3, 4, 7. Use those that stand in "
        "the masks."
    )
    assert refused(folders.digits(tmp_path / "digits"), "3:4") == (
        "--left-right-labels: '3:4' names values of masks, and these pictures have one class each. Expected a table "
        "with the column mask. Leave it out."
    )
    assert refused("brain", "1:2") == (
        "--left-right-labels: the data set 'brain' has its own. Expected this option with a folder or a table. "
        "Leave it out."
    )
    assert refused(data, "3:4", axes="v") == (
        "--left-right-labels: '3:4' is exchanged by mirrors along 'h', and --axes is 'v'. Expected an 'h' among the "
        "letters. Add it, or leave the labels out."
    )
