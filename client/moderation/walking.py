"""What is in a tree of uploads: files to judge, and what cannot be judged, which is never passed over in silence.

The tree is looked through again and again: unlike notifications, that sees what was there before, works on
network file systems, and cannot overflow.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from client.files import kind
from client.formats import is_image, looks_unfinished
from client.moderation.folders import LONGEST_PATH, TAKEN, below
from client.moderation.watch import Found, seen


@dataclass(frozen=True)
class Left:
    """What is there and cannot be judged, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Wanted:
    """Which files of the tree are uploads."""

    root: Path
    without: frozenset[Path] = frozenset()
    """Folders that are not entered: where files are moved to."""
    every_file: bool = False
    ignored: tuple[str, ...] = ()
    """Patterns of names, of files and folders, that are no uploads."""

    def has(self, path: Path) -> bool:
        return path not in self.without and not any(fnmatchcase(path.name, pattern) for pattern in self.ignored)

    def is_upload(self, name: str) -> bool:
        """What a move that was cut off left under a name of its own is one, whatever it was called before."""
        return self.every_file or is_image(name) or bool(TAKEN.fullmatch(name))

    def is_unfinished(self, path: Path) -> bool:
        """Whether its name, or a folder's that it is in, looks as if something were still to come."""
        return any(map(looks_unfinished, path.relative_to(self.root).parts))


def walk(wanted: Wanted) -> Iterator[Found | Left]:
    """Through no links, however deep; what comes meanwhile is there at the next look."""
    folders = [wanted.root]
    while folders:
        folder = folders.pop()
        try:
            yield from _listing(folder, wanted, folders)
        except OSError as error:
            if folder == wanted.root or not isinstance(error, FileNotFoundError | NotADirectoryError):
                yield Left(folder, f"the folder cannot be read: {error.strerror}")


def _listing(folder: Path, wanted: Wanted, folders: list[Path]) -> Iterator[Found | Left]:
    """One folder's, of which subfolders are added to `folders`. Raises OSError."""
    with contextlib.ExitStack() as stack:
        descriptor = stack.enter_context(below(wanted.root, folder))
        for entry in stack.enter_context(os.scandir(descriptor)):
            path = folder / entry.name
            if not wanted.has(path):
                continue
            facts = _facts(entry)
            if facts and stat.S_ISDIR(facts.st_mode):
                folders.append(path)
            elif facts:
                yield from _looked_at(path, facts, wanted)


def _facts(entry: os.DirEntry[str]) -> os.stat_result | None:
    """None for what has gone meanwhile."""
    try:
        return entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None


def _looked_at(path: Path, facts: os.stat_result, wanted: Wanted) -> Iterator[Found | Left]:
    if stat.S_ISLNK(facts.st_mode):
        reason = _of_link(path, wanted)
        if reason:
            yield Left(path, reason)
    elif not wanted.is_upload(path.name):
        return
    elif not stat.S_ISREG(facts.st_mode):
        yield Left(path, f"it is {kind(facts.st_mode)}, not a file")
    elif len(os.fsencode(path)) > LONGEST_PATH:
        yield Left(path, "its path is too long to be opened")
    else:
        yield seen(path, facts)


def _of_link(path: Path, wanted: Wanted) -> str:
    """Why what it leads to is not judged; nothing where that is an upload of the tree, or none at all."""
    try:
        facts = os.stat(path)
    except OSError as error:
        return f"it is a link that leads nowhere: {error.strerror}" if wanted.is_upload(path.name) else ""
    is_folder = stat.S_ISDIR(facts.st_mode)
    if not is_folder and not wanted.is_upload(path.name):
        return ""
    target = Path(os.path.realpath(path))
    root = Path(os.path.realpath(wanted.root))
    if not target.is_relative_to(root):
        return "it is a link that leads out of the folder"
    inside = wanted.root / target.relative_to(root)
    if any(
        not wanted.has(part)
        for part in (inside, *inside.parents)
        if part != wanted.root and part.is_relative_to(wanted.root)
    ):
        return "it is a link to what is not looked at"
    return "" if is_folder or wanted.is_upload(target.name) else "it is a link to a file that is not judged"
