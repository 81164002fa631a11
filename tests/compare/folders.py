"""Small data sets of files, made from real pictures."""

import csv

import nibabel
import numpy as np
from nilearn import datasets
from PIL import Image
from sklearn.datasets import load_digits


def digits(folder, each=12, classes=3, mode="PNG"):
    """A folder with one subfolder per class, of scikit-learn's digits."""
    pictures, names = load_digits(return_X_y=True)
    for name in range(classes):
        place = folder / f"digit {name}"
        place.mkdir(parents=True)
        for number, picture in enumerate(pictures[names == name][:each]):
            save(picture.reshape(8, 8) / 16, place / f"{number}.{mode.lower()}")
    return folder


def save(picture, path, bits=8):
    """A picture with values from 0 to 1, in so many bits."""
    kind = {8: np.uint8, 16: np.uint16}[bits]
    Image.fromarray((picture * (2**bits - 1)).astype(kind)).save(path)


def table(path, rows):
    """A table of dicts."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


def brain(resolution=8):
    """The MNI152 brain and its tissues: 0 outside, 1 grey, 2 white; the affine says where."""
    template, grey, white = (
        load(resolution=resolution)
        for load in (
            datasets.load_mni152_template,
            datasets.load_mni152_gm_template,
            datasets.load_mni152_wm_template,
        )
    )
    parts = np.stack([np.full(grey.shape, 0.3), grey.get_fdata(), white.get_fdata()])
    return template.get_fdata().astype(np.float32), parts.argmax(0).astype(np.uint8), template.affine


def patients(folder, count=8, planes=None, suffix=".nii.gz"):
    """NIfTI pictures and masks of one brain with noise, every other one stored from right to left; a table of them."""
    picture, tissue, affine = brain()
    random = np.random.RandomState(0)
    rows = []
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        noisy, mask, where = picture + random.randn(*picture.shape).astype(np.float32) * 0.05, tissue, affine
        if planes is not None:
            noisy, mask = noisy[:, :, planes : planes + 1], mask[:, :, planes : planes + 1]
        if number % 2:
            noisy, mask = noisy[::-1], mask[::-1]
            where = affine @ np.diag([-1, 1, 1, 1])
            where[0, 3] = -affine[0, 3]
        names = [f"{number}{kind}{suffix}" for kind in ("", "-tissue")]
        for name, values in zip(names, (noisy, mask)):
            nibabel.Nifti1Image(np.ascontiguousarray(values), where).to_filename(folder / name)
        rows.append({"image": names[0], "mask": names[1], "group": f"patient {number // 2}"})
    return table(folder / "list.csv", rows)
