"""TorchScript archives without what one process or machine left in them, so that equal networks are equal files.

PyTorch numbers the classes that it has compiled in this process so far, and notes where in whose files each
operation came from. Both are renewed or left out here; weights are copied as they lie, in the kernel.
"""

from __future__ import annotations

import os
import re
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

NUMBERED = re.compile(rb"___torch_mangle_(\d+)")
PICKLED_CLASS = re.compile(rb"c__torch__[^\n]*\n")
"""How a pickle names a class: between an opcode and the line's end, so that the length may change."""
ALIGNMENT = 64
"""Of tensors in the file, as PyTorch's own writer has it."""
FIELD_HEADER = 4
"""Bytes before the content of an extra field, which fills the gap."""
LENGTHS_OFFSET = 26
"""Of the lengths of name and extra field in an entry's header."""
CHUNK = 16 << 20
EPOCH = (1980, 1, 1, 0, 0, 0)


def make_reproducible(path: Path) -> None:
    """Rewrite the archive; one that names its classes in ways unknown here is left as it is."""
    renewed = path.with_suffix(".renewed")
    with zipfile.ZipFile(path) as archive:
        entries = [entry for entry in archive.infolist() if not _is_left_out(entry.filename)]
        texts = {entry.filename: archive.read(entry) for entry in entries if _names_classes(entry.filename)}
        if any(name.endswith(".pkl") and NUMBERED.search(PICKLED_CLASS.sub(b"", texts[name])) for name in texts):
            return
        numbers = _numbers([*(name.encode() for name in texts), *texts.values()])
        with zipfile.ZipFile(renewed, "w") as target:
            for entry in entries:
                name = _renumbered(entry.filename.encode(), numbers).decode()
                if entry.filename in texts:
                    _append(target, name, _renumbered(texts[entry.filename], numbers))
                else:
                    _copy(archive, entry, target)
    renewed.replace(path)


def _is_left_out(name: str) -> bool:
    return name.endswith((".debug_pkl", ".data/serialization_id"))


def _names_classes(name: str) -> bool:
    return name.endswith((".pkl", ".py"))


def _numbers(texts: Iterable[bytes]) -> dict[bytes, bytes]:
    """New numbers of the classes, in the order of the old."""
    found = {number for text in texts for number in NUMBERED.findall(text)}
    return {number: str(new).encode() for new, number in enumerate(sorted(found, key=int))}


def _renumbered(text: bytes, numbers: dict[bytes, bytes]) -> bytes:
    return NUMBERED.sub(lambda match: b"___torch_mangle_" + numbers[match[1]], text)


def _append(target: zipfile.ZipFile, name: str, content: bytes) -> None:
    info = zipfile.ZipInfo(name, EPOCH)
    info.CRC = zlib.crc32(content)
    info.file_size = info.compress_size = len(content)
    _write(target, info, [content])


def _copy(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: zipfile.ZipFile) -> None:
    info = zipfile.ZipInfo(entry.filename, EPOCH)
    info.CRC, info.compress_type = entry.CRC, entry.compress_type
    info.file_size, info.compress_size = entry.file_size, entry.compress_size
    assert archive.fp  # it is open
    _write(target, info, _stored(archive.fp, entry))


def _stored(file: IO[bytes], entry: zipfile.ZipInfo) -> Iterator[bytes]:
    """An entry's bytes as they lie in the file, compressed or not: behind its header, name and extra field."""
    file.seek(entry.header_offset + LENGTHS_OFFSET)
    name, extra = struct.unpack("<HH", file.read(4))
    file.seek(name + extra, os.SEEK_CUR)
    rest = entry.compress_size
    while rest:
        chunk = file.read(min(rest, CHUNK))
        rest -= len(chunk)
        yield chunk


def _write(target: zipfile.ZipFile, info: zipfile.ZipInfo, chunks: Iterable[bytes]) -> None:
    """An entry whose checksum is known: zipfile itself would compute it again, and aligns nothing."""
    assert target.fp
    info.header_offset = target.fp.tell()
    gap = -(info.header_offset + len(info.FileHeader()) + FIELD_HEADER) % ALIGNMENT
    info.extra = struct.pack("<2sH", b"FB", gap) + b"\0" * gap
    target.fp.write(info.FileHeader())
    for chunk in chunks:
        target.fp.write(chunk)
    info.extra = b""
    target.filelist.append(info)
    target.NameToInfo[info.filename] = info
    target.start_dir = target.fp.tell()
    target._didModify = True  # type: ignore[attr-defined]
