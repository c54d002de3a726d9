"""What several commands print."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
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


# What is called after what it is, and in JSON still after what it was at first, which scripts read.
AS_BEFORE = {"verification": "check", "samples": "images", "samples_per_second": "images_per_second"}


def as_record(value: Any) -> dict[str, Any]:
    """A dataclass for JSON, under the names that scripts know; numbers of samples under both."""
    found: dict[str, Any] = _as_before(asdict(value))
    return found


def _as_before(value: Any) -> Any:
    if isinstance(value, dict):
        named = {AS_BEFORE.get(key, key): _as_before(item) for key, item in value.items()}
        return named | {key: value[key] for key in ("samples", "samples_per_second") if key in value}
    return [_as_before(item) for item in value] if isinstance(value, list | tuple) else value


def say(message: str) -> None:
    print(f"build-repo: {message}", file=sys.stderr, flush=True)
