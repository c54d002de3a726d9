"""Vectors with their names: of a Parquet table that `embed` wrote, or gathered one by one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from client.errors import InvalidInput, UnreadableFile

if TYPE_CHECKING:
    from client.types import Array

ROWS = 16_384
"""That are read, or normalised, at a time."""


@dataclass(frozen=True)
class Vectors:
    names: list[str]
    units: Array
    """float32 [n, D]; each of length 1, or 0 where it had none."""


def is_table(source: str) -> bool:
    return source.endswith(".parquet") and Path(source).is_file()


def read(path: str) -> Vectors:
    """Of a table with columns path and vector; rows with an error are left out. Raises InvalidInput, UnreadableFile."""
    import numpy as np
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.ParquetFile(path)
        if not {"path", "vector"} <= set(table.schema_arrow.names):
            raise InvalidInput(f"{path} has no columns path and vector, as `repo-client embed --parquet` writes them")
        names: list[str] = []
        units: Array | None = None
        for batch in table.iter_batches(ROWS, columns=["path", "vector"]):
            rows = batch.filter(batch.column("vector").is_valid())
            if not rows.num_rows:
                continue
            block = _block(path, rows.column("vector"), rows.num_rows)
            if units is None:
                units = np.empty((table.metadata.num_rows, block.shape[1]), np.float32)
            _require_one_length(path, units, block)
            units[len(names) : len(names) + len(block)] = _unit(block)
            names += rows.column("path").to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise UnreadableFile(f"{path}: {error}") from None
    if units is None:
        raise InvalidInput(f"{path} has no vectors")
    return Vectors(names, units[: len(names)])


def _block(path: str, column: Any, count: int) -> Array:
    """float32 [count, D]"""
    import numpy as np

    values = np.asarray(column.flatten(), np.float32)
    lengths = {len(values) // count} if len(values) % count == 0 else set()
    if not lengths or any(len(row) not in lengths for row in (column[0], column[count - 1])):
        raise InvalidInput(f"{path} has vectors of several lengths; they are of several models")
    return values.reshape(count, -1)


def gathered(pairs: Iterable[tuple[str, Array]]) -> Vectors:
    """Raises InvalidInput for vectors of several lengths, and for none."""
    import numpy as np

    names: list[str] = []
    blocks: list[Array] = []
    waiting: list[Array] = []
    for name, vector in pairs:
        names.append(name)
        waiting.append(vector)
        if len(waiting) == ROWS:
            blocks.append(_unit(np.stack(waiting)))
            waiting = []
    if waiting:
        blocks.append(_unit(np.stack(waiting)))
    if not blocks:
        raise InvalidInput("there are no vectors to search")
    return Vectors(names, np.concatenate(blocks))


def _require_one_length(path: str, units: Array, block: Array) -> None:
    if units.shape[1] != block.shape[1]:
        raise InvalidInput(f"{path} has vectors of several lengths; they are of several models")


def _unit(block: Array) -> Array:
    import numpy as np

    lengths = np.linalg.norm(block, axis=1, keepdims=True)
    return np.asarray(np.divide(block, lengths, out=np.zeros_like(block, np.float32), where=lengths > 0), np.float32)
