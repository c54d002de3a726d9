"""Which files of a tree are there, and complete.

The tree is looked through again and again: unlike notifications, that sees what was there before, works on
network file systems, and cannot overflow.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from client.images import SUFFIXES

# Names that browsers, rsync, curl and editors give to what they have not finished.
UNFINISHED = (".*", "*.part", "*.partial", "*.tmp", "*.crdownload", "*.download", "*~")


@dataclass(frozen=True)
class Found:
    """A regular file as it was seen. The same path with another identity is another upload."""

    path: Path
    inode: int
    size: int
    mtime_ns: int

    @property
    def identity(self) -> tuple[int, int, int]:
        return self.inode, self.size, self.mtime_ns


def look(path: Path) -> Found | None:
    """None if it is gone, or no regular file."""
    try:
        stat = path.lstat()
    except OSError:
        return None
    if not os.path.isfile(path) or path.is_symlink():
        return None
    return Found(path, stat.st_ino, stat.st_size, stat.st_mtime_ns)


def walk(root: Path, without: frozenset[Path], every_file: bool) -> Iterator[Found]:
    """The files below `root`, not through links; what cannot be read now is there at the next look."""
    folders = [root]
    while folders:
        with contextlib.suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                path = Path(entry.path)
                if any(fnmatch(entry.name, pattern) for pattern in UNFINISHED) or path in without:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    folders.append(path)
                elif every_file or path.suffix.lower() in SUFFIXES:
                    found = look(path)
                    if found:
                        yield found


def is_complete(found: Found, settle: float) -> bool:
    """Whether it has been left alone for `settle` seconds, and nobody has it open for writing."""
    age = time.time() - found.mtime_ns / 1e9
    # A time in the future is a clock that is wrong, and says nothing about being written.
    return not 0 <= age < settle and not _is_being_written(found.path)


def _is_being_written(path: Path) -> bool:
    """By asking for a lease, which the kernel grants only where there is no writer.

    Where it cannot be asked (another user's file, a network file system), the age has to do.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False
