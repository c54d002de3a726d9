"""The texts that findings are in, read once each, for whoever shows them."""

from __future__ import annotations

import difflib
import os
import stat
from bisect import bisect_right
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from builder.check.findings import Edit, Finding

LARGEST_BYTES = 16 * 2**20
"""Of a text that is shown. A config of that size is no config that somebody reads."""


@dataclass(frozen=True)
class Text:
    """What is in a file, with the places of its lines."""

    text: str
    starts: tuple[int, ...]
    """Of each line, in characters."""

    def line(self, number: int) -> str:
        """Without its end; empty where there is none. The first is 1."""
        if not 1 <= number <= len(self.starts):
            return ""
        end = self.text.find("\n", self.starts[number - 1])
        return self.text[self.starts[number - 1] : None if end < 0 else end].rstrip("\r")

    def place(self, offset: int) -> tuple[int, int]:
        """Line and column of a character, both from 1."""
        line = bisect_right(self.starts, offset)
        return line, offset - self.starts[line - 1] + 1


@dataclass
class Sources:
    """By path. What cannot be read, or is no regular file, is an empty text."""

    _read: dict[Path, Text] = field(default_factory=dict)

    def of(self, path: Path) -> Text:
        if path not in self._read:
            text = _text(path)
            self._read[path] = Text(text, (0, *(at + 1 for at, letter in enumerate(text) if letter == "\n")))
        return self._read[path]

    def diff(self, finding: Finding, name: str) -> str:
        """What its edits change, as a unified diff of a file of that name; empty where there are none."""
        before = self.of(finding.path).text
        if not finding.edits or not before:
            return ""
        lines = difflib.unified_diff(
            before.splitlines(), edited(before, finding.edits).splitlines(), name, name, lineterm="", n=1
        )
        return "\n".join(lines)


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
