"""What is in a model's folder, as far as the server looks before any backend does."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

DATA_FOLDERS = frozenset({"warmup", "initial_state", "configs"})
"""Beside the versions; the server never takes their names for numbers."""
LARGEST = 2**63 - 1
SPACES = " \t\n\v\f\r"


@dataclass(frozen=True)
class Listing:
    folders: tuple[str, ...] = ()
    """Names of its folders, links to some included, in the server's order, which is that of bytes."""
    first: Mapping[str, bool | None] = field(default_factory=dict)
    """What is in the first of them: whether it is a folder; None: a link that leads nowhere."""
    broken: Path | None = None
    """A link in it that leads nowhere, which is as far as the server looks."""
    closed: Path | None = None
    """A folder that cannot be read here, which says nothing of the server's user; then there is no verdict on it."""


def listing_of(folder: Path) -> Listing:
    """Never raises, whatever is there."""
    try:
        content = _content(folder)
    except OSError:
        return Listing(closed=folder)
    names = sorted((name for name, is_folder in content.items() if is_folder), key=os.fsencode)
    lost = sorted((name for name, is_folder in content.items() if is_folder is None), key=os.fsencode)
    broken = folder / lost[0] if lost else None
    if not names:
        return Listing(broken=broken)
    try:
        return Listing(tuple(names), _content(folder / names[0]), broken)
    except OSError:
        return Listing(tuple(names), {}, broken, folder / names[0])


def _content(folder: Path) -> dict[str, bool | None]:
    with os.scandir(folder) as entries:
        return {entry.name: _is_folder(entry) for entry in entries}


def _is_folder(entry: os.DirEntry[str]) -> bool | None:
    if not entry.is_symlink():
        return entry.is_dir()
    try:
        return stat.S_ISDIR(entry.stat().st_mode)
    except PermissionError:
        return False  # The server's user may be another.
    except OSError:
        return None


def is_ignored(name: str) -> bool:
    """Whether the server skips a folder that its number would otherwise make a version."""
    return name in DATA_FOLDERS or (len(name) > 1 and name[0] == "0")


def number(name: str) -> int | None:
    """What C's `stoll` reads from the beginning of a name; None where it reads nothing. It may be too large for it."""
    text = name.lstrip(SPACES)
    sign, digits = (text[:1], text[1:]) if text[:1] in ("+", "-") else ("", text)
    length = 0
    while length < len(digits) and "0" <= digits[length] <= "9":
        length += 1
    if not length:
        return None
    # A name of a file has 255 bytes at most, so that no digits are too many for Python.
    return int(sign + digits[:length])


def version(name: str) -> int | None:
    """Of a folder; None: the server does not take it for one."""
    return None if is_ignored(name) else number(name)


def is_too_large(value: int) -> bool:
    """For the server, which ends when it meets such a number."""
    return not -LARGEST - 1 <= value <= LARGEST
