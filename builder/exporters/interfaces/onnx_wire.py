"""ONNX files without the numbers of their weights, read past them: gigabytes are neither held nor copied.

Weights lie in `graph.initializer`, and their numbers in fields of their own, which are left out.
"""

from __future__ import annotations

import mmap
from pathlib import Path

from builder.util.wire import MESSAGE, Field, fields

GRAPH, INITIALIZER = 7, 5
"""Numbers of the fields in ModelProto and GraphProto."""
NUMBERS = frozenset({4, 5, 6, 7, 9, 10, 11})
"""Of fields of TensorProto that hold a weight's numbers, as raw bytes or as a list."""


def without_numbers(path: Path) -> bytes:
    """A ModelProto, serialised, whose initialisers have names, types and shapes alone. Raises ValueError, OSError."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return _model(data, 0, len(data))


def _model(data: mmap.mmap, start: int, end: int) -> bytes:
    parts = []
    for field in fields(data, start, end):
        is_graph = (field.number, field.wire) == (GRAPH, MESSAGE)
        parts.append(_message(GRAPH, _graph(data, field)) if is_graph else data[field.start : field.end])
    return b"".join(parts)


def _graph(data: mmap.mmap, graph: Field) -> bytes:
    parts = []
    for field in fields(data, graph.value, graph.end):
        is_weight = (field.number, field.wire) == (INITIALIZER, MESSAGE)
        parts.append(_message(INITIALIZER, _tensor(data, field)) if is_weight else data[field.start : field.end])
    return b"".join(parts)


def _tensor(data: mmap.mmap, tensor: Field) -> bytes:
    kept = (field for field in fields(data, tensor.value, tensor.end) if field.number not in NUMBERS)
    return b"".join(data[field.start : field.end] for field in kept)


def _message(number: int, content: bytes) -> bytes:
    return _written(number << 3 | MESSAGE) + _written(len(content)) + content


def _written(number: int) -> bytes:
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])
