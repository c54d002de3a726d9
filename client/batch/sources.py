"""Which images: files, folders, patterns, and lists on the standard input, in the order given."""

from __future__ import annotations

import contextlib
import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from client import signals
from client.errors import InvalidInput, UnreadableFile
from client.files import standard_input
from client.formats import SUFFIXES
from client.types import Item, ModelInfo

STDIN = "-"


class Source(Protocol):
    """Where a run's items come from."""

    THINGS: ClassVar[str]
    """What they are called."""

    def items(self, info: ModelInfo) -> Iterator[Item]:
        """As the model takes them, few held at a time. Raises UnreadableFile, InvalidInput."""

    def count(self) -> int | None:
        """How many there are; None if that cannot be known before."""


@dataclass(frozen=True)
class Images:
    """See `find`."""

    words: Sequence[str]
    null: bool = False
    THINGS: ClassVar[str] = "images"

    def items(self, info: ModelInfo) -> Iterator[str]:  # noqa: ARG002  # any model takes any of them
        return find(self.words, self.null)

    def count(self) -> int | None:
        return count(self.words)


def find(sources: Sequence[str], null: bool = False) -> Iterator[str]:
    """Paths as strings, which hold any file name; one folder's names are held at a time.

    Folders are entered recursively, though not through links, files before subfolders and each by name. A subfolder
    that cannot be listed is given itself, so that reading it tells why. `null` says that paths on the standard input
    end in NUL, not in a newline. Raises UnreadableFile, InvalidInput.
    """
    for source in sources:
        if source == STDIN:
            yield from _listed(null)
        elif os.path.isdir(source):
            yield from _nonempty(_walk(source), f"{source}: there are no images in this folder")
        elif is_pattern(source):
            yield from matching(source)
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


def is_pattern(source: str) -> bool:
    """Whether it is to be expanded, as a shell would have done unless it was quoted."""
    return not os.path.lexists(source) and glob.has_magic(source)


def matching(pattern: str) -> Iterator[str]:
    """Files by name. Raises InvalidInput for none."""
    matches = (path for path in sorted(_matches(pattern)) if not os.path.isdir(path))
    return _nonempty(matches, f"{pattern}: no file matches")


def _walk(folder: str) -> Iterator[str]:
    """However deep it is: what is still to be entered is held as a list, not as calls."""
    try:
        files, folders = _listing(folder)
    except OSError as error:
        raise UnreadableFile(f"{folder}: {error.strerror}") from None
    yield from files
    while folders:
        inner = folders.pop()
        try:
            files, deeper = _listing(inner)
        except OSError:
            yield inner
            continue
        yield from files
        folders += deeper


def _listing(folder: str) -> tuple[list[str], list[str]]:
    """Its images by name, and its subfolders, the first one last. Raises OSError."""
    with os.scandir(folder) as entries:
        found = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
    files = [name for name, is_folder in found if not is_folder and os.path.splitext(name)[1].lower() in SUFFIXES]
    folders = [name for name, is_folder in reversed(found) if is_folder]
    return [os.path.join(folder, name) for name in files], [os.path.join(folder, name) for name in folders]


def _matches(pattern: str) -> set[str]:
    """As glob's, but that `**` does not go through links, which may lead in circles."""
    if pattern.endswith(os.sep):
        return set()  # it is of folders alone, which are not given
    before, deep, after = _parted(pattern)
    if not deep:
        return set(glob.iglob(pattern))
    found: set[str] = set()
    for start in glob.iglob(before) if before else ("",):
        for folder in _folders(start):
            found |= _matches(os.path.join(glob.escape(folder), after))
    return found


def _parted(pattern: str) -> tuple[str, bool, str]:
    """What is before the first `**`, whether there is one, and what is behind it."""
    parts = pattern.split(os.sep)
    if "**" not in parts:
        return pattern, False, ""
    place = parts.index("**")
    before = os.sep.join(parts[:place]) or (os.sep if place else "")
    after = [part for part in parts[place + 1 :] if part]  # an empty one would lead to the root
    return before, True, os.sep.join(after) or "*"


def _folders(start: str) -> Iterator[str]:
    """`start` and the folders in it, without hidden ones, as a shell has it."""
    waiting = [start]
    while waiting:
        folder = waiting.pop()
        yield folder
        with contextlib.suppress(OSError), os.scandir(folder or os.curdir) as entries:
            inner = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
            waiting += [os.path.join(folder, name) for name in inner if not name.startswith(".")]


def _nonempty(paths: Iterator[str], message: str) -> Iterator[str]:
    first = next(paths, None)
    if first is None:
        raise InvalidInput(message)
    yield first
    yield from paths


def _listed(null: bool) -> Iterator[str]:
    end = b"\0" if null else b"\n"
    rest = b""
    descriptor, stop = standard_input(), signals.of_process()
    while stop.readable(descriptor) and (chunk := os.read(descriptor, 65536)):
        *paths, rest = (rest + chunk).split(end)
        yield from (os.fsdecode(path) for path in paths if path)
    if rest:
        yield os.fsdecode(rest)
