"""Which texts: those of files, one a line, in the order given. Of a line that is too long, the beginning is held."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from client import files, signals
from client.batch import sources
from client.batch.sources import STDIN
from client.errors import Cancelled, UnreadableFile
from client.types import ModelInfo, Text

CHUNK = 1 << 16
HELD = 1 << 20
"""Bytes of a text that are kept, where the model does not tell how many it takes."""
MARK = b"\xef\xbb\xbf"
"""Of UTF-8, which may stand before the first text."""


@dataclass(frozen=True)
class Lines:
    """Text files, patterns, and `-` for the standard input.

    A newline ends a text, and so does a carriage return with one; the last text may go without. What is between two
    newlines is a text, if it is an empty one, too, so that texts and lines have the same numbers. `null`: a NUL ends a
    text, and nothing else does.
    """

    words: Sequence[str]
    null: bool = False
    THINGS: ClassVar[str] = "texts"

    def items(self, info: ModelInfo) -> Iterator[Text]:
        """Raises UnreadableFile and InvalidInput before the first text where a file is not there, or none matches."""
        most = info.max_text_bytes or HELD
        names = list(self._names())
        for name in names:
            _refuse_unreadable(name)
        for name in names:
            yield from self._texts(name, most)

    def count(self) -> int | None:
        """None if that cannot be known before."""
        try:
            names = list(self._names())
            return None if any(name == STDIN or files.is_own(name) for name in names) else sum(map(self._lines, names))
        except (UnreadableFile, OSError):
            return None

    def _names(self) -> Iterator[str]:
        for word in self.words:
            yield from sources.matching(word) if sources.is_pattern(word) else (word,)

    def _texts(self, name: str, most: int) -> Iterator[Text]:
        called = "stdin" if name == STDIN else name
        for number, (content, left_out) in enumerate(split(_chunks(name), self.null, most), 1):
            own = content.removeprefix(MARK) if number == 1 else content
            yield Text(own, f"{called}:{number}", left_out)

    def _lines(self, name: str) -> int:
        end, number, last = _end(self.null), 0, b""
        for chunk in _chunks(name):
            number, last = number + chunk.count(end), chunk[-1:]
        return number + (last not in (b"", end))


def split(chunks: Iterator[bytes], null: bool, most: int) -> Iterator[tuple[bytes, int]]:
    """Each text, and how many bytes of it were left out: no more than its beginning is held of one that is too long."""
    end, text = _end(null), _Held(most, not null)
    for chunk in chunks:
        *ended, rest = chunk.split(end)
        for part in ended:
            text.add(part)
            yield text.taken(is_ended=True)
        text.add(rest)
    if text.size:
        yield text.taken(is_ended=False)


class _Held:
    """What has come of a text so far."""

    def __init__(self, most: int, drops_return: bool) -> None:
        self._most = most + 1  # for a carriage return, which is no part of the text
        self._drops_return = drops_return
        self._kept, self._last, self.size = b"", b"", 0

    def add(self, part: bytes) -> None:
        if part:
            self._kept += part[: self._most - len(self._kept)]
            self._last = part[-1:]
            self.size += len(part)

    def taken(self, is_ended: bool) -> tuple[bytes, int]:
        """The text and how much of it is lacking; the next one begins."""
        kept, left_out, last = self._kept, self.size - len(self._kept), self._last
        self._kept, self._last, self.size = b"", b"", 0
        if is_ended and self._drops_return and last == b"\r":
            return (kept, left_out - 1) if left_out else (kept[:-1], 0)
        return kept, left_out


def _end(null: bool) -> bytes:
    return b"\0" if null else b"\n"


def _refuse_unreadable(name: str) -> None:
    if name == STDIN:
        files.standard_input()
    elif not files.is_own(name):
        with files.opened(name):
            pass


def _chunks(name: str) -> Iterator[bytes]:
    """Raises UnreadableFile."""
    if name == STDIN:
        yield from _read(files.standard_input(), name)
        return
    with files.opened(name) as descriptor:
        yield from _read(descriptor, name)


def _read(descriptor: int, name: str) -> Iterator[bytes]:
    """Raises Cancelled when the end is asked for: what has come of a text by then is none."""
    stop = signals.of_process()
    try:
        while stop.readable(descriptor):
            if not (chunk := os.read(descriptor, CHUNK)):
                return
            yield chunk
    except OSError as error:
        raise UnreadableFile(f"{name}: {error.strerror}") from None
    raise Cancelled("it was stopped")
