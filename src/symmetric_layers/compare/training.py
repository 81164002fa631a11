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
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

from symmetric_layers.compare.data import Task
from symmetric_layers.compare.learner import Learner
from symmetric_layers.compare.rows import Row
from symmetric_layers.compare.twins import build


class Ticks(pl.Callback):
    """Tells a progress bar of every batch, and counts seconds across interruptions."""

    def __init__(self, tick: Callable[[], None]) -> None:
        self.tick = tick
        self.before = 0.0
        self.began = time.perf_counter()

    @property
    def seconds(self) -> float:
        """How long the training has taken so far."""
        return self.before + time.perf_counter() - self.began

    def on_train_batch_end(self, *_: Any) -> None:
        """One batch is done."""
        self.tick()

    def state_dict(self) -> dict[str, Any]:
        """The seconds of the epochs that need not be repeated."""
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up the count."""
        self.before = state_dict["seconds"]


def train(
    task: Task, row: Row, samples: int, seed: int, epochs: int, path: Path, tick: Callable[[], None] = lambda: None
) -> None:
    """Trains the network of a row and writes it, with the seconds it took, to a checkpoint.

    After every epoch the training is written down beside it; one that was cut off goes on from there.
    """
    lesson = task.training(samples, seed, epochs * task.batches * task.batch)
    path.parent.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        learner = Learner(build(task, row.net), task, row, lesson, epochs, seed)
        ticks, best = Ticks(tick), _best(path, learner)
        trainer = _fit(learner, epochs, [ticks, best], _left(path))
    if learner.validation is not None:
        learner.load_state_dict(_read(Path(best.best_model_path))["state_dict"])
    state = {"seconds": ticks.seconds, "settings": task.settings(epochs)}
    learner.on_save_checkpoint = lambda checkpoint: checkpoint.update(state)  # type: ignore[method-assign]
    part = path.with_suffix(".part")
    trainer.save_checkpoint(part, weights_only=True)
    os.replace(part, path)
    for other in path.parent.glob(f"{path.stem}.*.running"):
        other.unlink()


def _best(path: Path, learner: Learner) -> ModelCheckpoint:
    """Keeps the last epoch, to go on from, and the best one, if there are validation pictures to tell."""
    kept = ModelCheckpoint(
        path.parent,
        filename=f"{path.stem}.best",
        monitor=None if learner.validation is None else "validation",
        mode="max",
        save_last=learner.validation is not None,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    kept.CHECKPOINT_NAME_LAST = f"{path.stem}.last"
    kept.FILE_EXTENSION = ".running"
    return kept


def _left(path: Path) -> Path | None:
    """What an earlier training that was cut off has left to go on from."""
    for name in ("last", "best"):
        left = path.with_name(f"{path.stem}.{name}.running")
        if left.is_file():
            try:
                _read(left)
            except (RuntimeError, EOFError, OSError, ValueError):  # cut off while it was written
                left.unlink()
            else:
                return left
    return None


def _fit(learner: Learner, epochs: int, callbacks: list[pl.Callback], left: Path | None) -> pl.Trainer:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    before, deterministic = signal.getsignal(signal.SIGINT), torch.are_deterministic_algorithms_enabled()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")  # it advises on workers; the data are in memory
        trainer = pl.Trainer(
            accelerator="cpu",  # the nets are small, and the same command gives the same numbers
            max_epochs=epochs,
            callbacks=callbacks,
            logger=False,
            num_sanity_val_steps=0,
            reload_dataloaders_every_n_epochs=1,
            enable_progress_bar=False,
            enable_model_summary=False,
            deterministic=True,
        )
        try:
            trainer.fit(learner, ckpt_path=left, weights_only=True)
        except SystemExit as stop:  # what Lightning makes of Ctrl-C, deaf to a second one
            raise KeyboardInterrupt from stop
        finally:
            signal.signal(signal.SIGINT, before)
            torch.use_deterministic_algorithms(deterministic)
    if trainer.interrupted:
        raise KeyboardInterrupt
    return trainer


def _read(path: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def load(task: Task, row: Row, path: Path, epochs: int) -> tuple[nn.Module, float] | None:
    """The network in a checkpoint, ready to predict, and its seconds of training; None unless it is this one."""
    if not path.is_file():
        return None
    state = torch.load(path, map_location="cpu", weights_only=True)
    if state.get("settings") != task.settings(epochs):
        return None
    with torch.random.fork_rng(devices=[]):
        net = build(task, row.net)
    net.load_state_dict({name.removeprefix("net."): value for name, value in state["state_dict"].items()})
    return net.eval(), state["seconds"]
