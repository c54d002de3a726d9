"""The log of an embedded server, read while it is written: what it tells of models, and why one is not served.

Triton tells nowhere else that a model's last request is through.
"""

from __future__ import annotations

import collections
import re
import sys
import threading
from collections.abc import Sequence
from typing import IO

KEPT_LINES = 40
UNLOADED = re.compile(r"successfully unloaded '(.+?)' version (\d+)")
FAILED = "failed to load"
# Lines that only --verbose asks for: at the level of information, with the month and the day behind the letter.
INFORMATION = re.compile(r"I\d{4} ")


class ServerLog:
    """Reads to the end, in a thread of its own: a pipe that nobody reads would hold the server up."""

    def __init__(self, stream: IO[bytes], key: str | None, verbose: bool, remarks: Sequence[str] = ()) -> None:
        """The key is never passed on; lines that hold one of the `remarks` are left out."""
        self._stream, self._key, self._verbose, self._remarks = stream, key, verbose, remarks
        # While the server starts, its reasons are gathered for one message.
        self.is_passed_on = verbose
        """Whether lines go on to standard error."""
        self.lines: collections.deque[str] = collections.deque(maxlen=KEPT_LINES)
        """The last of those that are worth telling."""
        self._unloaded: list[tuple[str, str]] = []
        """Models and versions that went, in order."""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def finish(self) -> None:
        """Wait, not for long, for the last words of a server that has ended."""
        self._reader.join(1)

    def pass_on(self, wanted: bool) -> None:
        """From here on pass the log on, or not; with --verbose it is passed on in any case."""
        self.is_passed_on = wanted or self._verbose

    def position(self) -> int:
        """How many went so far, for `since`."""
        return len(self._unloaded)

    def unloaded(self, since: int) -> set[tuple[str, str]]:
        """Models, with their versions, whose last request is through."""
        return set(self._unloaded[since:])

    def reason(self, model: dict[str, str]) -> str:
        """Why a model of the index is not served: as it says, or as the log says."""
        failed = re.compile(rf"{FAILED} '{re.escape(model['name'])}' version \d+: (.*)")
        said = (failed.search(line) for line in self.lines)
        reason = model.get("reason") or next((match[1] for match in said if match), "")
        reason = re.split(r"(\\n|\n){2}At:", reason)[0].rstrip('"')  # the stub adds its Python stack
        return re.sub(r"(\\n|\s)+", " ", reason).strip()

    def _read(self) -> None:
        with self._stream as lines:
            for line in lines:
                self._take(line.decode(errors="replace").rstrip())

    def _take(self, line: str) -> None:
        if self._key:
            line = line.replace(self._key, "(key)")
        if told := UNLOADED.search(line):
            self._unloaded.append((told[1], told[2]))
        if self._is_worth_telling(line):
            self.lines.append(line)
            if self.is_passed_on:
                print(line, file=sys.stderr, flush=True)

    def _is_worth_telling(self, line: str) -> bool:
        if not self._verbose and INFORMATION.match(line):
            return False
        return not any(remark in line for remark in self._remarks)
