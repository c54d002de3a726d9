"""What several commands print."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def progress(total: int) -> Iterator[Callable[[str], None]]:
    """A spinner on a terminal's standard error; silence in pipes."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _: None
        return
    seen: list[str] = []
    with console.status("") as status:

        def report(step: str) -> None:
            name = step.split(":", 1)[0]
            if name not in seen:
                seen.append(name)
            status.update(f"[{len(seen)}/{total}] {step}")

        yield report


@contextmanager
def bytes_bar(what: str = "pulling") -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal's standard error, once there are bytes to tell of; silence in pipes."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    bar = Progress(TextColumn(what), BarColumn(), DownloadColumn(), console=Console(stderr=True), transient=True)
    task = bar.add_task(what, total=None)

    def report(done: int, total: int) -> None:
        if total and bar.console.is_terminal:
            bar.start()
            bar.update(task, completed=done, total=total)
            if done >= total:
                bar.stop()

    try:
        yield report
    finally:
        bar.stop()


def print_table(columns: tuple[str, ...], rows: list[tuple[Any, ...]], numbers: Any = ()) -> None:
    cells = [columns, *(tuple("-" if value is None else str(value) for value in row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        aligned = [c.rjust(w) if i in numbers else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        print("  ".join(aligned).rstrip())


def print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False), flush=True)


def say(message: str) -> None:
    print(f"build-repo: {message}", file=sys.stderr, flush=True)
