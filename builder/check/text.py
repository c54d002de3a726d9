"""Protobuf's text format as the server's parser takes it, with the place of everything and with all faults.

The server's own (protobuf's in C++) stops at the first fault. This one goes on where it is plain what was meant, so
that one reading tells of all; but what has any fault is no config, as on the server.
"""

from __future__ import annotations

import contextlib
import functools
from dataclasses import dataclass
from typing import Any

from builder.check.faults import Fault, GivenUp, Source
from builder.check.places import Place, Places
from builder.check.scalars import TAKERS, Field
from builder.check.tokens import END, FLOAT, IDENTIFIER, INTEGER, STRING

OPENING, CLOSING = {"{": "}", "<": ">"}, ("}", ">")


@dataclass(frozen=True)
class Parsed:
    message: Any
    places: Places
    faults: tuple[Fault, ...]
    odd_strings: tuple[tuple[int, int], ...]
    """Values that are no UTF-8, which the server takes."""


@functools.cache
def _fields(descriptor: Any) -> dict[str, Field]:
    return {field.name: _described(field) for field in descriptor.fields}


def _described(field: Any) -> Field:
    message = field.message_type
    is_map = message is not None and message.GetOptions().map_entry
    oneof = field.containing_oneof.name if field.containing_oneof else ""
    in_entry = field.containing_type.GetOptions().map_entry
    take = None if message is not None else TAKERS[field.cpp_type]
    return Field(field.name, take, field.has_presence or in_entry, _repeated(field), is_map, oneof, field)


def _is_said(value: Any) -> bool:
    """Whether the server can tell a value from none: zero it cannot, but for -0.0."""
    return bool(value) or (value == 0 and str(value) == "-0.0")


def _repeated(field: Any) -> bool:
    return bool(field.is_repeated if hasattr(field, "is_repeated") else field.label == field.LABEL_REPEATED)


def parse(text: str, message: Any, is_clean: bool = True) -> Parsed:
    """`message` is filled. `is_clean`: the text has no surrogates that stand for bytes that are no UTF-8."""
    reader = _Reader(text, is_clean)
    root: dict[str | int, Place] = {}
    reader.read(message, root)
    return Parsed(message, Places(root, text), tuple(reader.faults), tuple(reader.odd_strings))


class _Reader(Source):
    def read(self, message: Any, root: dict[str | int, Place]) -> None:
        with contextlib.suppress(GivenUp):
            self.begin()
            while self.words.kind != END:
                self._field(message, root)

    def _field(self, message: Any, places: dict[str | int, Place]) -> None:
        words = self.words
        start = words.start
        if words.word == "[":
            self._extension(message)
        name = self.identifier()
        field = _fields(message.DESCRIPTOR).get(name)
        if field is None:
            self._unknown(message, name, start)
        else:
            self._check_once(message, field, places, start)
            if field.take is None:
                self.took(":")
            else:
                self.must(":")
            self._values(message, field, places, start)
        self.took(";") or self.took(",")

    def _extension(self, message: Any) -> None:
        self.words.advance()
        name = self.identifier()
        while self.took("."):
            name += "." + self.identifier()
        self.must("]")
        wanted = message.DESCRIPTOR.full_name
        raise self.given_up(
            f'Extension "{name}" is not defined or is not an extension of "{wanted}".', message.DESCRIPTOR.name
        )

    def _unknown(self, message: Any, name: str, start: int) -> None:
        descriptor = message.DESCRIPTOR
        words = f'Message type "{descriptor.full_name}" has no field named "{name}".'
        self.wrong("unknown-field", words, start, name, descriptor.name, tuple(_fields(descriptor)))
        self.took(":")
        self._skip()

    def _skip(self) -> None:
        """A value, whatever it is."""
        words, open_ = self.words, 0
        while words.kind != END and not (open_ == 0 and words.word in CLOSING):
            if words.word in ("{", "<", "["):
                open_ += 1
            elif words.word in ("}", ">", "]"):
                open_ -= 1
            is_more = words.kind == STRING or words.word == "-"
            words.advance()
            if open_ <= 0 and not (is_more and (words.kind == STRING or words.kind in (INTEGER, FLOAT, IDENTIFIER))):
                return

    def _check_once(self, message: Any, field: Field, places: dict[str | int, Place], start: int) -> None:
        if field.is_repeated:
            return
        name = field.name
        if name in places and (field.has_presence or _is_said(getattr(message, name))):
            words = f'Non-repeated field "{name}" is specified multiple times.'
            self.wrong("given-twice", words, start, name, message.DESCRIPTOR.name)
        elif field.oneof and (other := message.WhichOneof(field.oneof)) and other != name:
            words = f'Field "{name}" is specified along with field "{other}", another member of oneof "{field.oneof}".'
            self.wrong("one-of-two", words, start, name, message.DESCRIPTOR.name, (other,))

    def _values(self, message: Any, field: Field, places: dict[str | int, Place], start: int) -> None:
        words = self.words
        value = words.start
        if not field.is_repeated:
            place = places[field.name] = Place(start, value, value)
            self._value(message, field, place)
            place.end = words.before
            return
        whole = places.setdefault(field.name, Place(start, value, value, {}))
        held, items = getattr(message, field.name), whole.inner or {}
        if self.took("["):
            self._list(held, field, items)
        else:
            self._item(held, field, items, start)
        whole.inner = items
        if whole.start == start:
            whole.end = words.before

    def _list(self, held: Any, field: Field, items: dict[str | int, Place]) -> None:
        if self.took("]"):
            return
        while True:
            self._item(held, field, items, self.words.start)
            if self.took("]"):
                return
            self.must(",")

    def _item(self, held: Any, field: Field, items: dict[str | int, Place], start: int) -> None:
        words = self.words
        place = Place(start, words.start, words.start)
        step: str | int = len(items)
        if field.is_map:
            step = self._entry(held, place)
        elif field.take is None:
            place.inner = {}
            self._message(held.add(), place.inner)
        else:
            value = field.take(self, field)
            if value is not None:
                held.append(value)
        place.end = words.before
        items[step] = place

    def _value(self, message: Any, field: Field, place: Place) -> None:
        if field.take is None:
            nested = getattr(message, field.name)
            nested.SetInParent()
            place.inner = {}
            self._message(nested, place.inner)
            return
        value = field.take(self, field)
        if value is not None:
            setattr(message, field.name, value)

    def _entry(self, held: Any, place: Place) -> str | int:
        """Its key. Of several with one key the last one holds."""
        entry, inner = held.GetEntryClass()(), dict[str | int, Place]()
        self._message(entry, inner)
        if hasattr(entry.value, "CopyFrom"):
            held[entry.key].CopyFrom(entry.value)
        else:
            held[entry.key] = entry.value
        value = inner.get("value")
        place.inner = ((value and value.inner) or {}) | inner
        key: str | int = entry.key
        return key

    def _message(self, message: Any, places: dict[str | int, Place]) -> None:
        words = self.words
        opening = words.word if words.word == "<" else "{"
        self.must(opening)
        while words.word not in CLOSING:
            self._field(message, places)
        self.must(OPENING[opening])
