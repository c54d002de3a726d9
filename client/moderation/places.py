"""Where a file is moved to: under its own path, unless that is taken, kept for the books, too long, or refused."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

BOOKS = re.compile(r"audit\.jsonl|\.moderate.*", re.DOTALL | re.I)
"""What the quarantine's own files are called; an upload of such a name would be written over, or read."""
SUFFIX = re.compile(r"\.[a-z0-9]{1,16}", re.I | re.ASCII)
"""What any file system takes."""
LONGEST_NAME, LONGEST_PATH = 255, 4095
NUMBERS = 24
"""Bytes that a number behind a name, or a temporary one in its place, may need."""


def place(folder: Path, relative: Path) -> Path:
    """In `folder`, for what was at `relative`: no file of that name may be there as yet, see `names`.

    Nothing that somebody uploads may keep what they upload next from being moved.
    """
    if _is_short(folder / relative):
        first, *rest = relative.parts
        target = folder / (_cut(f"upload-{first}") if BOOKS.fullmatch(first) else first)
        for part in rest:
            target = _folder(target) / part
        if _is_short(target):
            return target
    return spare(folder, relative)


def spare(folder: Path, relative: Path) -> Path:
    """Where the file system takes no such name: many have rules of their own, about length, letters and encoding."""
    digest = hashlib.sha256(os.fsencode(relative)).hexdigest()[:32]
    suffix = relative.suffix if SUFFIX.fullmatch(relative.suffix) else ""
    return folder / f"long-path-{digest}{suffix}"


def names(path: Path) -> Iterator[Path]:
    """The path, then others beside it, each of them as short as a name must be."""
    yield path
    number = 1
    while True:
        yield path.with_name(_cut(path.name, f"-{number}"))
        number += 1


def _cut(name: str, number: str = "") -> str:
    """With `number` before its suffix, and no longer than a name may be."""
    suffix = _short(Path(name).suffix)
    end = os.fsencode(number + suffix)
    stem = os.fsencode(name.removesuffix(suffix))
    return os.fsdecode(stem[: LONGEST_NAME - len(end)] + end)


def _is_short(path: Path) -> bool:
    return len(os.fsencode(path)) <= LONGEST_PATH - NUMBERS


def _folder(path: Path) -> Path:
    """The path, or one beside it where a file stands in the way."""
    return next(name for name in names(path) if os.path.isdir(name) or not os.path.lexists(name))


def _short(suffix: str) -> str:
    return suffix if len(os.fsencode(suffix)) <= NUMBERS else ""
