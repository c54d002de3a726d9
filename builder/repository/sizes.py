"""What models take of the disk: each file once, whatever links to it, and what several models ask apart from them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from builder.repository import whole
from builder.repository.layout import CONFIG

BLOCK = 512
"""Bytes of what `st_blocks` counts, whatever the filesystem's own are."""


def of_models(repository: Path, names: Iterable[str]) -> tuple[dict[str, int], int]:
    """Bytes by the names that clients ask, all versions and what they ask included; and those of shared steps."""
    parts = {name: _parts(repository / name) for name in names}
    users: dict[str, set[str]] = {}
    for name, asked in parts.items():
        for part in asked:
            users.setdefault(part, set()).add(name)
    seen: set[tuple[int, int]] = set()
    own = {
        name: sum(_bytes(repository / part, seen) for part in sorted(asked) if len(users[part]) == 1)
        for name, asked in parts.items()
    }
    return own, sum(_bytes(repository / part, seen) for part in sorted(users) if len(users[part]) > 1)


def _parts(model: Path) -> set[str]:
    """The model itself, and whatever one of its versions asks."""
    configs = [folder / CONFIG for folder in model.iterdir() if folder.name.isdecimal()] if model.is_dir() else []
    return {model.name}.union(name for config in configs for name, _ in whole.calls(config))


def _bytes(folder: Path, seen: set[tuple[int, int]]) -> int:
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            found = os.lstat(os.path.join(root, name))  # noqa: PTH118  ten thousand times
            place = (found.st_dev, found.st_ino)
            total += 0 if place in seen else found.st_blocks * BLOCK
            seen.add(place)
    return total
