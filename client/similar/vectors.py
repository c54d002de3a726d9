"""Vectors with their names: of a Parquet table that `embed` wrote, or gathered one by one."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from client.errors import InvalidInput, UnreadableFile

if TYPE_CHECKING:
    from client.types import Array

BYTES, TEXT = "path_bytes", "text"
COLUMNS = ("path", "vector", BYTES)
ROWS = 16_384
"""That are read, or normalised, at a time."""


@dataclass(frozen=True)
class Vectors:
    names: list[str]
    units: Array
    """float32 [n, D]; each of length 1, or 0 where it had none."""


def is_table(source: str) -> bool:
    """Raises InvalidInput for tables that are not read."""
    if source.endswith((".csv", ".jsonl")) and Path(source).is_file():
        raise InvalidInput(
            f"{source}: vectors are read from Parquet alone; write them with `repo-client embed --parquet`"
        )
    return source.endswith(".parquet") and Path(source).is_file()


def read(path: str) -> Vectors:
    """Of a table with columns path and vector; rows with an error are left out. Raises InvalidInput, UnreadableFile."""
    import numpy as np
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.ParquetFile(path)
        columns = set(table.schema_arrow.names)
        if not {"path", "vector"} <= columns:
            raise InvalidInput(f"{path} has no columns path and vector, as `repo-client embed --parquet` writes them")
        names: list[str] = []
        units: Array | None = None
        for batch in table.iter_batches(ROWS, columns=[name for name in COLUMNS if name in columns]):
            rows = batch.filter(_is_list(path, batch.column("vector")).is_valid())
            if not rows.num_rows:
                continue
            block = _block(path, rows.column("vector"), rows.num_rows)
            if units is None:
                units = np.empty((table.metadata.num_rows, block.shape[1]), np.float32)
            _require_one_length(path, units, block)
            units[len(names) : len(names) + len(block)] = unit(block)
            names += _names(rows)
    except (OSError, pa.ArrowException) as error:
        raise UnreadableFile(f"{path}: {error}") from None
    if units is None:
        raise InvalidInput(f"{path} has no vectors")
    return Vectors(names, units[: len(names)])


def texts_of(path: str, names: Collection[str]) -> dict[str, str]:
    """The texts of rows with these names, where a table has texts. Raises UnreadableFile."""
    import pyarrow as pa
    from pyarrow import parquet

    found: dict[str, str] = {}
    try:
        table = parquet.ParquetFile(path)
        if TEXT not in table.schema_arrow.names:
            return {}
        columns = [name for name in ("path", BYTES, TEXT) if name in table.schema_arrow.names]
        for batch in table.iter_batches(ROWS, columns=columns):
            pairs = zip(_names(batch), batch.column(TEXT).to_pylist(), strict=True)
            found |= {name: text for name, text in pairs if name in names and text is not None}
    except (OSError, pa.ArrowException) as error:
        raise UnreadableFile(f"{path}: {error}") from None
    return found


def _is_list(path: str, column: Any) -> Any:
    """The column, which is one of lists of numbers."""
    from pyarrow import types

    kind = column.type
    is_list = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    if is_list and (types.is_floating(kind.value_type) or types.is_integer(kind.value_type)):
        return column
    raise InvalidInput(f"{path} has no vectors: its column vector is of {kind}, not of lists of numbers")


def _names(rows: Any) -> list[str]:
    """The paths; those that are not UTF-8 have their bytes in a column of their own, see `batch.tables`."""
    names: list[str] = [str(name) for name in rows.column("path").to_pylist()]
    if BYTES in rows.schema.names:
        raw = rows.column(BYTES).to_pylist()
        names = [os.fsdecode(exact) if exact else name for name, exact in zip(names, raw, strict=True)]
    return names


def _block(path: str, column: Any, count: int) -> Array:
    """float32 [count, D], of finite numbers"""
    import numpy as np
    import pyarrow.compute as pc

    values = np.asarray(column.flatten(), np.float32)
    lengths = set(pc.list_value_length(column).unique().to_pylist())
    if len(lengths) > 1:
        raise InvalidInput(f"{path} has vectors of several lengths; they are of several models")
    if not values.size:
        raise InvalidInput(f"{path} has vectors without numbers")
    if not np.isfinite(values).all():
        raise InvalidInput(f"{path} has a vector with numbers that are not finite")
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
        if vector.shape != waiting[0].shape or (blocks and len(vector) != blocks[0].shape[1]):
            raise InvalidInput("the vectors have several lengths; the model was built anew meanwhile")
        if len(waiting) == ROWS:
            blocks.append(unit(np.stack(waiting)))
            waiting = []
    if waiting:
        blocks.append(unit(np.stack(waiting)))
    if not blocks:
        raise InvalidInput("there are no vectors to search")
    return Vectors(names, np.concatenate(blocks))


def _require_one_length(path: str, units: Array, block: Array) -> None:
    if units.shape[1] != block.shape[1]:
        raise InvalidInput(f"{path} has vectors of several lengths; they are of several models")


def unit(block: Array) -> Array:
    import numpy as np

    largest = np.abs(block).max(axis=1, keepdims=True)
    scaled = np.divide(
        block, largest, out=np.zeros_like(block, np.float32), where=largest > 0
    )  # its squares are finite
    lengths = np.linalg.norm(scaled, axis=1, keepdims=True)
    return np.asarray(np.divide(scaled, lengths, out=scaled, where=lengths > 0), np.float32)
