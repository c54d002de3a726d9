"""A bar on the standard error, where that is a terminal."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from client.batch.run import Counts, Progress


@contextmanager
def bar(count: Callable[[], int | None], things: str) -> Iterator[Progress]:
    """A function to call with the counts. `count`, which may take a while, runs beside it."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[failed]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True, speed_estimate_period=10) as shown:
        task = shown.add_task("", total=None, rate="", failed="")
        threading.Thread(target=lambda: shown.update(task, total=count()), daemon=True).start()

        def advance(counts: Counts) -> None:
            speed = shown.tasks[0].speed
            shown.update(
                task,
                completed=counts.done,
                rate=f"{speed:.0f} {things}/s" if speed else "",
                failed=f"[red]{counts.failed} refused" if counts.failed else "",
            )

        yield advance
