"""Compressed logs, known by their first bytes: rotated ones have all sorts of names."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable
from typing import IO, Any

from client.errors import UnreadableFile

BROKEN = (OSError, EOFError, zlib.error, lzma.LZMAError)
"""What readers raise where the compressed data is cut off or damaged."""


def _arrow(name: str) -> Callable[[IO[bytes]], Any]:
    def reader(file: IO[bytes]) -> Any:
        import pyarrow as pa

        return pa.CompressedInputStream(pa.PythonFile(file, mode="r"), name)

    return reader


READERS: dict[bytes, Callable[[IO[bytes]], Any]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
    b"\x28\xb5\x2f\xfd": _arrow("zstd"),
    b"\x04\x22\x4d\x18": _arrow("lz4"),
}
FOREIGN = {
    b"\x1f\x9d": "compress's",
    b"PK\x03\x04": "a ZIP archive's",
    b"7z\xbc\xaf\x27\x1c": "a 7-Zip archive's",
    b"LZIP": "lzip's",
    b"\x89LZO": "lzop's",
    b"Rar!": "a RAR archive's",
}
LONGEST_MAGIC = 6


def is_packed(head: bytes) -> bool:
    return head.startswith((*READERS, *FOREIGN))


def unpacked(file: io.BufferedReader) -> IO[bytes]:
    """What the file holds, uncompressed. Raises UnreadableFile for a compression that is not known here."""
    head = file.peek(LONGEST_MAGIC)[:LONGEST_MAGIC]
    for magic, whose in FOREIGN.items():
        if head.startswith(magic):
            raise UnreadableFile(f"it is {whose} kind of file; unpack it, and pipe it to `repo-client scan-log -`")
    for magic, reader in READERS.items():
        if head.startswith(magic):
            return io.BufferedReader(_Unpacking(reader(file)))
    return file


class _Unpacking(io.RawIOBase):
    """Gives all that can be unpacked before it tells of what cannot."""

    def __init__(self, file: Any) -> None:
        self._read = getattr(file, "read1", file.read)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._read(len(buffer))
        buffer[: len(data)] = data
        return len(data)
