"""The texts that findings are in, read once each, for whoever shows them."""

from __future__ import annotations

import difflib
import os
import re
import stat
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from builder.check.findings import Edit, Finding, Span
from builder.util.shown import printable

LARGEST_BYTES = 16 * 2**20
"""Of a text that is shown. A config of that size is no config that somebody reads."""
LONGEST_DIFF = 20_000
"""Characters between the first edit and the last."""


HUNK = re.compile(r"@@ -(\d+)(.*) \+(\d+)(.*) @@")


@dataclass(frozen=True)
class Text:
    """What is in a file. It may be long, and much may be wrong with it: nothing here goes through all of it."""

    text: str

    def line_at(self, offset: int) -> str:
        """The line that a character is in, without its end."""
        end = self.text.find("\n", offset)
        return self.text[self._start(offset) : None if end < 0 else end].rstrip("\r")

    def place(self, offset: int, known: Span) -> tuple[int, int]:
        """Line and column of a character, both from 1, by one whose place is known."""
        first, last = sorted((offset, known.start))
        between = self.text.count("\n", first, last)
        line = known.line + (between if offset >= known.start else -between)
        return line, offset - self._start(offset) + 1

    def around(self, first: int, last: int) -> tuple[int, int]:
        """Where the lines of these characters begin and end, and those before and behind them."""
        begin, end = self._start(max(0, self._start(first) - 1)), last
        for _ in range(2):
            found = self.text.find("\n", end)
            end = len(self.text) if found < 0 else found + 1
        return begin, end

    def _start(self, offset: int) -> int:
        return self.text.rfind("\n", 0, offset) + 1


@dataclass
class Sources:
    """By path. What cannot be read, or is no regular file, is an empty text."""

    _read: dict[Path, Text] = field(default_factory=dict)

    def of(self, path: Path) -> Text:
        if path not in self._read:
            self._read[path] = Text(_text(path))
        return self._read[path]

    def diff(self, finding: Finding, name: str) -> str:
        """What its edits change, as a unified diff of a file of that name; empty where there are none."""
        text, edits = self.of(finding.path), finding.edits
        if not edits or not text.text or finding.span is None:
            return ""
        begin, end = text.around(min(each.start for each in edits), max(each.end for each in edits))
        if end - begin > LONGEST_DIFF:
            return ""
        before = text.text[begin:end]
        after = edited(before, [replace(each, start=each.start - begin, end=each.end - begin) for each in edits])
        above = text.place(begin, finding.span)[0] - 1
        shown = printable(name)
        lines = difflib.unified_diff(_lines(before), _lines(after), shown, shown, lineterm="", n=1)
        return "\n".join(_moved(line, above) for line in lines)


def _lines(text: str) -> list[str]:
    """As `patch` counts them: what else Python takes for a line's end is a part of it."""
    return text.removesuffix("\n").split("\n")


def _moved(line: str, above: int) -> str:
    """A line of a diff of what stands below so many lines."""
    if not (hunk := HUNK.fullmatch(line)):
        return line
    return f"@@ -{int(hunk[1]) + above}{hunk[2]} +{int(hunk[3]) + above}{hunk[4]} @@"


def edited(text: str, edits: Iterable[Edit]) -> str:
    """The text with all of them made; they do not overlap."""
    for edit in sorted(edits, key=lambda each: (each.start, each.end), reverse=True):
        text = text[: edit.start] + edit.text + text[edit.end :]
    return text


def _text(path: Path) -> str:
    with suppress(OSError, ValueError):
        # Whoever opens a pipe waits for its other end.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        with os.fdopen(descriptor, "rb") as file:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                content = file.read(LARGEST_BYTES + 1)
                return content.decode("utf-8", "surrogateescape") if len(content) <= LARGEST_BYTES else ""
    return ""
