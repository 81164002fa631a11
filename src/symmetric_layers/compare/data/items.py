"""What becomes of one picture between its file and the network."""

from typing import Any

import numpy as np
import torch
from monai.transforms import Resize, ResizeWithPadOrCrop, Transform
from torch import Tensor
from torch.utils.data import Dataset

from symmetric_layers.compare.data import IGNORE, length
from symmetric_layers.compare.data.files import read
from symmetric_layers.compare.data.listing import Entry
from symmetric_layers.compare.labels import Pairs, map_seen
from symmetric_layers.letters import axes


class Fit(Transform):
    """Reads a picture, at the common size and spacing; what MONAI keeps in memory."""

    def __init__(
        self, size: tuple[int, ...], spacing: tuple[float, ...] | None, values: tuple[int, ...], labels: tuple[str, ...]
    ) -> None:
        self.size, self.spacing, self.values, self.labels = size, spacing, np.array(values), labels

    def __call__(self, entry: Entry) -> tuple[np.ndarray, Any]:
        """The picture, and its class or map of classes."""
        found = read(entry, self.spacing)
        resize: Any = Resize(self.size, anti_aliasing=True)  # MONAI's hints know tensors only
        crop: Any = ResizeWithPadOrCrop(self.size)
        same = found.image.shape[1:] == self.size
        if found.mask is None:
            image = found.image if same else resize(found.image.astype(np.float32))
            return np.asarray(image), self.labels.index(str(entry.label))
        target = self._classes(found.mask)
        if same:
            return found.image, target
        image = crop(found.image.astype(np.float32))
        padded = crop(target[None], constant_values=IGNORE)
        return np.asarray(image), np.asarray(padded)[0].astype(np.int16)

    def _classes(self, mask: np.ndarray) -> np.ndarray:
        """The places of a mask's values among the classes; what is no class has no label."""
        places = np.searchsorted(self.values, mask).clip(max=len(self.values) - 1)
        return np.where(self.values[places] == mask, places, IGNORE).astype(np.int16)


class Ready:
    """From what is kept in memory to what networks read: mean 0, deviation 1."""

    def __init__(self, scale: tuple[float, float] | None) -> None:
        self.scale = scale

    def __call__(self, item: tuple[np.ndarray, Any]) -> tuple[Tensor, Tensor]:
        """The picture in float32, and its target as whole numbers."""
        image, target = item
        picture = torch.from_numpy(np.ascontiguousarray(image, np.float32))
        mean, deviation = self.scale or (float(picture.mean()), float(picture.std()) + 1e-6)
        return (picture - mean) / deviation, torch.as_tensor(np.asarray(target, np.int64))


class Mirrored(Dataset):
    """The same pictures, and their maps, mirrored along all letters; classes of a pair are exchanged."""

    def __init__(self, pictures: Dataset, letters: str, pairs: Pairs = ()) -> None:
        self.pictures, self.letters, self.pairs = pictures, letters, pairs

    def __len__(self) -> int:
        """As many as there were."""
        return length(self.pictures)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        """One picture and its target."""
        picture, target = self.pictures[number]
        seen = map_seen(target, self.letters, self.pairs) if target.dim() else target
        return picture.flip(axes(self.letters)), seen
