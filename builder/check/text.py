"""Protobuf's text format as the server's parser takes it, with the place of everything and with all faults.

The server's own (protobuf's in C++) stops at the first fault. This one goes on where it is plain what was meant, so
that one reading tells of all; but what has any fault is no config, as on the server.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from builder.check.places import Place, Places
from builder.check.tokens import END, FLOAT, IDENTIFIER, INTEGER, STRING, Words
from builder.check.values import TRUTHS, decimal, integer, unescaped

MOST = 20
"""Faults that are told of one text: what has more is something else than a config."""
OPENING, CLOSING = {"{": "}", "<": ">"}, ("}", ">")


@dataclass(frozen=True)
class Fault:
    kind: str
    start: int
    end: int
    words: str
    """The server's, without the place that it counts."""
    at: int
    """The place that it counts: of the word that it has come to."""
    name: str = ""
    """Of the field, or the value, that it is about."""
    known: tuple[str, ...] = ()
    """What would have been right instead of it."""
    owner: str = ""
    """The message that has the field, or the field that has the value."""
    is_told: bool = True
    """Whether the server comes so far."""


@dataclass(frozen=True)
class Parsed:
    message: Any
    places: Places
    faults: tuple[Fault, ...]
    odd_strings: tuple[tuple[int, int], ...]
    """Values that are no UTF-8, which the server takes."""


class _Given(Exception):
    """Nothing can be told of what follows."""


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    take: Callable[[_Reader, _Field], Any] | None
    """Of a message: None."""
    has_presence: bool
    is_repeated: bool
    is_map: bool
    oneof: str
    descriptor: Any


@functools.cache
def _fields(descriptor: Any) -> dict[str, _Field]:
    return {field.name: _described(field) for field in descriptor.fields}


def _described(field: Any) -> _Field:
    message = field.message_type
    is_map = message is not None and message.GetOptions().map_entry
    oneof = field.containing_oneof.name if field.containing_oneof else ""
    in_entry = field.containing_type.GetOptions().map_entry
    take = None if message is not None else _TAKERS[field.cpp_type]
    return _Field(field.name, take, field.has_presence or in_entry, _repeated(field), is_map, oneof, field)


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


class _Reader:
    def __init__(self, text: str, is_clean: bool) -> None:
        self.text, self.is_clean = text, is_clean
        self.faults: list[Fault] = []
        self.odd_strings: list[tuple[int, int]] = []
        self._goes_on = False
        """Whether the server would have given up before."""

    def read(self, message: Any, root: dict[str | int, Place]) -> None:
        try:
            self.words = Words(self.text, self._heard)
            while self.words.kind != END:
                self._field(message, root)
        except _Given:
            pass

    # Faults

    def _heard(self, at: int, words: str) -> None:
        self._add(Fault("word", at, min(at + 1, len(self.text)), words, at, is_told=not self._goes_on))

    def _add(self, fault: Fault) -> None:
        """What comes of a fault of a word is told with that."""
        if any(last.kind == "word" and fault.start <= last.start <= fault.end for last in self.faults[-1:]):
            return
        self.faults.append(fault)
        if len(self.faults) >= MOST:
            raise _Given

    def _wrong(self, kind: str, words: str, begin: int, name: str, owner: str, known: tuple[str, ...] = ()) -> None:
        """One after which it is plain how to go on."""
        fault = Fault(kind, begin, begin + len(name), words, self.words.start, name, known, owner, not self._goes_on)
        self._goes_on = True
        self._add(fault)

    def given_up(self, words: str, owner: str = "") -> _Given:
        now = self.words
        if not self._goes_on:
            self._add(Fault("syntax", now.start, now.end, words, now.start, owner=owner))
        return _Given()

    # Words

    def _took(self, word: str) -> bool:
        if self.words.word != word:
            return False
        self.words.advance()
        return True

    def _must(self, word: str) -> None:
        if not self._took(word):
            raise self.given_up(f'Expected "{word}", found "{self.words.word}".')

    def identifier(self) -> str:
        words = self.words
        if words.kind != IDENTIFIER:
            raise self.given_up(f"Expected identifier, got: {words.word}")
        name = words.word
        words.advance()
        return name

    # Fields

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
                self._took(":")
            else:
                self._must(":")
            self._values(message, field, places, start)
        self._took(";") or self._took(",")

    def _extension(self, message: Any) -> None:
        self.words.advance()
        name = self.identifier()
        while self._took("."):
            name += "." + self.identifier()
        self._must("]")
        wanted = message.DESCRIPTOR.full_name
        raise self.given_up(
            f'Extension "{name}" is not defined or is not an extension of "{wanted}".', message.DESCRIPTOR.name
        )

    def _unknown(self, message: Any, name: str, start: int) -> None:
        descriptor = message.DESCRIPTOR
        words = f'Message type "{descriptor.full_name}" has no field named "{name}".'
        self._wrong("unknown-field", words, start, name, descriptor.name, tuple(_fields(descriptor)))
        self._took(":")
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

    def _check_once(self, message: Any, field: _Field, places: dict[str | int, Place], start: int) -> None:
        if field.is_repeated:
            return
        name = field.name
        if name in places and (field.has_presence or _is_said(getattr(message, name))):
            words = f'Non-repeated field "{name}" is specified multiple times.'
            self._wrong("given-twice", words, start, name, message.DESCRIPTOR.name)
        elif field.oneof and (other := message.WhichOneof(field.oneof)) and other != name:
            words = f'Field "{name}" is specified along with field "{other}", another member of oneof "{field.oneof}".'
            self._wrong("one-of-two", words, start, name, message.DESCRIPTOR.name, (other,))

    def _values(self, message: Any, field: _Field, places: dict[str | int, Place], start: int) -> None:
        words = self.words
        value = words.start
        if not field.is_repeated:
            place = places[field.name] = Place(start, value, value)
            self._value(message, field, place.inner)
            place.end = words.before
            return
        whole = places.setdefault(field.name, Place(start, value, value))
        if self._took("["):
            self._list(message, field, whole)
        else:
            self._item(message, field, whole, start)
        if whole.start == start:
            whole.end = words.before

    def _list(self, message: Any, field: _Field, whole: Place) -> None:
        if self._took("]"):
            return
        while True:
            self._item(message, field, whole, self.words.start)
            if self._took("]"):
                return
            self._must(",")

    def _item(self, message: Any, field: _Field, whole: Place, start: int) -> None:
        words, container = self.words, getattr(message, field.name)
        place = Place(start, words.start, words.start)
        step: str | int = len(whole.inner) if field.is_map else len(container)
        if field.is_map:
            step = self._entry(container, place)
        elif field.take is None:
            self._message(container.add(), place.inner)
        else:
            value = field.take(self, field)
            if value is not None:
                container.append(value)
        place.end = words.before
        whole.inner[step] = place

    def _value(self, message: Any, field: _Field, inner: dict[str | int, Place]) -> None:
        if field.take is None:
            nested = getattr(message, field.name)
            nested.SetInParent()
            self._message(nested, inner)
            return
        value = field.take(self, field)
        if value is not None:
            setattr(message, field.name, value)

    def _entry(self, container: Any, place: Place) -> str | int:
        """Its key. Of several with one key the last one holds."""
        entry = container.GetEntryClass()()
        self._message(entry, place.inner)
        held = place.inner.get("value")
        if hasattr(entry.value, "CopyFrom"):
            container[entry.key].CopyFrom(entry.value)
        else:
            container[entry.key] = entry.value
        if held is not None:
            place.inner = held.inner | place.inner
        key: str | int = entry.key
        return key

    def _message(self, message: Any, places: dict[str | int, Place]) -> None:
        words = self.words
        opening = words.word if words.word == "<" else "{"
        self._must(opening)
        while words.word not in CLOSING:
            self._field(message, places)
        self._must(OPENING[opening])

    # Values

    def string(self, _: _Field) -> str:
        words = self.words
        if words.kind != STRING:
            raise self.given_up(f"Expected string, got: {words.word}")
        first = words.word
        words.advance()
        if words.kind != STRING and "\\" not in first and self.is_clean:
            return first[1:-1]
        return self._joined(first)

    def _joined(self, first: str) -> str:
        words, start = self.words, self.words.before - len(first)
        value = unescaped(first)
        while words.kind == STRING:
            value += unescaped(words.word)
            words.advance()
        try:
            return value.decode()
        except UnicodeDecodeError:
            self.odd_strings.append((start, words.before))
            return value.decode(errors="backslashreplace")

    def unsigned(self, field: _Field, most: int) -> int | None:
        words = self.words
        if words.kind != INTEGER:
            raise self.given_up(f"Expected integer, got: {words.word}")
        value = integer(words.word)
        if value is None or value > most:
            self._wrong("range", f"Integer out of range ({words.word})", words.start, words.word, field.name)
            value = None
        words.advance()
        return value

    def signed(self, field: _Field, most: int) -> int | None:
        is_negative = self._took("-")
        value = self.unsigned(field, most + is_negative)
        return -value if value is not None and is_negative else value

    def truth(self, field: _Field) -> bool | None:
        words = self.words
        if words.kind == INTEGER:
            value = self.unsigned(field, 1)
            return None if value is None else bool(value)
        start, name = words.start, self.identifier()
        if name not in TRUTHS:
            told = f'Invalid value for boolean field "{field.name}". Value: "{name}".'
            self._wrong("boolean", told, start, name, field.name, ("true", "false"))
        return TRUTHS.get(name)

    def choice(self, field: _Field) -> int | None:
        words = self.words
        if words.kind == INTEGER or words.word == "-":
            return self.signed(field, 2**31 - 1)
        if words.kind != IDENTIFIER:
            raise self.given_up(f"Expected integer or identifier, got: {words.word}")
        start, name = words.start, self.identifier()
        known = field.descriptor.enum_type.values_by_name
        if name not in known:
            told = f'Unknown enumeration value of "{name}" for field "{field.name}".'
            self._wrong("unknown-value", told, start, name, field.name, tuple(known))
            return None
        return int(known[name].number)

    def real(self, _: _Field) -> float | None:
        is_negative = self._took("-")
        words = self.words
        value = decimal(words.kind, words.word)
        if value is None:
            is_written = words.kind == INTEGER
            got = words.word.lower() if words.kind == IDENTIFIER else words.word
            raise self.given_up(f"{'Expect a decimal number' if is_written else 'Expected double'}, got: {got}")
        words.advance()
        return -value if is_negative else value


_TAKERS: dict[int, Callable[[_Reader, _Field], Any]] = {
    1: lambda reader, field: reader.signed(field, 2**31 - 1),
    2: lambda reader, field: reader.signed(field, 2**63 - 1),
    3: lambda reader, field: reader.unsigned(field, 2**32 - 1),
    4: lambda reader, field: reader.unsigned(field, 2**64 - 1),
    5: _Reader.real,
    6: _Reader.real,
    7: _Reader.truth,
    8: _Reader.choice,
    9: _Reader.string,
}
"""By FieldDescriptor's CPPTYPE."""
