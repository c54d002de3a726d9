"""Rows as files. A format is a function that writes all rows to a path."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from client.batch.rows import Row, as_line, as_record

GROUP = 4096
"""Rows that are held at a time."""


def write_csv(path: Path, rows: Iterable[Row], top: int) -> None:
    """path, error, then class_1, label_1, probability_1 ... class_<top>, label_<top>, probability_<top>."""
    # surrogateescape: a path that is not UTF-8 is written as the bytes that it is.
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.writer(file)
        columns = [f"{name}_{n}" for n in range(1, top + 1) for name in ("class", "label", "probability")]
        writer.writerow(["path", "error", *columns])
        for row in rows:
            cells = [cell for p in row.predictions for cell in (p.class_id, p.label, f"{p.probability:.6g}")]
            writer.writerow([row.path, row.error, *cells, *[""] * (3 * top - len(cells))])


def write_jsonl(path: Path, rows: Iterable[Row], top: int) -> None:
    """{"path", "predictions": [{"class", "label", "probability"}]}, or {"path", "error"}."""
    del top  # a line has as many predictions as there are
    with path.open("w", encoding="utf-8") as file:
        file.writelines(as_line(as_record(row)) for row in rows)


def write_parquet(path: Path, rows: Iterable[Row], top: int) -> None:
    """path: string, error: string or null, predictions: list of {class: int32, label, probability: float32}."""
    import pyarrow as pa
    from pyarrow import parquet

    del top
    prediction = pa.struct([("class", pa.int32()), ("label", pa.string()), ("probability", pa.float32())])
    schema = pa.schema([("path", pa.string()), ("error", pa.string()), ("predictions", pa.list_(prediction))])
    with parquet.ParquetWriter(path, schema) as writer:
        for group in _groups(rows):
            writer.write_batch(pa.RecordBatch.from_pylist([_arrow_record(row) for row in group], schema))


def _arrow_record(row: Row) -> dict[str, Any]:
    record = as_record(row)
    record["path"] = row.path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return {"error": None, "predictions": None} | record


def _groups(rows: Iterable[Row]) -> Iterator[list[Row]]:
    iterator = iter(rows)
    while group := list(itertools.islice(iterator, GROUP)):
        yield group


WRITERS: dict[str, Callable[[Path, Iterable[Row], int], None]] = {
    "csv": write_csv,
    "jsonl": write_jsonl,
    "parquet": write_parquet,
}
