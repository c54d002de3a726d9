"""Where everything is in a config's text: counted only when somebody asks, since most configs are in order."""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from builder.check.findings import Span

PathOf = tuple[str | int, ...]
"""Of a field: ("input", 0, "dims", 1); in a map: ("parameters", "key", "string_value")."""


@dataclass(slots=True)
class Place:
    start: int
    """Of the field's name; of the value, where it stands in a list."""
    value: int
    """Where its value begins."""
    end: int
    inner: dict[str | int, Place] | None = None
    """By field of a message, number in a list, key of a map."""


class Lines:
    """Lines and columns of a text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._ends: list[int] | None = None

    def span(self, start: int, end: int) -> Span:
        line, begin = self.line(start)
        return Span(start, end, line + 1, start - begin + 1)

    def line(self, at: int) -> tuple[int, int]:
        """Its number, from 0, and where it begins."""
        if self._ends is None:
            self._ends = [end.start() for end in re.finditer("\n", self._text)]
        number = bisect.bisect_left(self._ends, at)
        return number, self._ends[number - 1] + 1 if number else 0

    def protobuf(self, at: int) -> str:
        """Line and column as protobuf counts: in bytes, with tabs that go on to the next eighth."""
        number, begin = self.line(at)
        column = 0
        for byte in self._text[begin:at].encode("utf-8", "surrogateescape"):
            column += 8 - column % 8 if byte == 9 else 1
        return f"{number + 1}:{column + 1}"


class Places(Mapping[PathOf, Span]):
    """Of every field that is in the text."""

    def __init__(self, root: dict[str | int, Place] | None = None, text: str = "") -> None:
        self._root, self._lines = root or {}, Lines(text)

    def _place(self, path: PathOf) -> Place:
        inner: dict[str | int, Place] | None = self._root
        found = None
        for step in path:
            if inner is None:
                raise KeyError(path)
            found = inner[step]
            inner = found.inner
        if found is None:
            raise KeyError(path)
        return found

    def __getitem__(self, path: PathOf) -> Span:
        place = self._place(path)
        return self._lines.span(place.start, place.end)

    def value(self, path: PathOf) -> Span:
        """Without the name. Raises KeyError."""
        place = self._place(path)
        return self._lines.span(place.value, place.end)

    def __iter__(self) -> Iterator[PathOf]:
        waiting: list[tuple[PathOf, dict[str | int, Place]]] = [((), self._root)]
        while waiting:
            path, inner = waiting.pop()
            for step, place in inner.items():
                yield (*path, step)
                if place.inner:
                    waiting.append(((*path, step), place.inner))

    def __len__(self) -> int:
        return sum(1 for _ in self)
