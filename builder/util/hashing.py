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


def sha256(path: Path) -> str:
    """Read in chunks. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_if_there(path: Path) -> str:
    """Empty for a file that was taken away meanwhile."""
    try:
        return sha256(path)
    except FileNotFoundError:
        return ""


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each file below the folder, by its path there."""
    return {path.relative_to(folder).as_posix(): digest for path, digest in hashed(files(folder)).items()}


def hashed(paths: Iterable[Path]) -> dict[Path, str]:
    """SHA-256 of each, several at the same time: hashlib lets go of the interpreter."""
    listed = list(paths)
    with ThreadPoolExecutor(min(MAX_THREADS, os.cpu_count() or 1)) as pool:
        return dict(zip(listed, pool.map(sha256_if_there, listed), strict=True))


def files(folder: Path) -> list[Path]:
    """All below the folder, but for the server's."""
    return [path for path in sorted(folder.rglob("*")) if CACHE not in path.parts and path.is_file()]
