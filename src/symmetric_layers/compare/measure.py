"""What is measured: scores, disagreement with the mirrored picture, milliseconds."""

import time
from collections.abc import Callable, Mapping
from statistics import median

import torch
from torch import Tensor, nn
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_f1_score

from symmetric_layers.compare.data import IGNORE, Exam, Task
from symmetric_layers.compare.rows import Row
from symmetric_layers.letters import axes, mirrors, orbit_size

Predictor = Callable[[Tensor], Tensor]


def predictor(net: nn.Module, task: Task, row: Row) -> Predictor:
    """From pictures to the probability of each class, averaged over mirrors where the row says so."""

    def once(pictures: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.cat([net(part).softmax(1) for part in pictures.split(64)])

    answer: Predictor = once
    for letter in task.kind if row.average else "":
        answer = _averaged(answer, letter)
    return answer


def _averaged(answer: Predictor, letter: str) -> Predictor:
    """The mean over a picture and its mirror; adding two numbers rounds alike in both orders, so it is exact."""

    def mean(pictures: Tensor) -> Tensor:
        return (answer(pictures) + flip_back(answer(pictures.flip(axes(letter))), letter)) / 2

    return mean


def flip_back(answers: Tensor, letters: str) -> Tensor:
    """Mirrors maps; classes of whole pictures stay as they are."""
    return answers.flip(axes(letters)) if answers.dim() > 2 else answers


def passes(task: Task, row: Row) -> int:
    """How often the network runs for one prediction."""
    return orbit_size(task.kind) if row.average else 1


def score(task: Task, predict: Predictor, pictures: Tensor, targets: Tensor) -> float:
    """Dice (which is F1), pooled over all pixels with a label, mean over classes; or accuracy."""
    found, classes = predict(pictures).argmax(1), len(task.classes)
    if task.maps:
        return float(multiclass_f1_score(found, targets, classes, average="macro", ignore_index=IGNORE))
    return float(multiclass_accuracy(found, targets, classes, average="micro"))


def disagreement(task: Task, predict: Predictor, testing: Exam) -> tuple[float, float]:
    """How often the class changes when the picture is mirrored, and by how much a probability at most does.

    The share is of the pixels in the region, or of the pictures; it is the mean over all mirrors of the task's kind.
    """
    shares, largest = [], 0.0
    straight = predict(testing.pictures)
    for letters in mirrors(task.kind)[1:]:
        mirrored = flip_back(predict(testing.pictures.flip(axes(letters))), letters)
        changed = straight.argmax(1) != mirrored.argmax(1)
        shares.append(float((changed if testing.region is None else changed[testing.region]).double().mean()))
        largest = max(largest, float((straight - mirrored).abs().max()))
    return sum(shares) / len(shares), largest


def measure(task: Task, predict: Predictor, testing: Exam) -> dict[str, float]:
    """All scores of one run."""
    trained, other = (score(task, predict, *side) for side in testing.sides)
    changed, largest = disagreement(task, predict, testing)
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
