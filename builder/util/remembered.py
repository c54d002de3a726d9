"""SHA-256 of files, remembered between runs for as long as a file is surely the one that was read.

A file is known by its size, its times, and its place on the disk: `ctime` cannot be set, and a file that takes
another's place has another inode. As git does, what had just been changed when it was read is not remembered: a second
change within the same tick of the clock would leave all of that as it was. That holds for times to come, too, as they
are after the clock was set back.
"""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from builder.util import hashing

FORM = 1
TICK_NS = 2_000_000_000
"""Coarser than any filesystem's clock."""
MOST = 100_000
"""Files that are remembered."""


class Digests:
    """One moment's: a file that was asked for is not looked at again."""

    def __init__(self, file: Path | None = None, now: Callable[[], int] = time.time_ns) -> None:
        """`file` is what they are remembered in, in a folder that exists; without one they are not."""
        self._file, self._now = file, now
        self._known = _read(file) if file else {}
        self._new: dict[str, list[Any]] = {}
        self._asked: dict[str, str] = {}

    def of(self, path: Path) -> str:
        """Empty for what is no file, or cannot be read: whoever needs it says so."""
        text = os.path.abspath(path)  # noqa: PTH100  a thousand times: pathlib takes ten times as long
        if text not in self._asked:
            try:
                self._asked[text] = self._digest(text)
            except OSError:
                self._asked[text] = ""
        return self._asked[text]

    def _digest(self, text: str) -> str:
        mark = _mark(text)
        if not mark:
            return ""
        known = self._known.get(text)
        if known and known[1:] == mark:
            return str(known[0])
        began = self._now()
        digest = hashing.sha256(Path(text))
        if max(mark[1], mark[2]) < began - TICK_NS and _mark(text) == mark:
            self._new[text] = [digest, *mark]
        return digest

    def save(self) -> None:
        """Whatever hinders it: it is only slower then."""
        if self._file and self._new and self._file.parent.is_dir():
            kept = dict(list((_read(self._file) | self._new).items())[-MOST:])
            temporary = self._file.with_name(f"{self._file.name}.{os.getpid()}")
            with suppress(OSError):
                temporary.write_text(json.dumps({"form": FORM, "files": kept}), encoding="utf-8")
                temporary.replace(self._file)
            self._new = {}


def _mark(text: str) -> list[int]:
    """What changes when the file does; nothing for what is no file."""
    found = os.stat(text)  # noqa: PTH116
    if not stat.S_ISREG(found.st_mode):
        return []
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_dev]


def _read(file: Path) -> dict[str, list[Any]]:
    """Nothing of what is damaged, or of another form."""
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        found: dict[str, list[Any]] = document["files"] if document["form"] == FORM else {}
        return found if all(isinstance(mark, list) for mark in found.values()) else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
