"""What files take of the disk, in bytes; what has several names counts once."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

BLOCK = 512
"""What `st_blocks` counts in, whatever the filesystem's own are."""


def used(paths: Iterable[Path]) -> int:
    """By all files below the paths."""
    return sum(told.st_blocks * BLOCK for told in {_key(told): told for told in _files(paths)}.values())


def freed(paths: Iterable[Path]) -> int:
    """What the disk gets back when the paths are gone: nothing for a file that has another name elsewhere."""
    names: dict[tuple[int, int], list[os.stat_result]] = {}
    for told in _files(paths):
        names.setdefault(_key(told), []).append(told)
    return sum(told[0].st_blocks * BLOCK for told in names.values() if len(told) >= told[0].st_nlink)


def _files(paths: Iterable[Path]) -> Iterable[os.stat_result]:
    """Of each name once; links are not followed, since what they lead to stays."""
    below = {file for path in paths for file in ((path, *path.rglob("*")) if path.is_dir() else (path,))}
    told = [file.lstat() for file in sorted(below)]
    return [one for one in told if stat.S_ISREG(one.st_mode)]


def _key(told: os.stat_result) -> tuple[int, int]:
    return told.st_dev, told.st_ino
