"""Which images: files, folders, patterns, and lists on the standard input, in the order given."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from client import signals
from client.errors import InvalidInput, UnreadableFile
from client.images import SUFFIXES

STDIN = "-"


def find(sources: Sequence[str], null: bool = False) -> Iterator[str]:
    """Paths as strings, which hold any file name; one folder's names are held at a time.

    Folders are entered recursively, files before subfolders and each by name; `null` says that paths on
    the standard input end in NUL, not in a newline. Raises UnreadableFile, InvalidInput.
    """
    for source in sources:
        if source == STDIN:
            yield from _listed(null)
        elif Path(source).is_dir():
            yield from _nonempty(_walk(source), f"{source}: there are no images in this folder")
        elif not os.path.lexists(source) and glob.has_magic(source):
            matches = (path for path in sorted(glob.iglob(source, recursive=True)) if not Path(path).is_dir())
            yield from _nonempty(matches, f"{source}: no file matches")
        else:
            yield source


def count(sources: Sequence[str]) -> int | None:
    """How many `find` gives; None if that cannot be known before."""
    if STDIN in sources:
        return None
    try:
        return sum(1 for _ in find(sources))
    except (InvalidInput, OSError):
        return None


def _walk(folder: str) -> Iterator[str]:
    try:
        with os.scandir(folder) as entries:
            found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    except OSError as error:
        raise UnreadableFile(f"{folder}: {error.strerror}") from None
    found.sort()
    for name, is_folder in found:
        if not is_folder and os.path.splitext(name)[1].lower() in SUFFIXES:
            yield os.path.join(folder, name)
    for name, is_folder in found:
        if is_folder:
            yield from _walk(os.path.join(folder, name))


def _nonempty(paths: Iterator[str], message: str) -> Iterator[str]:
    first = next(paths, None)
    if first is None:
        raise InvalidInput(message)
    yield first
    yield from paths


def _listed(null: bool) -> Iterator[str]:
    end = b"\0" if null else b"\n"
    rest = b""
    descriptor, stop = sys.stdin.fileno(), signals.of_process()
    while stop.readable(descriptor) and (chunk := os.read(descriptor, 65536)):
        *paths, rest = (rest + chunk).split(end)
        yield from (os.fsdecode(path) for path in paths if path)
    if rest:
        yield os.fsdecode(rest)
