"""How `build-repo train` shows where a run is."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from builder.commands.output import print_json, say

if TYPE_CHECKING:
    from rich.progress import Progress

    from builder.training.run import Watcher

Record = dict[str, float]
# How many lines a whole run gets where there is no terminal to draw a bar on.
LINES = 4


class Shown(StrEnum):
    ROWS = "rows"
    BAR = "bar"
    NONE = "none"


@contextmanager
def watching(kind: Shown, epochs: int, as_json: bool) -> Iterator[Watcher]:
    """What is under way on a terminal's standard error; epochs on standard output, all or a few of them."""
    if kind == Shown.NONE:
        yield _watcher()
        return
    with _progress(is_whole=kind == Shown.BAR) as progress:
        told: Callable[[Record], None] = print_json if as_json else print_epoch
        if kind == Shown.ROWS:
            yield _watcher(_Stages(progress), told)
        elif progress.disable:
            yield _watcher(None, few(told, epochs))
        else:
            bar = _Whole(progress, epochs)
            yield _watcher(bar, bar.epoch)


def print_epoch(record: Record) -> None:
    """As the second article's loop prints it, and the held-out loss."""
    print(
        f"epoch {record['epoch']}, loss {record['train_loss']:.4f}, train acc {record['train_accuracy']:.3f}, "
        f"test loss {record['loss']:.4f}, test acc {record['accuracy']:.3f}, time {record['seconds']:.1f} sec",
        flush=True,
    )


def few(told: Callable[[Record], None], epochs: int) -> Callable[[Record], None]:
    """Tells of a few epochs only, evenly, the last among them."""
    chosen = {-(-epochs * number // LINES) for number in range(1, LINES + 1)}

    def tell(record: Record) -> None:
        if record["epoch"] in chosen:
            told(record)

    return tell


def _watcher(drawing: Any = None, told: Callable[[Record], None] = lambda _: None) -> Watcher:
    from builder.training.run import Watcher

    class Drawn(Watcher):
        def stage(self, text: str, total: int = 0) -> None:
            if drawing:
                drawing.stage(text, total)

        def advance(self, done: int) -> None:
            if drawing:
                drawing.advance(done)

        def epoch(self, record: Record) -> None:
            told(record)

        def say(self, text: str) -> None:
            say(text)

    return Drawn()


@contextmanager
def _progress(is_whole: bool) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    count = TextColumn("{task.percentage:>3.0f} %") if is_whole else MofNCompleteColumn()
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(24), count, TimeRemainingColumn())
    shown: Any = {"console": console, "transient": True, "disable": not console.is_terminal}
    # rich would print what goes into a file on the terminal.
    with Progress(*columns, **shown, redirect_stdout=sys.stdout.isatty()) as progress:
        yield progress


class _Stages:
    """A bar for what is under way."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=None)

    def stage(self, text: str, total: int) -> None:
        self._progress.reset(self._task, description=text, total=total or None)

    def advance(self, done: int) -> None:
        self._progress.update(self._task, completed=done)


class _Whole:
    """One bar for the run, with the newest epoch's figures."""

    def __init__(self, progress: Progress, epochs: int) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=epochs)
        self._epochs = epochs
        self._over = 0
        self._steps = 0
        self._figures = ""

    def stage(self, text: str, total: int) -> None:
        self._steps = total if text.startswith("epoch") else 0
        if not self._figures:
            self._progress.update(self._task, description=text)

    def advance(self, done: int) -> None:
        if self._steps:
            self._progress.update(self._task, completed=self._over + done / self._steps)

    def epoch(self, record: Record) -> None:
        self._over = int(record["epoch"])
        self._figures = f"epoch {self._over} of {self._epochs}, test acc {record['accuracy']:.4f}"
        self._progress.update(self._task, completed=self._over, description=self._figures)
