"""What stands under a name, read only where it is a file: whatever else is there is neither opened nor waited for."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

from builder.check.findings import DIED

KINDS: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)

NOT_READ = "TMR015"


class NotRead(Exception):
    """`code` of the rule, `message` a clause, `server` what Triton says of it."""

    def __init__(self, code: str, message: str, server: str = "") -> None:
        super().__init__(message)
        self.code, self.message, self.server = code, message, server


def content(path: Path, most: int) -> bytes:
    """Of a regular file. Raises NotRead, and FileNotFoundError where nothing has the name."""
    try:
        _require_file(path.stat())
        # What was a file a moment ago may be a pipe by now.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise _failed(path, error) from None
    try:
        told = os.fstat(descriptor)
        _require_file(told)
        if told.st_size > most:
            raise _too_large(told.st_size, most)
        return _all(descriptor, most)
    except OSError as error:
        raise _failed(path, error) from None
    finally:
        os.close(descriptor)


# Path.exists and is_dir raise for a name that is too long, or in a folder that may not be looked into.
def is_there(path: Path) -> bool:
    """Whether something has the name; what this user may not see, the server may."""
    try:
        path.stat()
    except PermissionError:
        return True
    except (OSError, ValueError):
        return False
    return True


def is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (OSError, ValueError):
        return False


def _require_file(told: os.stat_result) -> None:
    if stat.S_ISREG(told.st_mode):
        return
    kind = next((name for is_kind, name in KINDS if is_kind(told.st_mode)), "no file")
    server = _REFUSED.get(kind)
    if server is None:
        raise NotRead(NOT_READ, f"it is {kind}, which was not opened")
    raise NotRead("TMR001", f"it is {kind}", server)


_REFUSED = {
    "a folder": DIED,
    "a named pipe": "the server did not come back",
    "a socket": "failed to open text file for read",
}


def _failed(path: Path, error: OSError) -> Exception:
    if error.errno == errno.ELOOP:
        return _linked("it is a link that leads in a circle")
    if error.errno in _NOWHERE and path.is_symlink():
        return _linked("it is a link to what is not there")
    if error.errno == errno.ENOENT:
        return FileNotFoundError(path)
    why = os.strerror(error.errno).lower() if error.errno else str(error)
    return NotRead(NOT_READ, f"it could not be read: {why}")


_NOWHERE = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)


def _linked(message: str) -> NotRead:
    return NotRead("TMR014", message, "failed to stat file")


def _too_large(size: int, most: int) -> NotRead:
    return NotRead(NOT_READ, f"it has {size:,} bytes, and what is larger than {most:,} is not read")


def _all(descriptor: int, most: int) -> bytes:
    """What a descriptor gives until its end, which may be another than it had a moment ago. Raises NotRead, OSError."""
    parts, left = [], most + 1
    while left and (part := os.read(descriptor, min(left, 1 << 20))):
        parts.append(part)
        left -= len(part)
    if not left:
        raise _too_large(most + 1, most)
    return b"".join(parts)
