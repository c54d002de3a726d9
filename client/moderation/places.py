"""Where a file is moved to: under its own path, unless that is taken, kept for the books, or too long."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

BOOKS = re.compile(r"audit\.jsonl|\.moderate.*", re.DOTALL)
"""What the quarantine's own files are called; an upload of such a name would be written over, or read."""
LONGEST_NAME, LONGEST_PATH = 255, 4095
NUMBERS = 24
"""Bytes that a number behind a name, or a temporary one in its place, may need."""


def place(folder: Path, relative: Path) -> Path:
    """In `folder`, for what was at `relative`: no file of that name may be there as yet, see `names`.

    Nothing that somebody uploads may keep what they upload next from being moved.
    """
    if _is_short(folder / relative):
        first, *rest = relative.parts
        target = folder / (f"upload-{first}" if BOOKS.fullmatch(first) else first)
        for part in rest:
            target = _folder(target) / part
        if _is_short(target):
            return target
    digest = hashlib.sha256(os.fsencode(relative)).hexdigest()[:32]
    return folder / f"long-path-{digest}{_short(relative.suffix)}"


def names(path: Path) -> Iterator[Path]:
    """The path, then others beside it, each of them as short as a name must be."""
    yield path
    number = 1
    while True:
        end = os.fsencode(f"-{number}{_short(path.suffix)}")
        stem = os.fsencode(path.stem)[: LONGEST_NAME - len(end)]
        yield path.with_name(os.fsdecode(stem + end))
        number += 1


def _is_short(path: Path) -> bool:
    return len(os.fsencode(path)) <= LONGEST_PATH - NUMBERS


def _folder(path: Path) -> Path:
    """The path, or one beside it where a file stands in the way."""
    return next(name for name in names(path) if os.path.isdir(name) or not os.path.lexists(name))


def _short(suffix: str) -> str:
    return suffix if len(os.fsencode(suffix)) <= NUMBERS else ""
