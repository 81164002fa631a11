"""What belongs to somebody's own data set: a folder of classes, or a table."""

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from symmetric_layers import SymmetryError

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".nii", ".nii.gz")
PARTS = {
    "train": "train", "training": "train", "val": "validation", "valid": "validation", "validation": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One picture, and what is known about it.

    Attributes:
        label: its class, where it has one.
        mask: the file with a class for every pixel, where there is one.
        part: `'train'`, `'validation'` or `'test'`, where that is given.
        group: what it shares with others, such as a patient; groups are never torn apart.
    """

    image: Path
    label: str | None = None
    mask: Path | None = None
    part: str | None = None
    group: str | None = None


def entries(path: Path) -> list[Entry]:
    """All pictures of a folder with one subfolder per class, of a table (`.csv`, `.json`) or of a MONAI datalist."""
    if path.is_dir():
        return _folder(path)
    if path.suffix.lower() == ".csv":
        with _opened(path) as file:
            rows: Iterable[Mapping[str, Any]] = list(csv.DictReader(file))
    else:
        rows = _json(path)
    found = [_entry(path, number, row) for number, row in enumerate(rows, 1)]
    if not found:
        raise _refusal(path, "lists no pictures", "a line for every picture", "Fill the table.")
    if len({entry.mask is None for entry in found}) > 1:
        raise _refusal(path, "gives some pictures a label and others a mask", "one of them", "Fill one column only.")
    return found


def is_picture(path: Path) -> bool:
    """Whether a file's name is that of a picture which can be read."""
    return path.name.lower().endswith(SUFFIXES) and not path.name.startswith(".")


def is_volume(path: Path) -> bool:
    """Whether a file's name is that of NIfTI."""
    return path.name.lower().endswith((".nii", ".nii.gz"))


def _folder(path: Path) -> list[Entry]:
    classes = sorted(child for child in path.iterdir() if child.is_dir() and not child.name.startswith("."))
    if len(classes) < 2:
        raise _refusal(
            path, f"has {len(classes)} subfolders", "at least two, one for every class", "Sort the pictures into some."
        )
    found = []
    for folder in classes:
        pictures = sorted(child for child in folder.rglob("*") if is_picture(child))
        if not pictures:
            kinds = ", ".join(SUFFIXES)
            raise _refusal(
                folder, "is a class without pictures", f"files that end in {kinds}", "Fill it, or remove it."
            )
        found += [Entry(picture, label=folder.name) for picture in pictures]
    return found


def _opened(path: Path) -> Any:
    try:
        return path.open(encoding="utf-8-sig", newline="")
    except OSError as error:
        raise _refusal(path, f"cannot be read ({error.strerror})", "a folder or a table", "Name another.") from None


def _json(path: Path) -> list[Mapping[str, Any]]:
    with _opened(path) as file:
        try:
            content = json.load(file)
        except ValueError as error:
            raise _refusal(path, f"is no JSON ({error})", "a list of objects", "Mend the file.") from None
    if isinstance(content, dict):  # a datalist in the format of the medical segmentation decathlon
        content = [
            {"split": part, **row}
            for part in ("training", "validation", "test")
            for row in content.get(part, [])
            if isinstance(row, dict)  # its test pictures have no labels: they are names, and no use here
        ]
        if not any(row["split"] != "training" for row in content):
            content = [{**row, "split": None} for row in content]
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        raise _refusal(path, "is no list of objects", "[{'image': ..., 'label': ...}, ...]", "Write it so.")
    return content


def _entry(path: Path, number: int, row: Mapping[str, Any]) -> Entry:
    image, label, mask, part, group = (
        str(row[name]).strip() if row.get(name) not in (None, "") else None
        for name in ("image", "label", "mask", "split", "group")
    )
    if mask is None and label is not None and label.lower().endswith(SUFFIXES):
        label, mask = None, label
    if image is None or (label is None) == (mask is None):
        raise _refusal(
            path, f"says too little or too much in line {number}", "an image, and a label or a mask", "Mend that line."
        )
    if part is not None and part.lower() not in PARTS:
        raise _refusal(path, f"has the split {part!r} in line {number}", "train, validation or test", "Mend that line.")
    files = [None if name is None else path.parent / name for name in (image, mask)]
    for file in files:
        if file is not None and not file.is_file():
            raise _refusal(path, f"names {str(file)!r} in line {number}, which is no file", "files", "Mend that line.")
    if mask is not None and is_volume(path / mask) != is_volume(path / image):
        raise _refusal(path, f"mixes NIfTI and others in line {number}", "both or neither as NIfTI", "Convert one.")
    return Entry(files[0] or path, label, files[1], part and PARTS[part.lower()], group)


def _refusal(path: Path, what: str, expected: str, advice: str) -> SymmetryError:
    return SymmetryError(f"--data: {str(path)!r} {what}. Expected {expected}. {advice}")
