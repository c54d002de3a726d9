"""Folders that whoever uploads may rename, or put a link in the place of, at any moment: held by descriptors."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

LONGEST_PATH = 4095
"""Bytes that the system opens a path of."""
TAKEN = re.compile(r"\.moderate-[0-9a-f]{16}")
"""What a file is called while it is on its way."""
FOLDER = os.O_DIRECTORY | os.O_CLOEXEC


@contextlib.contextmanager
def below(root: Path, folder: Path) -> Iterator[int]:
    """A descriptor of `folder`, to which no link below `root` leads, not even a new one. Raises OSError."""
    if len(os.fsencode(folder)) > LONGEST_PATH:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    descriptor = os.open(root, os.O_RDONLY | FOLDER)
    try:
        for part in folder.relative_to(root).parts:
            inner = os.open(part, os.O_RDONLY | FOLDER | os.O_NOFOLLOW, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def held(folder: Path) -> Iterator[Path]:
    """The folder under a name that stays its own, wherever it is moved meanwhile. Raises OSError."""
    descriptor = os.open(folder, os.O_PATH | FOLDER)
    try:
        name = Path(f"/proc/self/fd/{descriptor}")
        if not os.path.isdir(name):
            raise OSError(errno.ENOTSUP, "/proc is not mounted, through which folders are held")
        yield name
    finally:
        os.close(descriptor)
