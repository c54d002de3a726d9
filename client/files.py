"""Files that somebody else named: read without waiting for whatever else may stand under a name."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import time
from collections.abc import Iterator

from client.errors import UnreadableFile

KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a link",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
OWN = ("/dev/stdin", "/dev/fd/", "/proc/self/fd/")
"""What this process was given, as by `<(command)` of a shell; whoever gave it knows what it is."""

LEASE_SECONDS = 5.0
"""As file servers need to end a lease, which they are asked to."""
POLL_SECONDS = 0.05


@contextlib.contextmanager
def opened(path: str, follow: bool = True) -> Iterator[int]:
    """A descriptor of a regular file, or of one of this process's own. Raises UnreadableFile.

    Nothing is opened but what is a file: to open a device does something, and a pipe waits for its writer.
    """
    descriptor = _open(path, follow)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def read(path: str) -> bytes:
    """Raises UnreadableFile."""
    with opened(path) as descriptor:
        return content(descriptor, path)


def content(descriptor: int, path: str) -> bytes:
    """All of it; `path` is what errors call it. Raises UnreadableFile."""
    with _telling(path), os.fdopen(descriptor, "rb", closefd=False) as file:
        return file.read()


def standard_input() -> int:
    """Its descriptor. Raises UnreadableFile."""
    if sys.stdin is None:
        raise UnreadableFile("-: the standard input is closed")
    return sys.stdin.fileno()


def kind(mode: int) -> str:
    """What a file that is no regular one is."""
    return KINDS.get(stat.S_IFMT(mode), "no regular file")


def is_own(path: str) -> bool:
    return path.startswith(OWN)


def _open(path: str, follow: bool) -> int:
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY
    flags |= (0 if is_own(path) else os.O_NONBLOCK) | (0 if follow else os.O_NOFOLLOW)
    with _telling(path):
        _refuse_others(path, os.stat(path, follow_symlinks=follow).st_mode)
        descriptor = _patiently(path, flags)
    try:
        with _telling(path):
            _refuse_others(path, os.fstat(descriptor).st_mode)  # what was put there since
    except UnreadableFile:
        os.close(descriptor)
        raise
    return descriptor


def _patiently(path: str, flags: int) -> int:
    """Others may hold a lease on the file, which this asks them to end. Raises OSError."""
    deadline = time.monotonic() + LEASE_SECONDS
    while True:
        try:
            return os.open(path, flags)
        except BlockingIOError:  # as O_NONBLOCK has it
            if time.monotonic() >= deadline:
                raise
        time.sleep(POLL_SECONDS)


def _refuse_others(path: str, mode: int) -> None:
    if stat.S_ISREG(mode) or (is_own(path) and not stat.S_ISDIR(mode)):
        return
    if stat.S_ISDIR(mode):
        with os.scandir(path):  # why a folder could not be entered says more than that it is one
            pass
    raise UnreadableFile(f"{path}: it is {kind(mode)}, not a file; nothing but files is opened")


@contextlib.contextmanager
def _telling(path: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name, or half a letter
        raise UnreadableFile(f"{path}: {getattr(error, 'strerror', None) or error}") from error
