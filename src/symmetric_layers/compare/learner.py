"""One network in training: its loss, its optimizer, its score on validation pictures."""

from typing import Any

import lightning.pytorch as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

from symmetric_layers.compare.budget import Course
from symmetric_layers.compare.data import IGNORE, Lesson, Task, length
from symmetric_layers.compare.labels import Pairs, map_seen
from symmetric_layers.compare.measure import AT_ONCE, Score
from symmetric_layers.compare.rows import Row
from symmetric_layers.compare.scale import ALONE, Share
from symmetric_layers.letters import axes


class Learner(pl.LightningModule):
    """One network, what it is trained on, and how."""

    weights: Tensor

    def __init__(
        self, net: nn.Module, task: Task, row: Row, lesson: Lesson, course: Course, seed: int, share: Share = ALONE
    ) -> None:
        super().__init__()
        self.net, self.task, self.row, self.lesson, self.course, self.share = net, task, row, lesson, course, share
        self.register_buffer("weights", class_weights(lesson.counts), persistent=False)
        self.random = torch.Generator().manual_seed(seed)
        self.validation = task.validation(seed) if task.validation else None

    def train_dataloader(self) -> DataLoader:
        """The pictures of this epoch: a stretch of those of the whole training, so that it can be taken up again."""
        pictures = self.task.batches * self.task.batch
        begin = self.trainer.current_epoch * pictures
        end = min(begin + pictures, self.course.steps * self.task.batch)
        part: Dataset = Subset(self.lesson.pictures, range(begin + self.share.rank, end, self.share.of))
        return DataLoader(part, self.task.batch // self.share.of, num_workers=self.task.workers)

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        """The loss of one batch: cross-entropy over what has a label."""
        pictures, targets = batch
        if self.row.augment:
            kind, pairs = self.task.kind, self.task.pairs
            pictures, targets = mirror_some(pictures, targets, kind, self.random, self.share, pairs)
        loss = self._loss(self.net(pictures), targets)
        if self.trainer.loggers:
            self.log("loss", loss.detach(), sync_dist=True)
        return loss

    def _loss(self, answers: Tensor, targets: Tensor) -> Tensor:
        """The mean over a whole batch: shares with few labels, or frequent ones, count less than others.

        Gradients are averaged over processes; so each process divides what it adds by the weights of all of them.
        """
        if self.share.of == 1:
            return F.cross_entropy(answers, targets, self.weights, ignore_index=IGNORE)
        added = F.cross_entropy(answers, targets, self.weights, ignore_index=IGNORE, reduction="sum")
        weight = self.weights[targets[targets != IGNORE]].sum()
        return self.share.of * added / self.trainer.strategy.reduce(weight, reduce_op="sum")

    def val_dataloader(self) -> DataLoader | list[Any]:
        """The pictures that choose the best epoch, where there are any."""
        if self.validation is None:
            return []
        at_once = AT_ONCE if len(self.task.shape) < 4 else 1
        return DataLoader(Part(self.validation, self.share), at_once, num_workers=self.task.workers)

    def on_validation_epoch_start(self) -> None:
        """A new score."""
        self.score = Score(self.task, together=True)

    def validation_step(self, batch: list[Tensor], index: int) -> None:
        """Counts the answers of one batch."""
        self.score.add(self.net(batch[0]), batch[1])

    def on_validation_epoch_end(self) -> None:
        """Says the score, by which the best epoch is chosen."""
        self.log("validation", self.score.value())

    def configure_optimizers(self) -> Any:
        """AdamW under a one-cycle schedule."""
        optimizer = torch.optim.AdamW(self.net.parameters(), lr=self.course.rate, weight_decay=self.task.decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.course.rate, total_steps=self.course.steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Random numbers go on where they were, too."""
        checkpoint["random"] = [self.random.get_state(), torch.get_rng_state()]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """As if there had been no interruption."""
        mine, everybodys = checkpoint["random"]
        self.random.set_state(mine)
        torch.set_rng_state(everybodys)


def mirror_some(
    pictures: Tensor, targets: Tensor, kind: str, random: torch.Generator, share: Share = ALONE, pairs: Pairs = ()
) -> tuple[Tensor, Tensor]:
    """Mirrors each picture, and its map where the targets are maps, along each letter with probability one half.

    Along `h` the classes of a pair are exchanged in the map. A process with a share of a batch mirrors the pictures
    that one process with the whole batch would.
    """
    for letter in kind:
        whole = torch.rand(len(pictures) * share.of, generator=random) < 0.5
        coin = whole[share.rank :: share.of].to(pictures.device)
        pictures = torch.where(_along(coin, pictures), pictures.flip(axes(letter)), pictures)
        if targets.dim() > 1:
            targets = torch.where(_along(coin, targets), map_seen(targets, letter, pairs), targets)
    return pictures, targets


class Part(Dataset):
    """The share of one process. All are of one size: what is over has no label, and counts nowhere."""

    def __init__(self, pictures: Dataset, share: Share) -> None:
        self.pictures, self.share = pictures, share

    def __len__(self) -> int:
        """As many as the first process has."""
        return -(-length(self.pictures) // self.share.of)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        """One picture and its target."""
        place = self.share.rank + number * self.share.of
        if place < length(self.pictures):
            return self.pictures[place]
        picture, target = self.pictures[0]
        return picture, torch.full_like(target, IGNORE)


def _along(coin: Tensor, batch: Tensor) -> Tensor:
    return coin.reshape(-1, *[1] * (batch.dim() - 1))


def class_weights(counts: Tensor) -> Tensor:
    """Rare classes count more: one over the square root of the frequency, with mean 1."""
    weights = counts.clamp(min=1).double().rsqrt()
    return (weights / weights.mean()).float()
