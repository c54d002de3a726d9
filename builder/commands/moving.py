"""What `push` and `pull` show of a transfer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from builder.stores.transfers import Watch


@contextmanager
def shown() -> Iterator[Watch]:
    """A bar with bytes on a terminal's standard error; nothing in pipes."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    from builder.stores.transfers import Unwatched

    console = Console(stderr=True)
    if not console.is_terminal:
        yield Unwatched()
        return
    columns = (TextColumn("{task.description}"), BarColumn(24), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as progress:
        yield _Bar(progress)


class _Bar:
    def __init__(self, progress: Any) -> None:
        self._progress = progress
        self._task = progress.add_task("looking what lacks", total=None)

    def begin(self, what: str, size: int) -> None:
        self._progress.reset(self._task, description=what, total=size or None)

    def moved(self, size: int) -> None:
        self._progress.advance(self._task, size)
