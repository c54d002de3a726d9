"""How commands print."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from client.shown import json_line, printable


def print_json(value: Any) -> None:
    print(json_line(value), flush=True)


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def print_error(message: str) -> None:
    """On one line, whatever names it holds."""
    print(f"repo-client: {printable(message)}", file=sys.stderr)
