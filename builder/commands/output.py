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
