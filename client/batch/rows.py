"""One file's, or one text's, line in a table of results."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from client.errors import ClientError, TooLarge
from client.shown import json_line
from client.tasks.exchange import Columns
from client.types import Outcome, Text


@dataclass(frozen=True)
class Row:
    path: str
    answer: Any = None
    """As its task gives it."""
    error: str = ""
    text: str | None = None
    """What was asked about, unless that is a file, or no text: longer than any that is taken, or no UTF-8."""
    digest: str = ""
    """Of the text as it was read, by which a later run knows it."""


def row_of(result: Outcome[Any]) -> Row:
    item: str | Text = result.image
    path = name_of(item)
    reason = _reason(path, result.error) if result.error else ""
    if isinstance(item, str):
        return Row(path, result.answer, reason)
    text = None if isinstance(result.error, TooLarge) else readable(item)
    return Row(path, result.answer, reason, text, digest_of(item))


def name_of(item: str | Text) -> str:
    """By which it is known in tables: the path of a file, or FILE:LINE."""
    return item if isinstance(item, str) else item.where


def readable(text: Text) -> str | None:
    """None for what is no text."""
    try:
        content = text.content.decode() if isinstance(text.content, bytes) else text.content
        return None if text.left_out else content
    except UnicodeDecodeError:
        return None


def digest_of(text: Text) -> str:
    """Of what was kept of it, and of its length."""
    content = text.content.encode(errors="surrogatepass") if isinstance(text.content, str) else text.content
    return hashlib.blake2b(b"%d " % text.left_out + content, digest_size=8).hexdigest()


def _reason(path: str, error: ClientError) -> str:
    """What became of it, without its path, which errors about local files begin with."""
    return str(error).removeprefix(f"{path}: ")


def as_record(row: Row, columns: Columns) -> dict[str, Any]:
    told = {"error": row.error} if row.error else columns.record(row.answer)
    return {"path": row.path, **({} if row.text is None else {"text": row.text}), **told}


def as_note(row: Row, columns: Columns) -> dict[str, Any]:
    """As a journal has it."""
    return as_record(row, columns) | ({"digest": row.digest} if row.digest else {})


def from_record(record: dict[str, Any], columns: Columns) -> Row:
    of_text = (record.get("text"), record.get("digest", ""))
    if "error" in record:
        return Row(record["path"], None, record["error"], *of_text)
    assert columns.answer is not None  # or there were no table
    return Row(record["path"], columns.answer(record), "", *of_text)


def as_line(record: dict[str, Any]) -> str:
    """One line of JSON in UTF-8, from which every path is read as it was."""
    return json_line(record) + "\n"
