"""Somebody's own data: folders, tables, NIfTI; what cannot be meant is one sentence before anything is trained."""

import json

import folders
import nibabel
import numpy as np
import pytest
import torch
from command import results, run
from PIL import Image

from symmetric_layers import SymmetryError
from symmetric_layers.__main__ import main
from symmetric_layers.compare.data.files import read
from symmetric_layers.compare.data.listing import Entry, entries
from symmetric_layers.compare.data.splits import Split, in_turn
from symmetric_layers.compare.wishes import Wishes

SHORT = ("--epochs", "1", "--seeds", "1")


def task(path, **wishes):
    """The task that a path is."""
    return Wishes(str(path), **wishes).check().task()


def refused(path, **wishes):
    """The sentence with which a path is refused."""
    with pytest.raises(SymmetryError) as refusal:
        task(path, **wishes)
    return str(refusal.value)


def test_a_folder_of_pictures_is_compared_end_to_end(tmp_path):
    data, out = folders.digits(tmp_path / "digits"), tmp_path / "out"
    code, printed, complaint = run("compare", "--data", data, *SHORT, "--only", "tta,twin", "--out", out)
    assert (code, complaint) == (0, "")
    found = results(out)
    assert found["settings"]["pictures"] == {"training": 22, "validation": 6, "test": 8}
    assert {one["row"]: one["changed"] for one in found["runs"]} == {"tta": 0, "twin": 0}
    twin = found["runs"][1]
    assert twin["trained"] == twin["other"]  # a mirrored picture gets the answer of the picture
    assert found["told"]["classes"] == ["digit 0", "digit 1", "digit 2"]
    assert "accuracy" in printed
    assert "8 are tested" in (out / "report.html").read_text()


def test_volumes_with_masks_are_compared_end_to_end(tmp_path, capsys):
    data, out = folders.patients(tmp_path / "brains", planes=12), tmp_path / "out"
    assert main(["compare", "--data", str(data), *SHORT, "--only", "plain,twin", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    found = results(out)
    assert found["settings"]["pictures"] == {"training": 4, "validation": 2, "test": 2}
    assert found["settings"]["spacing"] == [8.0, 8.0]
    assert {one["row"]: one["changed"] == 0 for one in found["runs"]} == {"plain": False, "twin": True}
    assert "Dice" in printed


def test_three_axes_are_trained_and_mirrored_along_all_of_them(tmp_path):
    data, out = folders.patients(tmp_path / "brains", count=6), tmp_path / "out"
    chosen = ("--axes", "hvz", "--size", "12x12x12", "--model-args", '{"widths": [8, 8]}')
    assert main(["compare", "--data", str(data), *SHORT, *chosen, "--only", "twin", "--out", str(out)]) == 0
    (one,) = results(out)["runs"]
    assert one["changed"] == 0
    assert results(out)["settings"]["kind"] == "hvz"


def test_left_is_left_whatever_way_a_volume_is_stored(tmp_path):
    folders.patients(tmp_path, count=2)
    for number in range(2):
        image = nibabel.load(tmp_path / f"{number}.nii.gz")
        values = image.get_fdata().copy()
        x, y, z = (np.linalg.inv(image.affine) @ (-40, 30, 50, 1))[:3].round().astype(int)  # left, front, up
        values[x, y, z] = 100
        nibabel.Nifti1Image(values, image.affine).to_filename(tmp_path / f"{number}.nii.gz")
        found = read(Entry(tmp_path / f"{number}.nii.gz", mask=tmp_path / f"{number}-tissue.nii.gz"))
        plane, row, column = np.unravel_index(found.image[0].argmax(), found.image.shape[1:])
        depth, height, width = found.mask.shape
        assert plane < depth / 2
        assert row < height / 2
        assert column < width / 2
        assert found.across is True


def test_volumes_of_other_spacing_are_resampled_with_their_masks(tmp_path):
    data = folders.patients(tmp_path, count=6)
    for name in ("0.nii.gz", "0-tissue.nii.gz"):
        image = nibabel.load(tmp_path / name)
        coarse = nibabel.Nifti1Image(
            np.asarray(image.dataobj)[::2, ::2, ::2], image.affine @ np.diag([2, 2, 2, 1]), dtype=np.float32
        )
        coarse.to_filename(tmp_path / name)
    found = task(data)
    assert dict(found.facts)["spacing"] == (8.0, 8.0, 8.0)
    every = [found.testing(0).pictures.dataset[number] for number in range(6)]
    assert {tuple(picture.shape) for picture, _ in every} == {found.shape}
    assert {tuple(target.shape) for _, target in every} == {found.shape[1:]}
    share = [float((target == 2).sum()) for _, target in every]
    assert share[0] == pytest.approx(share[1], rel=0.35)


def test_planes_without_left_and_right_are_refused(tmp_path):
    data = folders.patients(tmp_path, count=6)
    for path in tmp_path.glob("*.nii.gz"):
        image = nibabel.load(path)
        nibabel.Nifti1Image(np.asarray(image.dataobj)[12:13], image.affine).to_filename(path)
    assert refused(data) == (
        f"--axes: 'h' does not fit {str(tmp_path / '0.nii.gz')!r}, whose header says that its columns are not the "
        "patient's left and right. Expected letters of other axes. Use such."
    )


def test_sixteen_bits_colours_and_palettes_are_kept(tmp_path):
    ramp = np.linspace(0, 1, 64).reshape(8, 8)
    for name in ("a.png", "a.tiff"):
        folders.save(ramp, tmp_path / name, bits=16)
        assert read(Entry(tmp_path / name)).image.dtype == np.uint16
        assert read(Entry(tmp_path / name)).image.max() == 65535
    Image.fromarray(np.stack([ramp * 255] * 3, -1).astype(np.uint8)).save(tmp_path / "b.jpg")
    assert read(Entry(tmp_path / "b.jpg")).image.shape == (3, 8, 8)
    mask = Image.new("P", (8, 8))
    mask.putpalette([0, 0, 0, 200, 10, 10])
    mask.paste(1, (2, 0, 4, 8))
    mask.save(tmp_path / "mask.png")
    found = read(Entry(tmp_path / "a.png", mask=tmp_path / "mask.png"))
    assert found.mask.tolist() == [[0, 0, 1, 1, 0, 0, 0, 0]] * 8


def listed(tmp_path, count=20, **columns):
    """A table of digits with labels, and whatever other columns."""
    folders.digits(tmp_path / "digits", each=count, classes=2)
    rows = [
        {"image": f"digits/digit {number % 2}/{number // 2}.png", "label": f"kind {number % 2}"}
        for number in range(count)
    ]
    for name, values in columns.items():
        rows = [{**row, name: value} for row, value in zip(rows, values)]
    return folders.table(tmp_path / "list.csv", rows)


def test_groups_are_never_torn_apart(tmp_path):
    path = listed(tmp_path, 40, group=[f"patient {number // 4}" for number in range(40)])
    every = entries(path)
    split = Split(every)
    for seed in range(3):
        parts = [{every[number].group for number in part} for part in (*split.parts(seed), split.test)]
        assert all(parts)
        assert not parts[0] & parts[1]
        assert not (parts[0] | parts[1]) & parts[2]
    assert any(set(split.parts(0)[1]) != set(split.parts(seed)[1]) for seed in range(1, 5))


def test_a_given_split_is_obeyed(tmp_path):
    parts = ["train"] * 10 + ["val"] * 4 + ["test"] * 6
    split = Split(entries(listed(tmp_path, split=parts)))
    assert split.test.tolist() == list(range(14, 20))
    assert [part.tolist() for part in split.parts(3)] == [list(range(10)), list(range(10, 14))]


def test_test_pictures_are_the_same_for_every_seed_and_never_trained_on(tmp_path):
    found = task(folders.digits(tmp_path / "digits"))
    tested = {picture.numpy().tobytes() for picture, _ in found.testing(0).pictures}
    for seed in range(3):
        assert {picture.numpy().tobytes() for picture, _ in found.testing(seed).pictures} == tested
        used = found.training(found.samples[0], seed, 60).pictures
        assert not {picture.numpy().tobytes() for picture, _ in used} & tested
        assert not {picture.numpy().tobytes() for picture, _ in found.validation(seed)} & tested


def test_a_datalist_of_the_decathlon_is_read(tmp_path):
    folders.patients(tmp_path, count=6)
    rows = [{"image": f"{number}.nii.gz", "label": f"{number}-tissue.nii.gz"} for number in range(6)]
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps({"name": "Brain", "training": rows, "test": ["elsewhere.nii.gz"]}))
    assert (entries(path)[0].mask.name, entries(path)[0].part) == ("0-tissue.nii.gz", None)
    assert len(entries(path)) == 6


def test_few_pictures_hold_every_class_in_its_share():
    labels = ["a"] * 60 + ["b"] * 30 + ["c"] * 10
    order = in_turn(labels, np.random.RandomState(0))
    assert sorted(order) == list(range(100))
    assert sorted(labels[number] for number in order[:10]) == ["a"] * 6 + ["b"] * 3 + ["c"]


def test_a_broken_picture_is_named_and_skipped(tmp_path):
    data = folders.digits(tmp_path / "digits", each=50, classes=3)
    broken = data / "digit 1" / "7.png"
    broken.write_bytes(b"no picture")
    with pytest.warns(UserWarning, match="Skipped 1 of 150 pictures: .*digit 1/7.png"):
        assert len(task(data).testing(0).pictures.dataset) == 149
    (data / "digit 2" / "3.png").write_bytes(b"")
    sentence = refused(data)
    assert sentence.startswith("--data: 2 of 150 pictures cannot be read: ")
    assert sentence.endswith(". Expected at most 1%. Mend or remove them.")


def test_what_cannot_be_meant_is_one_sentence(tmp_path):
    data = folders.digits(tmp_path / "digits", classes=2)
    (data / "empty").mkdir()
    assert refused(data) == (
        f"--data: {str(data / 'empty')!r} is a class without pictures. Expected files that end in .png, .jpg, .jpeg, "
        ".tif, .tiff, .nii, .nii.gz. Fill it, or remove it."
    )
    path = listed(tmp_path / "other", 4)
    path.write_text(path.read_text().replace("kind 1", "", 1))
    assert refused(path) == (
        f"--data: {str(path)!r} says too little or too much in line 2. Expected an image, and a label or a mask. "
        "Mend that line."
    )
    path = listed(tmp_path / "third", 4)
    path.write_text(path.read_text().replace("/1.png", "/none.png"))
    assert refused(path) == (
        f"--data: {str(path)!r} names {str(path.parent / 'digits' / 'digit 0' / 'none.png')!r} in line 3, which is no "
        "file. Expected files. Mend that line."
    )


def test_a_mask_of_another_shape_is_one_sentence(tmp_path):
    rows = []
    for number in range(8):
        folders.save(np.zeros((8, 8)), tmp_path / f"{number}.png")
        folders.save(np.zeros((8, 9)), tmp_path / f"{number}-mask.png")
        rows.append({"image": f"{number}.png", "mask": f"{number}-mask.png"})
    assert refused(folders.table(tmp_path / "list.csv", rows)) == (
        f"--data: the mask {str(tmp_path / '0-mask.png')!r} is 8 x 9. Expected 8 x 8, the size of its picture. "
        "Make them alike."
    )


def test_pictures_of_several_sizes_are_resized_and_maps_are_padded(tmp_path):
    data = folders.digits(tmp_path / "digits")
    folders.save(np.ones((16, 10)), data / "digit 0" / "0.png")
    assert task(data).shape == (1, 8, 8)
    assert task(data, size="6x5").testing(0).pictures[0][0].shape == (1, 6, 5)
    rows = []
    for number in range(10):
        size = (8, 8 + 2 * (number == 3))
        folders.save(np.ones(size), tmp_path / f"{number}.png")
        folders.save(np.eye(*size) / 255, tmp_path / f"{number}-mask.png")
        rows.append({"image": f"{number}.png", "mask": f"{number}-mask.png"})
    found = task(folders.table(tmp_path / "list.csv", rows))
    assert found.shape == (1, 8, 10)
    target = found.testing(0).pictures.dataset[0][1]
    assert (target[:, [0, -1]] == -100).all()
    assert torch.equal(target[:, 1:-1], torch.eye(8).long())
