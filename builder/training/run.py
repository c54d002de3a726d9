"""The story: a configuration becomes weights with a card, epoch by epoch, from where it was cut off if it was."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from builder.data.recipe import PreprocessRecipe
from builder.errors import DataError, ManifestError, TrainingError
from builder.machine import signals
from builder.training import augment, checkpoint, data, datasets, loop, products, records, student
from builder.training.config import Run
from builder.training.data import Batches, Examples, Pictures, Split
from builder.training.loop import Job, Progress, Sums
from builder.training.machine import Machine, machine
from builder.training.student import Student
from builder.util.usercode import undone

if TYPE_CHECKING:
    from torch import nn

PROBED = 2


class Watcher:
    """Told how a run gets on; this one is told in vain."""

    def stage(self, text: str, total: int = 0) -> None:
        """Another thing is begun, of `total` parts."""

    def advance(self, done: int) -> None:
        """So many of the stage's parts are done."""

    def epoch(self, record: dict[str, float]) -> None:
        """An epoch is over."""

    def say(self, text: str) -> None:
        """Something that one should know."""


@dataclass(frozen=True)
class Result:
    weights: Path
    best: dict[str, Any]
    history: list[dict[str, float]]
    resumed_at: int
    """Epoch that the run was taken up in; 0: it was begun."""
    stopped_early: bool


class Stopped(Exception):
    """The run was asked to end, and can be resumed."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def train(run: Run, fresh: bool = False, watcher: Watcher | None = None) -> Result:
    """Train, or go on training. Raises BuilderError; Stopped after SIGINT or SIGTERM, with a checkpoint written."""
    watcher = watcher or Watcher()
    with undone(), _foreign_errors(run), machine(run.config) as place, _folder(run.out, place):
        split = load_data(run, watcher)
        state = None if fresh else checkpoint.load(run.out)
        pupil = student.make(run, len(split.labels))
        if pupil.note and place.is_first:
            watcher.say(f"weights: {pupil.note}")
        if run.config.data.check and place.is_first and not (state and state["data"] == split.digest):
            check_data(split, pupil.recipe, watcher)
        job = make_job(run, place, split, pupil)
        job.say = watcher.say if place.is_first else job.say
        progress, sums = _resumed(run, job, split, state) if state else (Progress(), Sums.none(place))
        resumed_at = progress.epoch if state else 0
        if place.is_first and not state:
            products.write_samples(run, split, pupil.recipe)
        with stop_asked(place) as asked:
            _epochs(job, progress, sums, _Around(run, split, pupil, watcher, asked))
        if place.is_first and not products.draw(run.out, progress, split):
            watcher.say("no pictures of the curves without matplotlib: pip install matplotlib")
        is_early = progress.epoch <= run.config.epochs
        return Result(run.out / checkpoint.BEST, progress.best, progress.history, resumed_at, is_early)


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
        raise TrainingError(DECODER_ENDED) from None  # it was ended while a picture came through its pipe
    except OSError as error:
        raise TrainingError(f"{error.filename or run.out}: {error.strerror or error}") from None
    except torch.OutOfMemoryError:
        raise TrainingError(f"the memory does not hold batches of {run.config.batch_size}; lower batch_size") from None
    except RuntimeError as error:
        if "can't allocate memory" in str(error):
            raise TrainingError(
                f"there is no memory for batches of {run.config.batch_size}; lower batch_size"
            ) from None
        if "DataLoader worker" not in str(error):
            raise
        raise TrainingError(DECODER_ENDED) from None


def _epochs(job: Job, progress: Progress, sums: Sums, around: _Around) -> None:
    config = job.config
    with _events(around.run.out, progress, job.machine) as add_event:
        while progress.epoch <= config.epochs and not is_stale(progress, config.patience):
            record = one_epoch(job, progress, sums, around)
            sums = Sums.none(job.machine)
            add_event(record)
            around.watcher.epoch(record)
            if around.asked.number and progress.epoch <= config.epochs:
                raise Stopped(around.asked.number)


@contextlib.contextmanager
def _folder(out: Path, place: Machine) -> Iterator[None]:
    """The run's own, for this run alone."""
    lock = FileLock(out / ".lock", timeout=0)
    try:
        out.mkdir(parents=True, exist_ok=True)
        if place.is_first:
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
def stop_asked(place: Machine) -> Iterator[signals.Signals]:
    """The signal that came, once one has; a second SIGINT ends the process at once.

    Several processes cannot agree on a step to stop at, so there the first does.
    """
    if place.world > 1 or threading.current_thread() is not threading.main_thread():
        yield signals.Signals()
        return
    with signals.asked() as came:
        yield came


def load_data(run: Run, watcher: Watcher) -> Split:
    """Raises DataError, ManifestError."""
    watcher.stage("reading the data")
    try:
        split = datasets.find(run.config.data.set).load(run.config.data, run.base, run.config.seed)
    except DataError as error:
        raise DataError(f"data {run.config.data.set}: {error}") from None
    except ManifestError as error:
        raise run.error(str(error), "data") from None
    labels = run.config.labels or split.labels
    if len(labels) != len(split.labels) or len(set(labels)) != len(labels):
        raise run.error(
            f"there are {len(labels)} labels for {len(split.labels)} classes; give each class its own", "labels"
        )
    if any("\n" in label or not label for label in labels):
        raise run.error("a label is one line of text and not empty", "labels")
    return Split(split.name, split.train, split.heldout, tuple(labels), split.digest, split.facts)


def check_data(split: Split, recipe: PreprocessRecipe, watcher: Watcher) -> None:
    """Decode every file before hours are spent. Raises DataError."""
    for name, pictures in _parts(split):
        watcher.stage(f"checking the images ({name})", len(pictures))
        data.check(pictures, recipe, watcher.advance)


def make_job(run: Run, place: Machine, split: Split, pupil: Student) -> Job:
    """The network, the loaders and the optimizer, ready for the first step. Raises BuilderError."""
    import torch

    config, recipe = run.config, pupil.recipe
    examples = _examples(run, split, recipe)
    probed = [examples["heldout"][1, i % len(split.heldout)][0] for i in range(PROBED)]
    student.probe(pupil, torch.stack(probed), len(split.labels), config.network)
    layout = torch.channels_last if place.channels_last else torch.contiguous_format
    module = pupil.module.to(place.device, memory_format=layout)  # type: ignore[call-overload]
    batches = Batches(len(split.train), config.batch_size, config.seed, place.rank, place.world)
    in_order = Batches(len(split.heldout), config.batch_size, None, place.rank, place.world)
    workers = {name: data.worker_count(config.data.workers, part, place.on_gpu) for name, part in _parts(split)}
    learning = student.learning(pupil, run)
    return Job(
        config=config,
        machine=place,
        module=module,
        train=data.loader(examples["train"], batches, workers["train"], place.on_gpu),
        heldout=data.loader(examples["heldout"], in_order, workers["heldout"], place.on_gpu),
        batches=batches,
        criterion=_criterion(run, split).to(place.device),
        optimizer=loop.make_optimizer(module, config, learning),
        learning=learning,
        classes=len(split.labels),
    )


def _parts(split: Split) -> tuple[tuple[str, Pictures], ...]:
    return (("train", split.train), ("heldout", split.heldout))


def _examples(run: Run, split: Split, recipe: PreprocessRecipe) -> dict[str, Examples]:
    chance = run.config.seed if augment.has_chance(run.config.augment) else None
    transform = augment.training_transform(recipe, run.config.augment)
    return {
        "train": Examples(split.train, recipe, transform, chance),
        "heldout": Examples(split.heldout, recipe, recipe.reference_transform(), None),
    }


def _criterion(run: Run, split: Split) -> nn.Module:
    import torch

    weights = run.config.class_weights
    if weights == "balanced":
        counts = torch.bincount(torch.tensor(split.train.classes), minlength=len(split.labels)).clamp(min=1)
        tensor = len(split.train) / (len(split.labels) * counts.float())
    elif weights:
        if len(weights) != len(split.labels):
            raise run.error(f"there are {len(weights)} weights for {len(split.labels)} classes", "class_weights")
        tensor = torch.tensor(weights)
    else:
        tensor = None
    return torch.nn.CrossEntropyLoss(weight=tensor, label_smoothing=run.config.label_smoothing)


def _resumed(run: Run, job: Job, split: Split, state: dict[str, Any]) -> tuple[Progress, Sums]:
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
    return loop.restore(job, state)


@contextlib.contextmanager
def _events(out: Path, progress: Progress, place: Machine) -> Iterator[Callable[[dict[str, float]], None]]:
    if not place.is_first:
        yield lambda _: None
        return
    with contextlib.closing(records.Events(out, progress.epoch)) as events:
        yield events.add


@dataclass
class _Around:
    """What epochs need beside the job."""

    run: Run
    split: Split
    pupil: Student
    watcher: Watcher
    asked: signals.Signals


def one_epoch(job: Job, progress: Progress, sums: Sums, around: _Around) -> dict[str, float]:
    """Train, evaluate, keep the best, write the checkpoint; the epoch's record."""
    began = time.perf_counter() - progress.seconds
    loop.begin_epoch(job, progress)
    around.watcher.stage(f"epoch {progress.epoch} of {job.config.epochs}", job.steps)
    loop.train_epoch(job, progress, sums, _Care(job, progress, sums, around, began))
    train_loss, train_accuracy = sums.means(job.machine)
    trained = time.perf_counter() - began
    around.watcher.stage("held-out images")
    found = loop.evaluate(job)
    record = {
        "epoch": progress.epoch,
        "train_loss": train_loss,
        "train_accuracy": train_accuracy,
        "loss": found["loss"],
        "accuracy": found["accuracy"],
        "top5": found["top5"],
        "lr": job.optimizer.param_groups[0]["lr"],
        "seconds": time.perf_counter() - began,
        "images_per_s": len(job.train.dataset) / trained,
    }
    _finish(job, progress, record, found, around)
    return record


def _finish(job: Job, progress: Progress, record: dict[str, float], found: dict[str, Any], around: _Around) -> None:
    """The best first: if the run is cut off between the two, the epoch is repeated and gives it again."""
    is_best = is_better(record, progress.best, job.config.best)
    if is_best:
        progress.best = found | {"epoch": progress.epoch}
    progress.history.append(record)
    progress.epoch, progress.step, progress.seconds = progress.epoch + 1, 0, 0
    if job.machine.is_first:
        if is_best:
            products.keep(around.run, around.split, around.pupil, job.module, progress.best)
        records.write_log(around.run.out, progress.history)
        checkpoint.save(around.run.out, _state(job, progress, Sums.none(job.machine), around))
    job.machine.wait()


class _Care:
    """After each step: shows where the run is, writes a checkpoint now and then, and stops when asked to."""

    def __init__(self, job: Job, progress: Progress, sums: Sums, around: _Around, began: float) -> None:
        self._job, self._progress, self._sums, self._around, self._began = job, progress, sums, around, began
        self._saved = time.perf_counter()

    def __call__(self) -> None:
        self._around.watcher.advance(self._progress.step)
        if self._job.machine.world > 1:
            return
        minutes = (time.perf_counter() - self._saved) / 60
        number = self._around.asked.number
        if number or minutes >= self._job.config.checkpoint_minutes:
            self._save()
        if number:
            raise Stopped(number)

    def _save(self) -> None:
        loop.require_number(self._sums, self._progress)
        self._progress.seconds = time.perf_counter() - self._began
        checkpoint.save(self._around.run.out, _state(self._job, self._progress, self._sums, self._around))
        self._saved = time.perf_counter()


def _state(job: Job, progress: Progress, sums: Sums, around: _Around) -> dict[str, Any]:
    facts = {"run": around.run.settings(), "data": around.split.digest}
    return facts | loop.snapshot(job, progress, sums)


def is_better(record: dict[str, float], best: dict[str, Any], by: str) -> bool:
    """By accuracy, and among equals by loss; or by loss alone."""

    def rank(item: dict[str, Any]) -> tuple[float, ...]:
        return (item["accuracy"], -item["loss"]) if by == "accuracy" else (-item["loss"],)

    return not best or rank(record) > rank(best)


def is_stale(progress: Progress, patience: int | None) -> bool:
    return patience is not None and bool(progress.best) and progress.epoch - 1 - progress.best["epoch"] >= patience
