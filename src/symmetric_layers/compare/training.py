"""Training, by Lightning."""

import os
import signal
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from torch import nn

from symmetric_layers.compare.budget import Course
from symmetric_layers.compare.crew import Crew
from symmetric_layers.compare.data import Task
from symmetric_layers.compare.joined import join_norms
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


def learner(task: Task, row: Row, samples: int, seed: int, course: Course, crew: Crew) -> Learner:
    """The network of a row, the same in every process, ready to be trained."""
    lesson = task.training(samples, seed, course.steps * task.batch)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = Learner(build(task, row.net), task, row, lesson, course, seed, crew.share)
    if crew.scale.processes > 1 and crew.accelerator == "cpu":
        join_norms(made.net)
    return made.double() if crew.scale.precision == "64-true" else made  # before Lightning does, which loads before it


def train(
    task: Task, row: Row, samples: int, seed: int, course: Course, path: Path,
    tick: Callable[[], None] = lambda: None, crew: Crew | None = None, log: Path | None = None,
) -> None:  # fmt: skip
    """Trains the network of a row and writes it, with the seconds it took, to a checkpoint.

    After every epoch the training is written down beside it; one that was cut off goes on from there.
    """
    crew = crew or Crew()
    path.parent.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pupil = learner(task, row, samples, seed, course, crew)
        ticks, best = Ticks(tick), _best(path, pupil)
        left = crew.agree(lambda: _left(path))
        fit(pupil, [ticks, best], crew, left, logger=logger(log, path.stem, left))
    if crew.first:
        state = {"state_dict": read(path.with_name(f"{path.stem}.best.running"))["state_dict"]}
        score = None if best.best_model_score is None else float(best.best_model_score)
        state |= {"seconds": ticks.seconds, "score": score, "settings": course.settings(task)}
        part = path.with_suffix(".part")
        torch.save(state, part)
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
                read(left)
            except (RuntimeError, EOFError, OSError, ValueError):  # cut off while it was written
                left.unlink()
            else:
                return left
    return None


def logger(folder: Path | None, name: str, left: Path | None) -> TensorBoardLogger | bool:
    """Writes loss, score and rate of a training; what an interruption made double is taken back."""
    if folder is None:
        return False
    step = None if left is None else read(left)["global_step"]
    return TensorBoardLogger(folder, name="", version=name, purge_step=step, filename_suffix=f".{step or 0}")


def fit(
    learner: Learner, callbacks: list[pl.Callback], crew: Crew, left: Path | None = None, **more: Any
) -> pl.Trainer:
    """Trains, from where an earlier training was left if there is one."""
    if more.setdefault("logger", False):
        callbacks = [*callbacks, LearningRateMonitor("step")]
    before, deterministic = signal.getsignal(signal.SIGINT), torch.are_deterministic_algorithms_enabled()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")  # it advises on workers; the data are in memory
        trainer = crew.trainer(
            max_epochs=-(-learner.course.steps // learner.task.batches),
            callbacks=callbacks,
            log_every_n_steps=1,
            num_sanity_val_steps=0,
            reload_dataloaders_every_n_epochs=1,
            enable_progress_bar=False,
            enable_model_summary=False,
            **more,
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


def read(path: Path) -> dict[str, Any]:
    """What a checkpoint holds."""
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def kept(task: Task, path: Path, course: Course) -> dict[str, Any] | None:
    """What the checkpoint of a finished training holds; None unless it is this one."""
    state = read(path) if path.is_file() else {}
    return state if state.get("settings") == course.settings(task) else None


def load(task: Task, row: Row, path: Path, course: Course) -> tuple[nn.Module, float] | None:
    """The network in a checkpoint, ready to predict, and its seconds of training; None unless it is this one."""
    state = kept(task, path, course)
    if state is None:
        return None
    with torch.random.fork_rng(devices=[]):
        net = build(task, row.net)
    net.load_state_dict({name.removeprefix("net."): value for name, value in state["state_dict"].items()})
    return net.eval(), state["seconds"]
