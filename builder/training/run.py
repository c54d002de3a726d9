"""The story: a configuration becomes weights with a card, epoch by epoch, from where it was cut off if it was."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from builder.errors import DataError, ManifestError, TrainingError
from builder.machine import signals
from builder.training import checkpoint, data, datasets, loop, products, trainable
from builder.training.data import Split
from builder.training.epochs import Around, Stopped, Watcher, run_epochs
from builder.training.loop import Progress, Sums
from builder.training.placement import Placement, placement_of
from builder.training.setup import Setup, make
from builder.training.spec import Run
from builder.training.trainable import TrainableNetwork
from builder.util.usercode import undone

__all__ = ["Result", "Stopped", "Watcher", "train"]


@dataclass(frozen=True)
class Result:
    weights: Path
    best: dict[str, Any]
    history: list[dict[str, float]]
    resumed_at: int
    """Epoch that the run was taken up in; 0: it was begun."""
    stopped_early: bool


def train(run: Run, fresh: bool = False, watcher: Watcher | None = None) -> Result:
    """Train, or go on training. Raises BuilderError; Stopped after SIGINT or SIGTERM, with a checkpoint written."""
    watcher = watcher or Watcher()
    with undone(), _foreign_errors(run), placement_of(run.spec) as placement, _folder(run.out, placement):
        # Of several processes the first alone speaks and writes.
        speaks = watcher if placement.is_first else Watcher()
        split = load_data(run, speaks)
        state = None if fresh else checkpoint.load(run.out)
        network = _network(run, split, speaks)
        if placement.is_first:
            _require_decodable(run, split, network, state, speaks)
        setup = make(run, placement, split, network)
        setup.say = speaks.say
        progress, sums = _resumed(run, setup, split, state) if state else (Progress(), Sums.none(placement))
        resumed_at = progress.epoch if state else 0
        if placement.is_first and not state:
            products.write_samples(run, split, network.recipe)
        with stop_asked(placement) as asked:
            run_epochs(setup, progress, sums, Around(run, split, network, watcher, asked))
        if placement.is_first and not products.draw_charts(run.out, progress, split):
            speaks.say("no charts of the run without matplotlib: pip install matplotlib")
        is_early = progress.epoch <= run.spec.epochs
        return Result(run.out / checkpoint.BEST, progress.best, progress.history, resumed_at, is_early)


def _network(run: Run, split: Split, watcher: Watcher) -> TrainableNetwork:
    network = trainable.make(run, len(split.labels))
    if network.note:
        watcher.say(f"weights: {network.note}")
    return network


def _require_decodable(
    run: Run, split: Split, network: TrainableNetwork, state: dict[str, Any] | None, watcher: Watcher
) -> None:
    """Decode every file before hours are spent, unless a run of the same data was begun already. Raises DataError."""
    if not run.spec.data.check or (state and state["data"] == split.digest):
        return
    for name, images in split.parts():
        watcher.stage(f"decoding every image ({name})", len(images))
        data.require_decodable(images, network.recipe, watcher.advance)


DECODER_ENDED = (
    "a process that decodes images was ended, perhaps for want of (shared) memory; give it more, or set "
    "data.workers=0; the same command goes on from the last checkpoint"
)


@contextlib.contextmanager
def _foreign_errors(run: Run) -> Iterator[None]:
    """Those of the system and of PyTorch that a user can do something about."""
    import torch

    try:
        yield
    except (ConnectionError, EOFError):
        raise TrainingError(DECODER_ENDED) from None  # it was ended while an image came through its pipe
    except OSError as error:
        raise TrainingError(f"{error.filename or run.out}: {error.strerror or error}") from None
    except torch.OutOfMemoryError:
        raise TrainingError(f"the memory does not hold batches of {run.spec.batch_size}; lower batch_size") from None
    except RuntimeError as error:
        if "can't allocate memory" in str(error):
            raise TrainingError(f"there is no memory for batches of {run.spec.batch_size}; lower batch_size") from None
        if "DataLoader worker" not in str(error):
            raise
        raise TrainingError(DECODER_ENDED) from None


@contextlib.contextmanager
def _folder(out: Path, placement: Placement) -> Iterator[None]:
    """The run's own, for this run alone."""
    lock = FileLock(out / ".lock", timeout=0)
    try:
        out.mkdir(parents=True, exist_ok=True)
        if placement.is_first:
            lock.acquire()
    except Timeout:
        raise TrainingError(
            f"another run is writing to {out}; wait for it, or name another folder with --out"
        ) from None
    except OSError as error:
        raise TrainingError(f"{error.filename or out} cannot be written: {error.strerror or error}") from None
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def stop_asked(placement: Placement) -> Iterator[signals.Signals]:
    """The signal that came, once one has; a second SIGINT ends the process at once.

    Several processes cannot agree on a step to stop at, so there the first does.
    """
    if placement.world > 1 or threading.current_thread() is not threading.main_thread():
        yield signals.Signals()
        return
    with signals.asked() as came:
        yield came


def load_data(run: Run, watcher: Watcher) -> Split:
    """Raises DataError, ManifestError."""
    watcher.stage("reading the data")
    try:
        split = datasets.find(run.spec.data.set).load(run.spec.data, run.base, run.spec.seed)
    except DataError as error:
        raise DataError(f"data {run.spec.data.set}: {error}") from None
    except ManifestError as error:
        raise run.error(str(error), "data") from None
    labels = run.spec.labels or split.labels
    if len(labels) != len(split.labels) or len(set(labels)) != len(labels):
        raise run.error(
            f"there are {len(labels)} labels for {len(split.labels)} classes; give each class its own", "labels"
        )
    if any("\n" in label or not label for label in labels):
        raise run.error("a label is one line of text and not empty", "labels")
    return Split(split.name, split.train, split.heldout, tuple(labels), split.digest, split.facts)


def _resumed(run: Run, setup: Setup, split: Split, state: dict[str, Any]) -> tuple[Progress, Sums]:
    """Raises TrainingError if the checkpoint is of another run."""
    now, then = run.settings(), state["run"]
    different = sorted(key for key in now.keys() | then.keys() if now.get(key) != then.get(key))
    if state["data"] != split.digest:
        different.append("the images")
    if different:
        raise TrainingError(
            f"{run.out} holds a run with other settings ({', '.join(different)}); name another folder with --out, or "
            "begin anew with --fresh"
        )
    return loop.restore(setup, state)
