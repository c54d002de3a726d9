"""Rows as files. A format is a function that writes all rows to a path."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from client.batch.coco import write_coco
from client.batch.rows import Row, as_line, as_record
from client.shown import cell, path_cell
from client.tasks.exchange import Columns

GROUP = 4096
GROUP_TEXT = 1 << 20
"""Rows that are held at a time, and characters of their texts."""


def write_csv(path: Path, rows: Iterable[Row], columns: Columns) -> None:
    """path, error, of texts the text, then the columns of the task.

    No text begins as a formula does: a path of that kind is written ./PATH, other texts with an apostrophe before.
    """
    # surrogateescape: a path that is not UTF-8 is written as the bytes that it is.
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "error", *(["text"] if columns.of_texts else []), *columns.names])
        for row in rows:
            text = [cell(row.text or "")] if columns.of_texts else []
            for cells in [()] if row.error else columns.rows(row.answer):
                padding = [""] * (len(columns.names) - len(cells))
                writer.writerow([path_cell(row.path), cell(row.error), *text, *map(_cell, cells), *padding])


def _cell(value: object) -> object:
    if isinstance(value, float):
        return f"{value:.6g}"
    return cell(value) if isinstance(value, str) else value


def write_jsonl(path: Path, rows: Iterable[Row], columns: Columns) -> None:
    """{"path", and the record of the task}, or {"path", "error"}; of texts with "text", where it is one."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(as_line(as_record(row, columns)) for row in rows)


def write_parquet(path: Path, rows: Iterable[Row], columns: Columns) -> None:
    """path, error, and of texts text: strings, the task's own fields, path_bytes: binary.

    Strings are UTF-8 there: other bytes of a path are U+FFFD, and path_bytes, null for all other paths, has it exactly.
    """
    import pyarrow as pa
    from pyarrow import parquet

    assert columns.fields is not None  # or there were no table
    fields = [*([("text", pa.string())] if columns.of_texts else []), *columns.fields()]
    schema = pa.schema([("path", pa.string()), ("error", pa.string()), *fields, ("path_bytes", pa.binary())])
    blank = {"error": None, **{name: None for name, _ in fields}}
    with parquet.ParquetWriter(path, schema) as writer:
        for group in _groups(rows):
            records = [blank | _arrow_record(row, columns) for row in group]
            writer.write_batch(pa.RecordBatch.from_pylist(records, schema))


def _arrow_record(row: Row, columns: Columns) -> dict[str, Any]:
    raw = os.fsencode(row.path)
    text = raw.decode("utf-8", "replace")
    return as_record(row, columns) | {"path": text, "path_bytes": None if text == row.path else raw}


def _groups(rows: Iterable[Row]) -> Iterator[list[Row]]:
    group: list[Row] = []
    held = 0
    for row in rows:
        group.append(row)
        held += len(row.text or "")
        if len(group) == GROUP or held >= GROUP_TEXT:
            yield group
            group, held = [], 0
    if group:
        yield group


WRITERS: dict[str, Callable[[Path, Iterable[Row], Columns], None]] = {
    "csv": write_csv,
    "jsonl": write_jsonl,
    "parquet": write_parquet,
}
OF_OBJECTS = {"coco": write_coco}
"""Those of detections alone."""
