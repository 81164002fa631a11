"""The data are what the report says they are."""

import numpy as np
import pytest
import torch

from symmetric_layers.compare.budget import usual
from symmetric_layers.compare.data import IGNORE, NAMES, brain, digits, faces, load, textures
from symmetric_layers.compare.data.memory import lesson
from symmetric_layers.compare.learner import class_weights, mirror_some
from symmetric_layers.compare.rows import ROWS
from symmetric_layers.compare.training import load as load_checkpoint
from symmetric_layers.compare.training import train


def test_the_brain_is_mirror_symmetric_and_in_the_middle():
    pictures, tissue, _ = brain.slices()
    assert pictures.shape[1:] == tissue.shape[1:] == (93, 77)
    assert torch.equal(tissue, tissue.flip(-1))
    assert (pictures - pictures.flip(-1)).abs().max() < 1e-6
    assert sorted(tissue.unique().tolist()) == [IGNORE, 0, 1, 2]
    assert all((one != IGNORE).sum() > 1500 for one in tissue)


def test_white_matter_is_brighter_than_grey_matter():
    pictures, tissue, _ = brain.slices()
    assert pictures[tissue == 2].mean() > 1.2 * pictures[tissue == 1].mean()


def test_brain_training_has_labels_on_the_left_only():
    _, targets = brain.training(6, 0, 8)
    assert (targets[..., 38:] == IGNORE).all()
    assert (targets[..., :38] != IGNORE).any()


def test_brain_training_and_testing_share_no_slice(monkeypatch):
    pictures, tissue, places = brain.slices()
    numbered = torch.arange(len(pictures)).float()[:, None, None].expand_as(pictures)
    monkeypatch.setattr(brain, "slices", lambda: (numbered, tissue, places))
    monkeypatch.setattr(brain, "perturb", lambda picture, random: picture[None])
    tested = {int(value) for value in brain.testing(0).pictures.tensors[0].unique()}
    assert len(tested) == 12
    for seed in range(5):
        trained = {int(value) for value in brain.training(6, seed, 100)[0].unique()}
        assert len(trained) == 6
        assert {place // 5 % 2 for place in places[sorted(trained)]} == {0}
        assert {place // 5 % 2 for place in places[sorted(tested)]} == {1}


def test_no_label_on_the_right_reaches_a_weight(monkeypatch, tmp_path):
    """Wrong labels on the right, and only there, leave every trained weight as it is; on the left they do not."""
    pictures, tissue, places = brain.slices()
    task = load("brain")

    def weights(labels, row):
        monkeypatch.setattr(brain, "slices", lambda: (pictures, labels, places))
        path = tmp_path / "net.ckpt"
        path.unlink(missing_ok=True)
        short = task.__class__(**{**task.__dict__, "batches": 2})
        train(short, row, 6, 0, usual(short, 1), path)
        net, _ = load_checkpoint(short, row, path, usual(short, 1))
        return torch.cat([value.flatten().double() for value in net.parameters()])

    wrong = torch.where(tissue == IGNORE, IGNORE, (tissue + 1) % 3)
    on_the_right, on_the_left = tissue.clone(), tissue.clone()
    on_the_right[..., 38:], on_the_left[..., :38] = wrong[..., 38:], wrong[..., :38]
    for row in (row for row in ROWS if row.name in ("plain", "augment", "twin")):
        expected = weights(tissue, row)
        assert torch.equal(weights(on_the_right, row), expected)
        assert not torch.equal(weights(on_the_left, row), expected)


def test_a_perturbed_slice_is_neither_symmetric_nor_told_by_brightness():
    pictures, _, _ = brain.slices()
    random = np.random.RandomState(0)
    one, two = brain.perturb(pictures[30], random), brain.perturb(pictures[30], random)
    assert one.shape == (1, 93, 77)
    assert one.dtype == torch.float32
    assert not torch.equal(one, two)
    assert (one - one.flip(-1)).abs().max() > 0.1
    assert abs(float(one.mean())) < 1e-5
    assert float(one.std()) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_makes_the_same_pictures(name):
    task = load(name)
    first, again, other = (task.training(task.samples[-1], seed, 30).pictures.tensors for seed in (0, 0, 1))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


def test_the_covered_half_of_a_face_is_grey_and_the_sides_swap():
    testing = faces.testing(0)
    (seen, _), (other, _) = (side.tensors for side in testing.sides)
    assert (seen[..., 13:] == 0).all()
    assert (other[..., :12] == 0).all()
    assert torch.equal(seen[..., 12], other[..., 12])
    assert (faces.training(100, 0, 20)[0][..., 13:] == 0).all()


@pytest.mark.parametrize(("module", "trained", "tested"), [(digits, 1000, 797), (faces, 100, 100)])
def test_training_and_testing_share_no_picture(module, trained, tested):
    of_training = {picture.numpy().tobytes() for picture in module.training(trained, 3, trained)[0]}
    of_testing = {picture.numpy().tobytes() for picture, _ in module.testing(3).pictures}
    assert len(of_training) > trained - 5
    assert len(of_testing) > tested - 5
    assert not of_training & of_testing


def test_texture_patches_come_from_different_halves(monkeypatch):
    columns = np.broadcast_to(np.arange(512, dtype=np.float32), (3, 512, 512))
    seen = []
    monkeypatch.setattr(textures, "photographs", lambda: columns)
    monkeypatch.setattr(textures, "patches", lambda each, span, random: seen.append(span) or real(each, span, random))
    textures.training(24, 0, 24)
    textures.testing(0)
    assert seen == [(0, 256), (256, 512)]


real = textures.patches


@pytest.mark.parametrize("name", NAMES)
def test_no_sentence_about_the_data_is_a_promise_about_patients(name):
    about = " ".join(load(name).about)
    assert about
    if name == "brain":
        assert "mirror-symmetric by construction" in about
        assert "This says nothing about new patients." in about


def test_augmentation_mirrors_labels_with_their_pictures():
    pictures, targets = torch.randn(32, 1, 5, 7), torch.arange(35).reshape(5, 7).expand(32, -1, -1)
    mirrored, labels = mirror_some(pictures, targets, "h", torch.Generator().manual_seed(0))
    flipped = [index for index in range(32) if torch.equal(mirrored[index], pictures[index].flip(-1))]
    straight = [index for index in range(32) if torch.equal(mirrored[index], pictures[index])]
    assert len(flipped) + len(straight) == 32
    assert flipped
    assert straight
    assert all(torch.equal(labels[index], targets[index].flip(-1)) for index in flipped)
    assert all(torch.equal(labels[index], targets[index]) for index in straight)


def test_rare_classes_weigh_more():
    targets = torch.tensor([0] * 100 + [1] * 25 + [2] * 4 + [IGNORE] * 7)
    weights = class_weights(lesson(lambda *_: (torch.zeros(136, 1), targets), 3)(6, 0, 1).counts)
    assert torch.allclose(weights / weights[0], torch.tensor([1.0, 2.0, 5.0]))
    assert weights.mean() == pytest.approx(1)
