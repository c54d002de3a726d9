"""Lines of logs: plain or gzip, finished or growing."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from client import signals
from client.errors import InvalidInput, UnreadableFile

GZIP = b"\x1f\x8b"
POLL_SECONDS = 0.25
BLOCK = 1024 * 1024
# Beyond it, what was read so far of a line that does not end is let go.
LONGEST = 1024 * 1024


def lines(path: str) -> Iterator[str]:
    """Raises UnreadableFile."""
    try:
        with _opened(path) as file:
            while line := file.readline(LONGEST):
                yield line.decode("utf-8", "surrogateescape")
    except (OSError, EOFError) as error:
        raise UnreadableFile(f"{path}: {getattr(error, 'strerror', None) or error}") from None


@contextlib.contextmanager
def _opened(path: str) -> Iterator[IO[bytes]]:
    if path == "-":
        yield io.BufferedReader(_Input())
        return
    with Path(path).open("rb") as file:
        packed = file.read(2) == GZIP
        file.seek(0)
        yield io.BufferedReader(gzip.GzipFile(fileobj=file)) if packed else file


class _Input(io.RawIOBase):
    """The standard input, which ends when the program is to."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        descriptor = sys.stdin.fileno()
        return os.readv(descriptor, [buffer]) if signals.of_process().readable(descriptor) else 0


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
            file = Path(path).open("rb")  # noqa: SIM115  # the caller closes it
        except FileNotFoundError:
            stop.wait(POLL_SECONDS)
            continue
        except OSError as error:
            raise UnreadableFile(f"{path}: {error.strerror}") from None
        if file.read(2) == GZIP:
            file.close()
            raise InvalidInput(f"{path} is compressed, so that nothing comes to it; read it without following")
        file.seek(0)
        return file
    return None


def _is_another(path: str, file: IO[bytes]) -> bool:
    try:
        found, open_one = os.stat(path), os.fstat(file.fileno())
    except OSError:
        return False  # it is being rotated
    return (found.st_dev, found.st_ino) != (open_one.st_dev, open_one.st_ino)
