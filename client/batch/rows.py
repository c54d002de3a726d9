"""One file's line in a table of results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from client.errors import ClientError
from client.shown import json_line
from client.tasks.exchange import Columns
from client.types import Outcome


@dataclass(frozen=True)
class Row:
    path: str
    answer: Any = None
    """As its task gives it."""
    error: str = ""


def row_of(result: Outcome[str]) -> Row:
    return Row(result.image, result.answer, _reason(result.image, result.error) if result.error else "")


def _reason(path: str, error: ClientError) -> str:
    """What became of the image, without its path, which errors about local files begin with."""
    return str(error).removeprefix(f"{path}: ")


def as_record(row: Row, columns: Columns) -> dict[str, Any]:
    return {"path": row.path, **({"error": row.error} if row.error else columns.record(row.answer))}


def from_record(record: dict[str, Any], columns: Columns) -> Row:
    if "error" in record:
        return Row(record["path"], error=record["error"])
    assert columns.answer is not None  # or there were no table
    return Row(record["path"], columns.answer(record))


def as_line(record: dict[str, Any]) -> str:
    """One line of JSON in UTF-8, from which every path is read as it was."""
    return json_line(record) + "\n"
