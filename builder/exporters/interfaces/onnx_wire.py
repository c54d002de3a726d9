"""ONNX files without the numbers of their weights, read past them: gigabytes are neither held nor copied.

Protocol buffers are a list of fields: a tag, which has the field's number and wire type, and a value. Weights lie in
`graph.initializer`, and their numbers in fields of their own, which are left out.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

VARINT, EIGHT, MESSAGE, FOUR = 0, 1, 2, 5
"""Wire types."""
GRAPH, INITIALIZER = 7, 5
"""Numbers of the fields in ModelProto and GraphProto."""
NUMBERS = frozenset({4, 5, 6, 7, 9, 10, 11})
"""Of fields of TensorProto that hold a weight's numbers, as raw bytes or as a list."""
LONGEST_VARINT = 10


@dataclass(frozen=True)
class Field:
    number: int
    wire: int
    start: int
    """Of the tag."""
    value: int
    """Where the value begins, behind its length."""
    end: int


def without_numbers(path: Path) -> bytes:
    """A ModelProto, serialised, whose initialisers have names, types and shapes alone. Raises ValueError, OSError."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return _model(data, 0, len(data))


def _model(data: mmap.mmap, start: int, end: int) -> bytes:
    parts = []
    for field in _fields(data, start, end):
        is_graph = (field.number, field.wire) == (GRAPH, MESSAGE)
        parts.append(_message(GRAPH, _graph(data, field)) if is_graph else data[field.start : field.end])
    return b"".join(parts)


def _graph(data: mmap.mmap, graph: Field) -> bytes:
    parts = []
    for field in _fields(data, graph.value, graph.end):
        is_weight = (field.number, field.wire) == (INITIALIZER, MESSAGE)
        parts.append(_message(INITIALIZER, _tensor(data, field)) if is_weight else data[field.start : field.end])
    return b"".join(parts)


def _tensor(data: mmap.mmap, tensor: Field) -> bytes:
    fields = _fields(data, tensor.value, tensor.end)
    return b"".join(data[field.start : field.end] for field in fields if field.number not in NUMBERS)


def _message(number: int, content: bytes) -> bytes:
    return _written(number << 3 | MESSAGE) + _written(len(content)) + content


def _fields(data: mmap.mmap, start: int, end: int) -> Iterator[Field]:
    while start < end:
        tag, value = _varint(data, start, end)
        field = Field(tag >> 3, tag & 7, start, *_extent(data, tag & 7, value, end))
        if not field.number or field.end > end:
            raise ValueError(f"it ends within what begins at byte {start}")
        yield field
        start = field.end


def _extent(data: mmap.mmap, wire: int, start: int, end: int) -> tuple[int, int]:
    """Where a value begins and ends."""
    if wire == VARINT:
        return start, _varint(data, start, end)[1]
    if wire == MESSAGE:
        length, value = _varint(data, start, end)
        return value, value + length
    if wire in (EIGHT, FOUR):
        return start, start + (8 if wire == EIGHT else 4)
    raise ValueError(f"there is no field of type {wire}, as at byte {start}")


def _varint(data: mmap.mmap, start: int, end: int) -> tuple[int, int]:
    """A number of seven bits a byte, the lowest first, and where it ends."""
    number = 0
    for place in range(start, min(end, start + LONGEST_VARINT)):
        number |= (data[place] & 0x7F) << 7 * (place - start)
        if data[place] < 0x80:
            return number, place + 1
    raise ValueError(f"there is no number at byte {start}")


def _written(number: int) -> bytes:
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])
