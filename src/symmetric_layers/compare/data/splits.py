"""Which pictures are trained on, which choose the best epoch, which are tested."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from sklearn.model_selection import GroupShuffleSplit, StratifiedGroupKFold, StratifiedShuffleSplit

from symmetric_layers import SymmetryError
from symmetric_layers.compare.data.listing import Entry

FOLDS = 5  # a fifth is tested, and a fifth of the rest chooses the best epoch
TEST_SEED = 0  # one test set for all seeds, so that no choice of another seed has seen it


class Split:
    """The pictures of each part, by number."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = entries
        every = np.arange(len(entries))
        given = np.array([entry.part or "train" for entry in entries])
        self.given = sorted({entry.part for entry in entries if entry.part})
        self.test, self.rest = every[given == "test"], every[given != "test"]
        if not len(self.test):
            self.rest, self.test = self._cut(self.rest, TEST_SEED)
        self._given_validation = every[given == "validation"]
        self._check()

    def parts(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """The pictures for training and for validation."""
        if len(self._given_validation):
            return np.setdiff1d(self.rest, self._given_validation), self._given_validation
        return self._cut(self.rest, seed)

    def _cut(self, numbers: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """A fifth off: whole groups, and every class alike."""
        labels = [self.entries[number].label for number in numbers]
        groups = [self.entries[number].group or f" {number}" for number in numbers]
        if labels[0] is None:
            cutter = GroupShuffleSplit(1, test_size=1 / FOLDS, random_state=seed)
        elif len(set(groups)) == len(groups):
            cutter = StratifiedShuffleSplit(1, test_size=1 / FOLDS, random_state=seed)
        else:
            cutter = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
        try:
            kept, cut = next(
                cutter.split(numbers, labels, None if isinstance(cutter, StratifiedShuffleSplit) else groups)
            )
        except ValueError as error:
            raise SymmetryError(
                f"--data: the pictures cannot be split ({str(error).splitlines()[0].rstrip('.')}). Expected enough "
                "pictures (and groups) of every class for training, validation and test. Add some, or give a split."
            ) from None
        return np.sort(numbers[kept]), np.sort(numbers[cut])

    def _check(self) -> None:
        """No group on both sides of the test; every class on each side."""
        train, test = ({self.entries[number].group for number in part} - {None} for part in (self.rest, self.test))
        for group in sorted(map(str, train & test)):
            raise SymmetryError(
                f"--data: the group {group!r} is in training and in test. Expected each group on one side. "
                "Mend the column split."
            )
        seen = [Counter(self.entries[number].label for number in part) for part in (self.rest, self.test)]
        for name in sorted({str(entry.label) for entry in self.entries if entry.label is not None}):
            if not all(part[name] for part in seen):
                raise SymmetryError(
                    f"--data: the class {name!r} is missing in {'training' if not seen[0][name] else 'test'}. Expected "
                    "every class in both. Add pictures, or mend the column split."
                )


def in_turn(labels: Sequence[str | None], random: np.random.RandomState) -> np.ndarray:
    """An order in which every stretch from the beginning holds all classes in their proportions."""
    order = random.permutation(len(labels))
    totals, seen, places = Counter(labels), Counter[str | None](), np.zeros(len(labels))
    for number in order:
        label = labels[number]
        places[number] = (seen[label] + 0.5) / totals[label]
        seen[label] += 1
    return order[np.argsort(places[order], kind="stable")]
