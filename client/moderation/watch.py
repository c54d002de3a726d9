"""Files as they are seen, and whether an upload is complete."""

from __future__ import annotations

import fcntl
import os
import signal
import stat
import time
from dataclasses import dataclass
from pathlib import Path

TICK_SECONDS = 0.02
"""Two changes within one tick of the kernel's clock bear the same time."""


@dataclass(frozen=True)
class Found:
    """A regular file as it was seen. The same path with another identity is another upload."""

    path: Path
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    """When the file, its name or its times were last changed: unlike mtime, nobody can set it."""
    device: int = 0
    """Of the file system; its number may be another one after the next start of the machine."""

    @property
    def identity(self) -> tuple[int, int, int, int]:
        return self.inode, self.size, self.mtime_ns, self.ctime_ns

    @property
    def content(self) -> tuple[int, int, int]:
        """What of the identity a change of the name leaves as it is."""
        return self.inode, self.size, self.mtime_ns

    def is_same_but_for_times(self, other: Found | None) -> bool:
        return other is not None and (self.device, self.inode, self.size) == (other.device, other.inode, other.size)


def look(path: Path) -> Found | None:
    """None if it is gone, or no regular file."""
    try:
        facts = os.lstat(path)
    except OSError:
        return None
    return seen(path, facts) if stat.S_ISREG(facts.st_mode) else None


def seen(path: Path, facts: os.stat_result) -> Found:
    return Found(path, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_dev)


def is_complete(found: Found, settle: float) -> bool:
    """Whether it has been left alone for `settle` seconds, and nobody has it open for writing."""
    now = time.time()
    ages = [now - moment / 1e9 for moment in (found.mtime_ns, found.ctime_ns)]
    # A time in the future is a clock that is wrong, and says nothing about being written.
    age = min((age for age in ages if age >= 0), default=settle + TICK_SECONDS)
    return age >= max(settle, TICK_SECONDS) and not _is_being_written(found.path)


class Patience:
    """With files that are not left alone: touching one again and again must not keep it from being judged for ever."""

    def __init__(self, longest: float) -> None:
        self._longest = longest
        self._since: dict[Path, tuple[int, int, float]] = {}
        """Since when a file has been seen, as it is but for its times."""

    def is_over(self, found: Found, settle: float) -> bool:
        """Whether it is complete, or has been the same file of the same size for so long that it is taken for that."""
        is_strained = self.is_strained(found)
        return is_complete(found, settle) or (is_strained and not _is_being_written(found.path))

    def is_strained(self, found: Found) -> bool:
        """Whether its times no longer count: it may have been touched at each look, or at each reading."""
        now = time.monotonic()
        inode, size, since = self._since.get(found.path, (0, 0, now))
        if (inode, size) != (found.inode, found.size):
            self._since[found.path] = found.inode, found.size, (since := now)
        return now - since >= self._longest

    def restart(self, found: Found) -> None:
        """It was judged."""
        self._since.pop(found.path, None)

    def forget_gone(self) -> None:
        self._since = {path: seen for path, seen in self._since.items() if os.path.lexists(path)}


def _is_being_written(path: Path) -> bool:
    """By asking for a lease, which the kernel grants only where there is no writer.

    Where it cannot be asked (another user's file, a network file system), the age has to do.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        # Of a writer that comes now the kernel tells, by SIGIO, which would end the process, unless asked for another.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False
