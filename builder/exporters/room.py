"""Room on the disk, taken before PyTorch writes: its own writer ends the process where a file cannot grow."""

from __future__ import annotations

import os
from pathlib import Path

HEADERS = 16 << 20
"""More than an archive has beside its weights: code, names, the gaps between entries."""


def require_room(path: Path, size: int) -> None:
    """Raise OSError unless a file of so many bytes, and an archive's headers, can be written at `path`."""
    try:
        with path.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, size + HEADERS)
    finally:
        path.unlink(missing_ok=True)
