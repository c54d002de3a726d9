"""Lines of logs: plain or compressed, finished or growing."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from typing import IO, Any

from client import files, signals
from client.access_log import packing
from client.errors import InvalidInput, UnreadableFile

POLL_SECONDS = 0.25
BLOCK = 1024 * 1024
# Beyond it, what was read so far of a line that does not end is let go.
LONGEST = 1024 * 1024


def lines(path: str) -> Iterator[str]:
    """Raises UnreadableFile, after the lines that can be read."""
    count = 0
    with _opened(path) as file:
        try:
            for line in _ended(packing.unpacked(file)):
                yield line.decode("utf-8", "surrogateescape")
                count += 1
        except UnreadableFile as error:
            raise UnreadableFile(f"{path}: {error}") from None
        except packing.BROKEN as error:
            reason = getattr(error, "strerror", None) or error
            raise UnreadableFile(f"{path}: {reason}; {count} lines before that were read") from None


def _ended(file: IO[bytes]) -> Iterator[bytes]:
    """Of a line that is too long, the beginning: its rest would be taken for a line of its own."""
    while line := file.readline(LONGEST):
        yield line
        while len(line) == LONGEST and not line.endswith(b"\n"):
            line = file.readline(LONGEST)


@contextlib.contextmanager
def _opened(path: str) -> Iterator[io.BufferedReader]:
    if path == "-":
        yield io.BufferedReader(_Input(files.standard_input()))
        return
    with files.opened(path) as descriptor:
        if files.is_own(path):
            yield io.BufferedReader(_Input(descriptor))
        else:
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                yield file


class _Input(io.RawIOBase):
    """A pipe, which ends when the program is to."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        ready = signals.of_process().readable(self._descriptor)
        return os.readv(self._descriptor, [buffer]) if ready else 0


def followed(path: str, stop: signals.Stop) -> Iterator[str | None]:
    """What is there, then what comes, until `stop` is set; None whenever there is nothing new.

    The name is followed, not the file: after a rotation the new one is read from its start, and a file that
    was cut short is as well. A line is given when it has ended. Raises UnreadableFile, InvalidInput.
    """
    if path == "-":
        raise InvalidInput("the standard input ends by itself; name a file to follow")
    file, rest = _waited_for(path, stop), b""
    try:
        while file is not None:
            block = file.read(BLOCK)
            *complete, rest = (rest + block).split(b"\n")
            rest = rest if len(rest) <= LONGEST else b""
            yield from (line.decode("utf-8", "surrogateescape") for line in complete)
            if block and not stop.is_urgent:
                continue
            if stop.is_set():
                return
            yield None
            stop.wait(POLL_SECONDS)
            if _is_another(path, file):
                tail = file.read()  # what was written before the rotation was seen
                yield from (line.decode("utf-8", "surrogateescape") for line in (rest + tail).split(b"\n") if line)
                file.close()
                file, rest = _waited_for(path, stop), b""
            elif os.fstat(file.fileno()).st_size < file.tell():
                file.seek(0)
                rest = b""
    finally:
        if file is not None:
            file.close()


def _waited_for(path: str, stop: signals.Stop) -> IO[bytes] | None:
    """Between the two halves of a rotation there is no file."""
    while not stop.is_set():
        try:
            with files.opened(path) as descriptor:
                file = os.fdopen(os.dup(descriptor), "rb")
        except UnreadableFile as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
            stop.wait(POLL_SECONDS)
            continue
        if not packing.is_packed(file.peek(packing.LONGEST_MAGIC)):
            return file
        file.close()
        raise InvalidInput(f"{path} is compressed, so that nothing comes to it; read it without following")
    return None


def _is_another(path: str, file: IO[bytes]) -> bool:
    try:
        found, open_one = os.stat(path), os.fstat(file.fileno())
    except OSError:
        return False  # it is being rotated
    return (found.st_dev, found.st_ino) != (open_one.st_dev, open_one.st_ino)
