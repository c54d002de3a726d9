"""Files with the bytes of a tensor, which a config names: warm-up data, initial states."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from os import path as names
from os import stat_result
from pathlib import Path

NOT_OPENED = "failed to open text file for read"
"""The server's words for a file that is not there."""


@dataclass(frozen=True)
class DataFile:
    path: Path
    status: stat_result | None
    """None: it is not there."""
    is_outside: bool
    """Whether it is in another folder than the model's."""

    @property
    def is_endless(self) -> bool:
        """A folder, whose size the server does not survive, or a pipe, for which it waits for ever."""
        return self.status is not None and (stat.S_ISDIR(self.status.st_mode) or stat.S_ISFIFO(self.status.st_mode))

    @property
    def is_folder(self) -> bool:
        return self.status is not None and stat.S_ISDIR(self.status.st_mode)

    @property
    def is_regular(self) -> bool:
        return self.status is not None and stat.S_ISREG(self.status.st_mode)

    @property
    def size(self) -> int:
        return self.status.st_size if self.status is not None else 0


def status(path: Path) -> stat_result | None:
    """None where there is nothing, or nothing can have such a name."""
    try:
        return path.stat()
    except (OSError, ValueError):
        return None


def look(model: Path, folder: str, name: str) -> DataFile:
    """At the file `name` of a folder of a model; it is not opened, so that nothing can hang or be large."""
    # A name is a C string to the server: it ends where its first zero is. A leading slash is one of the join.
    given = name.partition("\0")[0].lstrip("/")
    path = model / folder / given
    found = status(path)
    if found and given.endswith("/") and not stat.S_ISDIR(found.st_mode):
        found = None
    is_outside = names.normpath(f"{folder}/{given}").split("/")[0] == ".."
    return DataFile(path, found, is_outside)
