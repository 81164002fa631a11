"""Pictures and masks from files: PNG, JPEG, TIFF and NIfTI."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.transforms import EnsureChannelFirst, LoadImage, Orientation, Spacing
from PIL import Image, ImageOps
from skimage.io import imread

from symmetric_layers import SymmetryError
from symmetric_layers.compare.data.listing import Entry, is_volume

UPRIGHT = "IPR"  # planes from the top down, rows from the front to the back, columns from the patient's left to right
_GREY = {"1": "L", "LA": "L", "La": "L", "P": "RGB", "RGBA": "RGB", "RGBa": "RGB", "CMYK": "RGB", "YCbCr": "RGB"}


class Picture(NamedTuple):
    """One picture as it stands in its file.

    Attributes:
        image: `(C, *positions)`; 8 and 16 bits stay what they are.
        mask: `(*positions)`, the values of the mask file, where there is one.
        spacing: millimetres between positions, where the header says so.
        across: whether the header says that the last axis is the patient's left and right; None where it says nothing.
    """

    image: np.ndarray
    mask: np.ndarray | None = None
    spacing: tuple[float, ...] | None = None
    across: bool | None = None


def read(entry: Entry, spacing: tuple[float, ...] | None = None) -> Picture:
    """A picture and its mask, at another spacing where one is asked for."""
    found = _volume(entry, spacing) if is_volume(entry.image) else _flat(entry)
    if found.mask is not None and found.mask.shape != found.image.shape[1:]:
        sizes = [" x ".join(map(str, shape)) for shape in (found.mask.shape, found.image.shape[1:])]
        raise SymmetryError(
            f"--data: the mask {str(entry.mask)!r} is {sizes[0]}. Expected {sizes[1]}, the size of its picture. "
            "Make them alike."
        )
    return found


def _flat(entry: Entry) -> Picture:
    image = _pixels(entry.image)
    image = image[None] if image.ndim == 2 else np.moveaxis(image, -1, 0)
    return Picture(image, None if entry.mask is None else _values(entry.mask))


def _pixels(path: Path) -> np.ndarray:
    if path.suffix.lower() in (".tif", ".tiff"):
        return np.asarray(imread(path))  # PIL reads 16 bits of colour as 8
    with Image.open(path) as image:
        turned = ImageOps.exif_transpose(image)
        return np.asarray(turned.convert(_GREY[turned.mode]) if turned.mode in _GREY else turned)


def _values(path: Path) -> np.ndarray:
    """The numbers in a mask: those of the palette's entries, not of its colours."""
    with Image.open(path) as image:
        found = np.asarray(image).astype(np.int64)
    if found.ndim != 2:
        raise SymmetryError(
            f"--data: the mask {str(path)!r} has colours. Expected one number for every pixel. Save it as grey, or "
            "with a palette."
        )
    return found


def _volume(entry: Entry, spacing: tuple[float, ...] | None) -> Picture:
    first, across = _load(entry.image)
    image: Any = first
    mask = None if entry.mask is None else _load(entry.mask)[0]
    if (
        mask is not None
        and image.shape[1:] == mask.shape[1:]
        and not torch.allclose(image.affine, mask.affine, atol=1e-2)
    ):
        raise SymmetryError(
            f"--data: the header of the mask {str(entry.mask)!r} puts it elsewhere than its picture. Expected the same "
            "affine in both. Resample one to the other."
        )
    image = _upright(image)  # what a plane's rows and columns mean no longer depends on the file
    old = tuple(float(step) for step in image.pixdim)
    if mask is not None:
        mask = _upright(mask)
    if spacing is not None:
        image = _spaced(image, spacing, "bilinear")
        mask = None if mask is None else _spaced(mask, spacing, "nearest")
    deep = [axis for axis, size in enumerate(image.shape[1:]) if size > 1]
    if across is not None:
        across = deep[-1] == 2
    squeezed = image.as_tensor().squeeze(dim=tuple(1 + axis for axis in range(3) if axis not in deep))
    values = None if mask is None else mask.as_tensor()[0].squeeze().round().long().numpy()
    return Picture(squeezed.numpy(), values, tuple(old[axis] for axis in deep), across)


def _upright(volume: Any) -> Any:
    return Orientation(UPRIGHT, labels=(("L", "R"), ("P", "A"), ("I", "S")))(volume)


def _load(path: Path) -> tuple[Any, bool | None]:
    volume: Any = EnsureChannelFirst()(LoadImage(image_only=True, reader="NibabelReader", dtype=np.float32)(path))
    known = any(int(volume.meta.get(name, 0)) > 0 for name in ("sform_code", "qform_code"))
    while volume.dim() < 4:
        volume = volume.unsqueeze(-1)
    return volume, True if known else None


def _spaced(volume: Any, spacing: tuple[float, ...], mode: str) -> Any:
    """At another spacing; an axis of one position has none."""
    wanted = iter(spacing)
    old = [float(step) for step in volume.pixdim]
    steps = [next(wanted) if size > 1 else old[axis] for axis, size in enumerate(volume.shape[1:])]
    if np.allclose(steps, old, rtol=1e-3):
        return volume
    return Spacing(steps, mode=mode, padding_mode="border")(volume)
