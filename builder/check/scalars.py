"""Values that are no messages, each as its field takes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from builder.check.faults import Source
from builder.check.tokens import IDENTIFIER, INTEGER, STRING
from builder.check.values import TRUTHS, decimal, integer, unescaped


@dataclass(frozen=True, slots=True)
class Field:
    name: str
    take: Callable[[Source, Field], Any] | None
    """Of a message: None."""
    has_presence: bool
    is_repeated: bool
    is_map: bool
    oneof: str
    descriptor: Any


def string(source: Source, field: Field) -> str | None:
    words = source.words
    if words.kind != STRING:
        source.mismatch(f"Expected string, got: {words.word}", field.name)
        return None
    first = words.word
    words.advance()
    if words.kind != STRING and "\\" not in first and source.is_clean:
        return first[1:-1]
    return _joined(source, first)


def _joined(source: Source, first: str) -> str:
    words, start = source.words, source.words.before - len(first)
    parts = [unescaped(first)]
    while words.kind == STRING:
        parts.append(unescaped(words.word))
        words.advance()
    value = b"".join(parts)
    try:
        return value.decode()
    except UnicodeDecodeError:
        source.odd_strings.append((start, words.before))
        return value.decode(errors="backslashreplace")


def unsigned(source: Source, field: Field, most: int) -> int | None:
    words = source.words
    if words.kind != INTEGER:
        source.mismatch(f"Expected integer, got: {words.word}", field.name)
        return None
    value = integer(words.word)
    if value is None or value > most:
        source.wrong("range", f"Integer out of range ({words.word})", words.start, words.word, field.name)
        value = None
    words.advance()
    return value


def signed(source: Source, field: Field, most: int) -> int | None:
    is_negative = source.took("-")
    value = unsigned(source, field, most + is_negative)
    return -value if value is not None and is_negative else value


def truth(source: Source, field: Field) -> bool | None:
    words = source.words
    if words.kind == INTEGER:
        value = unsigned(source, field, 1)
        return None if value is None else bool(value)
    if words.kind != IDENTIFIER:
        source.mismatch(f"Expected identifier, got: {words.word}", field.name, ("true", "false"))
        return None
    start, name = words.start, source.identifier()
    if name not in TRUTHS:
        told = f'Invalid value for boolean field "{field.name}". Value: "{name}".'
        source.wrong("boolean", told, start, name, field.name, ("true", "false"))
    return TRUTHS.get(name)


def choice(source: Source, field: Field) -> int | None:
    words = source.words
    if words.kind == INTEGER or words.word == "-":
        return signed(source, field, 2**31 - 1)
    known = field.descriptor.enum_type.values_by_name
    if words.kind != IDENTIFIER:
        source.mismatch(f"Expected integer or identifier, got: {words.word}", field.name, tuple(known))
        return None
    start, name = words.start, source.identifier()
    if name not in known:
        told = f'Unknown enumeration value of "{name}" for field "{field.name}".'
        source.wrong("unknown-value", told, start, name, field.name, tuple(known))
        return None
    return int(known[name].number)


def real(source: Source, field: Field) -> float | None:
    is_negative = source.took("-")
    words = source.words
    value = decimal(words.kind, words.word)
    if value is None:
        is_written = words.kind == INTEGER
        got = words.word.lower() if words.kind == IDENTIFIER else words.word
        source.mismatch(f"{'Expect a decimal number' if is_written else 'Expected double'}, got: {got}", field.name)
        return None
    words.advance()
    return -value if is_negative else value


TAKERS: dict[int, Callable[[Source, Field], Any]] = {
    1: lambda source, field: signed(source, field, 2**31 - 1),
    2: lambda source, field: signed(source, field, 2**63 - 1),
    3: lambda source, field: unsigned(source, field, 2**32 - 1),
    4: lambda source, field: unsigned(source, field, 2**64 - 1),
    5: real,
    6: real,
    7: truth,
    8: choice,
    9: string,
}
"""By FieldDescriptor's CPPTYPE."""
