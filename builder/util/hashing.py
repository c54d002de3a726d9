"""SHA-256 of files and folders."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

CACHE = "__pycache__"
"""The server writes such folders beside the steps' code."""
MAX_THREADS = 8


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each file below the folder, by its path there."""
    return {path.relative_to(folder).as_posix(): digest for path, digest in hashed(_files(folder)).items()}


def hashed(files: Iterable[Path]) -> dict[Path, str]:
    """SHA-256 of each, several at the same time: hashlib lets go of the interpreter."""
    listed = list(files)
    with ThreadPoolExecutor(min(MAX_THREADS, os.cpu_count() or 1)) as pool:
        return dict(zip(listed, pool.map(_sha256, listed), strict=True))


def _files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if CACHE not in path.parts and path.is_file()]


def _sha256(path: Path) -> str:
    """Read in chunks; empty for a file that was taken away meanwhile."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return ""
