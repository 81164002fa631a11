"""One network in training: its loss, its optimizer, its score on validation pictures."""

from typing import Any

import lightning.pytorch as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

from symmetric_layers.compare.data import IGNORE, Lesson, Task
from symmetric_layers.compare.measure import AT_ONCE, Score
from symmetric_layers.compare.rows import Row
from symmetric_layers.letters import axes


class Learner(pl.LightningModule):
    """One network, what it is trained on, and how."""

    weights: Tensor

    def __init__(self, net: nn.Module, task: Task, row: Row, lesson: Lesson, epochs: int, seed: int) -> None:
        super().__init__()
        self.net, self.task, self.row, self.lesson = net, task, row, lesson
        self.steps = epochs * task.batches
        self.register_buffer("weights", class_weights(lesson.counts), persistent=False)
        self.random = torch.Generator().manual_seed(seed)
        self.validation = task.validation(seed) if task.validation else None

    def train_dataloader(self) -> DataLoader:
        """The pictures of this epoch: a stretch of those of the whole training, so that it can be taken up again."""
        length = self.task.batches * self.task.batch
        begin = self.trainer.current_epoch * length
        part: Dataset = Subset(self.lesson.pictures, range(begin, begin + length))
        return DataLoader(part, self.task.batch, num_workers=self.task.workers)

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        """The loss of one batch: cross-entropy over what has a label."""
        pictures, targets = batch
        if self.row.augment:
            pictures, targets = mirror_some(pictures, targets, self.task.kind, self.random)
        return F.cross_entropy(self.net(pictures), targets, self.weights, ignore_index=IGNORE)

    def val_dataloader(self) -> DataLoader | list[Any]:
        """The pictures that choose the best epoch, where there are any."""
        if self.validation is None:
            return []
        at_once = AT_ONCE if len(self.task.shape) < 4 else 1
        return DataLoader(self.validation, at_once, num_workers=self.task.workers)

    def on_validation_epoch_start(self) -> None:
        """A new score."""
        self.score = Score(self.task)

    def validation_step(self, batch: list[Tensor], index: int) -> None:
        """Counts the answers of one batch."""
        self.score.add(self.net(batch[0]), batch[1])

    def on_validation_epoch_end(self) -> None:
        """Says the score, by which the best epoch is chosen."""
        self.log("validation", self.score.value())

    def configure_optimizers(self) -> Any:
        """AdamW under a one-cycle schedule."""
        optimizer = torch.optim.AdamW(self.net.parameters(), lr=self.task.rate, weight_decay=self.task.decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.task.rate, total_steps=self.steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Random numbers go on where they were, too."""
        checkpoint["random"] = [self.random.get_state(), torch.get_rng_state()]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """As if there had been no interruption."""
        mine, everybodys = checkpoint["random"]
        self.random.set_state(mine)
        torch.set_rng_state(everybodys)


def mirror_some(pictures: Tensor, targets: Tensor, kind: str, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Mirrors each picture, and its map where the targets are maps, along each letter with probability one half."""
    for letter in kind:
        coin = torch.rand(len(pictures), generator=random) < 0.5
        pictures = torch.where(_along(coin, pictures), pictures.flip(axes(letter)), pictures)
        if targets.dim() > 1:
            targets = torch.where(_along(coin, targets), targets.flip(axes(letter)), targets)
    return pictures, targets


def _along(coin: Tensor, batch: Tensor) -> Tensor:
    return coin.reshape(-1, *[1] * (batch.dim() - 1))


def class_weights(counts: Tensor) -> Tensor:
    """Rare classes count more: one over the square root of the frequency, with mean 1."""
    weights = counts.clamp(min=1).double().rsqrt()
    return (weights / weights.mean()).float()
