"""What is measured: scores, disagreement with the mirrored picture, milliseconds."""

import time
from collections.abc import Callable, Iterator, Mapping
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchmetrics.classification import MulticlassStatScores

from symmetric_layers.compare.data import IGNORE, Exam, Task
from symmetric_layers.compare.labels import Pairs, answers_seen
from symmetric_layers.compare.rows import Row
from symmetric_layers.letters import axes, mirrors, orbit_size

Predictor = Callable[[Tensor], Tensor]
AT_ONCE = 64  # pictures that are predicted at once; volumes go one by one


def predictor(net: nn.Module, task: Task, row: Row) -> Predictor:
    """From pictures to the probability of each class, averaged over mirrors where the row says so."""
    device = next((weight.device for weight in net.parameters()), torch.device("cpu"))

    def once(pictures: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.cat([net(part.to(device)).softmax(1).cpu() for part in pictures.split(AT_ONCE)])

    answer: Predictor = once
    for letter in task.kind if row.average else "":
        answer = _averaged(answer, letter, task.pairs)
    return answer


def _averaged(answer: Predictor, letter: str, pairs: Pairs) -> Predictor:
    """The mean over a picture and its mirror; adding two numbers rounds alike in both orders, so it is exact."""

    def mean(pictures: Tensor) -> Tensor:
        return (answer(pictures) + answers_seen(answer(pictures.flip(axes(letter))), letter, pairs)) / 2

    return mean


def passes(task: Task, row: Row) -> int:
    """How often the network runs for one prediction."""
    return orbit_size(task.kind) if row.average else 1


class Score:
    """Dice, pooled over all pixels with a label, mean over the classes that occur; or accuracy."""

    def __init__(self, task: Task, together: bool = False) -> None:
        self.task = task  # and the answers are those of all processes, or of this one
        how: Any = {"ignore_index": IGNORE, "validate_args": False, "sync_on_compute": together}
        self.counts = MulticlassStatScores(len(task.classes), average=None, **how)

    def add(self, answers: Tensor, targets: Tensor) -> None:
        """Counts the answers of one batch, `(N, classes, ...)`."""
        self.counts.to(answers.device).update(answers.argmax(1), targets)

    def value(self) -> float:
        """The score of all batches so far."""
        hits, wrong, _, missed, _ = self.counts.compute().double().unbind(1)
        if not self.task.maps:
            return float(hits.sum() / (hits + missed).sum())
        hits, sizes = hits[self.task.scored :], (2 * hits + wrong + missed)[self.task.scored :]
        return float((2 * hits[sizes > 0] / sizes[sizes > 0]).mean())


def batches(task: Task, pictures: Dataset) -> Iterator[list[Tensor]]:
    """Pictures and targets, as many at once as memory surely bears."""
    return iter(DataLoader(pictures, AT_ONCE if len(task.shape) < 4 else 1, num_workers=task.workers))


def score(task: Task, predict: Predictor, pictures: Dataset) -> float:
    """The score of a network on pictures with targets."""
    found = Score(task)
    for some, targets in batches(task, pictures):
        found.add(predict(some), targets)
    return found.value()


def disagreement(task: Task, predict: Predictor, pictures: Dataset) -> tuple[float, float]:
    """How often the class changes when the picture is mirrored, and by how much a probability at most does.

    The share is of the pixels that have a class, or of the pictures; it is the mean over all mirrors of the kind.
    """
    changed, counted, largest = 0, 0, 0.0
    for some, truth in batches(task, pictures):
        straight, known = predict(some), truth != IGNORE
        for letters in mirrors(task.kind)[1:]:
            mirrored = answers_seen(predict(some.flip(axes(letters))), letters, task.pairs)
            changed += int((straight.argmax(1) != mirrored.argmax(1))[known].sum())
            counted += int(known.sum())
            largest = max(largest, float((straight - mirrored).abs().max()))
    return changed / max(counted, 1), largest


def measure(task: Task, predict: Predictor, testing: Exam) -> dict[str, float]:
    """All scores of one run."""
    trained, other = (score(task, predict, side) for side in testing.sides)
    changed, largest = disagreement(task, predict, testing.pictures)
    return {"trained": trained, "other": other, "changed": changed, "largest_difference": largest}


def milliseconds(predictors: Mapping[str, Predictor], picture: Tensor, rounds: int = 30) -> dict[str, float]:
    """The median time to predict one picture, all rows taking turns, after some rounds of warming up."""
    times: dict[str, list[float]] = {name: [] for name in predictors}
    for turn in range(rounds + 5):
        for name, predict in predictors.items():
            began = time.perf_counter()
            predict(picture).argmax(1)
            if turn >= 5:
                times[name].append(1000 * (time.perf_counter() - began))
    return {name: median(each) for name, each in times.items()}
