"""The epochs of a run: train, evaluate, keep the best, write the checkpoint, and stop when asked to."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.machine import signals
from builder.training import checkpoint, loop, products, records
from builder.training.data import Split
from builder.training.loop import Progress, Sums
from builder.training.placement import Placement
from builder.training.setup import Setup
from builder.training.spec import Run
from builder.training.trainable import TrainableNetwork


class Watcher:
    """What is called as a run gets on. This one does nothing; subclasses show it."""

    def stage(self, text: str, total: int = 0) -> None:
        """A stage begins, such as an epoch; it has `total` parts, 0 if that is not known."""

    def advance(self, done: int) -> None:
        """So many of the stage's parts are done."""

    def epoch(self, record: dict[str, float]) -> None:
        """An epoch is over."""

    def say(self, text: str) -> None:
        """A remark for the user, in one line."""


class Stopped(Exception):
    """The run was asked to end, and can be resumed."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@dataclass
class Around:
    """What epochs need beside the setup: what is trained on what, who is told, and the signal that may come."""

    run: Run
    split: Split
    network: TrainableNetwork
    watcher: Watcher
    asked: signals.Signals


def run_epochs(setup: Setup, progress: Progress, sums: Sums, around: Around) -> None:
    spec = setup.spec
    with _events(around.run.out, progress, setup.placement) as add_event:
        while progress.epoch <= spec.epochs and not is_stale(progress, spec.patience):
            record = one_epoch(setup, progress, sums, around)
            sums = Sums.none(setup.placement)
            add_event(record)
            around.watcher.epoch(record)
            if around.asked.number and progress.epoch <= spec.epochs:
                raise Stopped(around.asked.number)


@contextlib.contextmanager
def _events(out: Path, progress: Progress, placement: Placement) -> Iterator[Callable[[dict[str, float]], None]]:
    if not placement.is_first:
        yield lambda _: None
        return
    with contextlib.closing(records.Events(out, progress.epoch)) as events:
        yield events.add


def one_epoch(setup: Setup, progress: Progress, sums: Sums, around: Around) -> dict[str, float]:
    """Train, evaluate, keep the best, write the checkpoint; the epoch's record."""
    began = time.perf_counter() - progress.seconds
    loop.begin_epoch(setup, progress)
    around.watcher.stage(f"epoch {progress.epoch} of {setup.spec.epochs}", setup.steps)
    loop.train_epoch(setup, progress, sums, _Care(setup, progress, sums, around, began))
    train_loss, train_accuracy = sums.means(setup.placement)
    trained = time.perf_counter() - began
    around.watcher.stage("held-out images")
    found = loop.evaluate(setup)
    record = {
        "epoch": progress.epoch,
        "train_loss": train_loss,
        "train_accuracy": train_accuracy,
        "loss": found["loss"],
        "accuracy": found["accuracy"],
        "top5": found["top5"],
        "lr": setup.optimizer.param_groups[0]["lr"],
        "seconds": time.perf_counter() - began,
        "images_per_s": len(setup.train.dataset) / trained,
    }
    _finish(setup, progress, record, found, around)
    return record


def _finish(setup: Setup, progress: Progress, record: dict[str, float], found: dict[str, Any], around: Around) -> None:
    """The best first: if the run is cut off between the two, the epoch is repeated and gives it again."""
    is_best = is_better(record, progress.best, setup.spec.best)
    if is_best:
        progress.best = found | {"epoch": progress.epoch}
    progress.history.append(record)
    progress.epoch, progress.step, progress.seconds = progress.epoch + 1, 0, 0
    if setup.placement.is_first:
        if is_best:
            products.keep(around.run, around.split, around.network, setup.module, progress.best)
        records.write_log(around.run.out, progress.history)
        checkpoint.save(around.run.out, _state(setup, progress, Sums.none(setup.placement), around))
    setup.placement.wait()


class _Care:
    """After each step: shows where the run is, writes a checkpoint now and then, and stops when asked to."""

    def __init__(self, setup: Setup, progress: Progress, sums: Sums, around: Around, began: float) -> None:
        self._setup, self._progress, self._sums, self._around, self._began = setup, progress, sums, around, began
        self._saved = time.perf_counter()

    def __call__(self) -> None:
        self._around.watcher.advance(self._progress.step)
        if self._setup.placement.world > 1:
            return
        minutes = (time.perf_counter() - self._saved) / 60
        number = self._around.asked.number
        if number or minutes >= self._setup.spec.checkpoint_minutes:
            self._save()
        if number:
            raise Stopped(number)

    def _save(self) -> None:
        loop.require_number(self._sums, self._progress)
        self._progress.seconds = time.perf_counter() - self._began
        checkpoint.save(self._around.run.out, _state(self._setup, self._progress, self._sums, self._around))
        self._saved = time.perf_counter()


def _state(setup: Setup, progress: Progress, sums: Sums, around: Around) -> dict[str, Any]:
    facts = {"run": around.run.settings(), "data": around.split.digest}
    return facts | loop.snapshot(setup, progress, sums)


def is_better(record: dict[str, float], best: dict[str, Any], by: str) -> bool:
    """Whether an epoch's record beats the best so far: `by` accuracy, among equals by loss; or by loss alone."""

    def rank(item: dict[str, Any]) -> tuple[float, ...]:
        return (item["accuracy"], -item["loss"]) if by == "accuracy" else (-item["loss"],)

    return not best or rank(record) > rank(best)


def is_stale(progress: Progress, patience: int | None) -> bool:
    return patience is not None and bool(progress.best) and progress.epoch - 1 - progress.best["epoch"] >= patience
