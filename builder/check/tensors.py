"""Bytes and elements of tensors, as the server counts them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from builder.check.config import schema

ANY = -1
"""A dimension that every request has its own size in."""
INVALID, STRING = 0, 13
BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 2, 8: 4, 9: 8, 10: 2, 11: 4, 12: 8, 14: 2}
"""Of one element, by the number of its DataType."""
OTHER_BYTES = 4
"""Of one of any other type: a STRING's length."""
LENGTH_BYTES = 4
BEYOND_MEMORY = 2**47
"""Bytes that no machine has, and no program can ask for."""


def elements(dims: Iterable[int]) -> int:
    """ANY where a dimension is variable, 0 where there are none."""
    count = 0
    for number, dim in enumerate(dims):
        if dim == ANY:
            return ANY
        count = count * dim if number else dim
    return _wrapped(count)


def byte_size(data_type: int, dims: Iterable[int]) -> int:
    """Of dims that are not variable; it is negative where the number of elements is."""
    return _wrapped(elements(dims) * BYTES.get(data_type, OTHER_BYTES))


def unsigned(count: int) -> int:
    """What the server takes a negative number of bytes for."""
    return count % 2**64


def _wrapped(count: int) -> int:
    """As a number of 64 bits, which runs over."""
    return (count + 2**63) % 2**64 - 2**63


def type_name(data_type: int) -> str:
    """As a config has it."""
    return str(schema().DataType.Name(data_type)) if data_type in _known() else str(data_type)


def protocol_name(data_type: int) -> str:
    """As requests, and the server's words, have it."""
    if data_type == STRING:
        return "BYTES"
    return type_name(data_type).removeprefix("TYPE_") if data_type in BYTES else "<invalid>"


def shape(dims: Iterable[int]) -> str:
    return f"[{', '.join(map(str, dims))}]"


def string_lengths(raw: bytes) -> Iterator[int | None]:
    """Of each string in them, as far as it has one; None: what is left is too short for a length."""
    position = 0
    while position < len(raw):
        if len(raw) - position < LENGTH_BYTES:
            yield None
            return
        length = int.from_bytes(raw[position : position + LENGTH_BYTES], "little")
        yield length
        position += LENGTH_BYTES + length


def _known() -> Any:
    return schema().DataType.values()
