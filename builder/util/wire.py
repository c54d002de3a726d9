"""Protocol buffers as bytes: a list of fields, each a tag (the field's number and wire type) and a value."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass

VARINT, EIGHT, MESSAGE, FOUR = 0, 1, 2, 5
"""Wire types."""
LONGEST_VARINT = 10

Data = mmap.mmap | bytes


@dataclass(frozen=True, slots=True)
class Field:
    number: int
    wire: int
    start: int
    """Of the tag."""
    value: int
    """Where the value begins, behind its length."""
    end: int


def fields(data: Data, start: int, end: int) -> Iterator[Field]:
    """What lies between two places, each field passed over by its length. Raises ValueError for what is none."""
    while start < end:
        tag, value = varint(data, start, end)
        field = Field(tag >> 3, tag & 7, start, *_extent(data, tag & 7, value, end))
        if not field.number or field.end > end:
            raise ValueError(f"it ends within what begins at byte {start}")
        yield field
        start = field.end


def _extent(data: Data, wire: int, start: int, end: int) -> tuple[int, int]:
    """Where the value begins, and where it ends."""
    if wire == VARINT:
        return start, varint(data, start, end)[1]
    if wire == MESSAGE:
        length, value = varint(data, start, end)
        return value, value + length
    if wire in (EIGHT, FOUR):
        return start, start + (8 if wire == EIGHT else 4)
    raise ValueError(f"there is no field of type {wire}, as at byte {start}")


def varint(data: Data, start: int, end: int) -> tuple[int, int]:
    """A number of seven bits a byte, the lowest first, and where it ends. Raises ValueError."""
    number = 0
    for place in range(start, min(end, start + LONGEST_VARINT)):
        number |= (data[place] & 0x7F) << 7 * (place - start)
        if data[place] < 0x80:
            return number, place + 1
    raise ValueError(f"there is no number at byte {start}")
