"""Rows as files. A format is a function that writes all rows to a path."""

from __future__ import annotations

import csv
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from client.batch.rows import Row, as_line, as_record
from client.shown import cell, path_cell

GROUP = 4096
"""Rows that are held at a time."""


def write_csv(path: Path, rows: Iterable[Row], top: int) -> None:
    """path, error, then class_1, label_1, probability_1 ... class_<top>, label_<top>, probability_<top>.

    No text begins as a formula does: a path of that kind is written ./PATH, other texts with an apostrophe before.
    """
    # surrogateescape: a path that is not UTF-8 is written as the bytes that it is.
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.writer(file)
        columns = [f"{name}_{n}" for n in range(1, top + 1) for name in ("class", "label", "probability")]
        writer.writerow(["path", "error", *columns])
        for row in rows:
            cells = [one for p in row.predictions for one in (p.class_id, cell(p.label), f"{p.probability:.6g}")]
            texts = [path_cell(row.path), cell(row.error)]
            writer.writerow([*texts, *cells, *[""] * (3 * top - len(cells))])


def write_jsonl(path: Path, rows: Iterable[Row], top: int) -> None:
    """{"path", "predictions": [{"class", "label", "probability"}]}, or {"path", "error"}."""
    del top  # a line has as many predictions as there are
    with path.open("w", encoding="utf-8") as file:
        file.writelines(as_line(as_record(row)) for row in rows)


def write_parquet(path: Path, rows: Iterable[Row], top: int) -> None:
    """path and error: strings, predictions: list of {class: int32, label, probability: float32}, path_bytes: binary.

    Strings are UTF-8 there: other bytes of a path are U+FFFD, and path_bytes, null for all other paths, has it exactly.
    """
    import pyarrow as pa
    from pyarrow import parquet

    del top
    prediction = pa.struct([("class", pa.int32()), ("label", pa.string()), ("probability", pa.float32())])
    columns = [("path", pa.string()), ("error", pa.string()), ("predictions", pa.list_(prediction))]
    schema = pa.schema([*columns, ("path_bytes", pa.binary())])
    with parquet.ParquetWriter(path, schema) as writer:
        for group in _groups(rows):
            writer.write_batch(pa.RecordBatch.from_pylist([_arrow_record(row) for row in group], schema))


def _arrow_record(row: Row) -> dict[str, Any]:
    record = as_record(row)
    raw = os.fsencode(row.path)
    record["path"] = raw.decode("utf-8", "replace")
    is_exact = record["path"] == row.path
    return {"error": None, "predictions": None, "path_bytes": None if is_exact else raw} | record


def _groups(rows: Iterable[Row]) -> Iterator[list[Row]]:
    iterator = iter(rows)
    while group := list(itertools.islice(iterator, GROUP)):
        yield group


WRITERS: dict[str, Callable[[Path, Iterable[Row], int], None]] = {
    "csv": write_csv,
    "jsonl": write_jsonl,
    "parquet": write_parquet,
}
