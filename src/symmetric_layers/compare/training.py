"""Training, by Lightning."""

import logging
import os
import signal
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from symmetric_layers.compare.data import IGNORE, Task
from symmetric_layers.compare.models import build
from symmetric_layers.compare.rows import Row
from symmetric_layers.letters import axes


class Learner(pl.LightningModule):
    """One network, its loss and its optimizer."""

    weights: Tensor

    def __init__(self, net: nn.Module, task: Task, row: Row, steps: int, weights: Tensor, seed: int) -> None:
        super().__init__()
        self.net, self.task, self.row, self.steps = net, task, row, steps
        self.register_buffer("weights", weights, persistent=False)
        self.random = torch.Generator().manual_seed(seed)

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        """The loss of one batch: cross-entropy over what has a label."""
        pictures, targets = batch
        if self.row.augment:
            pictures, targets = mirror_some(pictures, targets, self.task.kind, self.random)
        return F.cross_entropy(self.net(pictures), targets, self.weights, ignore_index=IGNORE)

    def configure_optimizers(self) -> Any:
        """AdamW under a one-cycle schedule."""
        optimizer = torch.optim.AdamW(self.net.parameters(), lr=self.task.rate, weight_decay=self.task.decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.task.rate, total_steps=self.steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def mirror_some(pictures: Tensor, targets: Tensor, kind: str, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Mirrors each picture, and its map where the targets are maps, along each letter with probability one half."""
    for letter in kind:
        coin = torch.rand(len(pictures), generator=random) < 0.5
        pictures = torch.where(coin[:, None, None, None], pictures.flip(axes(letter)), pictures)
        if targets.dim() > 1:
            targets = torch.where(coin[:, None, None], targets.flip(axes(letter)), targets)
    return pictures, targets


def class_weights(targets: Tensor, classes: int) -> Tensor:
    """Rare classes count more: one over the square root of the frequency, with mean 1."""
    seen = targets[targets != IGNORE]
    weights = torch.bincount(seen, minlength=classes).clamp(min=1).double().rsqrt()
    return (weights / weights.mean()).float()


class Ticks(pl.Callback):
    """Tells a progress bar of every batch."""

    def __init__(self, tick: Callable[[], None]) -> None:
        self.tick = tick

    def on_train_batch_end(self, *_: Any) -> None:
        """One batch is done."""
        self.tick()


def train(
    task: Task, row: Row, samples: int, seed: int, epochs: int, path: Path, tick: Callable[[], None] = lambda: None
) -> None:
    """Trains the network of a row and writes it, with the seconds it took, to a checkpoint."""
    steps = epochs * task.batches
    pictures, targets = task.training(samples, seed, steps * task.batch)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = build(task, row.net)
        learner = Learner(net, task, row, steps, class_weights(targets, len(task.classes)), seed)
        began = time.perf_counter()
        trainer = _fit(learner, DataLoader(TensorDataset(pictures, targets), task.batch), steps, Ticks(tick))
    seconds = time.perf_counter() - began
    state = {"seconds": seconds, "settings": task.settings(epochs)}
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    learner.on_save_checkpoint = lambda checkpoint: checkpoint.update(state)  # type: ignore[method-assign]
    trainer.save_checkpoint(part, weights_only=True)
    os.replace(part, path)


def _fit(learner: Learner, batches: DataLoader, steps: int, ticks: Ticks) -> pl.Trainer:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    before = signal.getsignal(signal.SIGINT)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")  # it advises on workers; the data are in memory
        trainer = pl.Trainer(
            accelerator="cpu",  # the nets are small, and the same command gives the same numbers
            max_steps=steps,
            callbacks=[ticks],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            deterministic=True,
        )
        try:
            trainer.fit(learner, batches)
        except SystemExit as stop:  # what Lightning makes of Ctrl-C, deaf to a second one
            raise KeyboardInterrupt from stop
        finally:
            signal.signal(signal.SIGINT, before)
    if trainer.interrupted:
        raise KeyboardInterrupt
    return trainer


def load(task: Task, row: Row, path: Path, epochs: int) -> tuple[nn.Module, float] | None:
    """The network in a checkpoint, ready to predict, and its seconds of training; None unless it is this one."""
    if not path.is_file():
        return None
    state = torch.load(path, map_location="cpu", weights_only=True)
    if state.get("settings") != task.settings(epochs):
        return None
    net = build(task, row.net)
    net.load_state_dict({name.removeprefix("net."): value for name, value in state["state_dict"].items()})
    return net.eval(), state["seconds"]
