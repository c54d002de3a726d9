"""A repository as it is at one moment, which whatever a build does to it later cannot change.

A server that reads the repository itself would see a build that publishes: configs of the new version beside folders
of the old one, and steps that are taken away while it still needs them. So it is given a folder of its own. Small files
in it are copies; of the large ones it holds links to open files, which stay readable after they were removed.

The standard library alone: the first process of a container uses this, too.
"""

from __future__ import annotations

import os
import resource
import shutil
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

COPIED_BYTES = 64 * 1024
"""Files up to this size are copied: configs, labels, a step's code. What is larger costs an open file, not memory."""
PATIENCE_SECONDS = 20.0
"""A build publishes a model within moments, and its other models later."""
PAUSE_SECONDS = 0.05
SPARE_FILES = 256
"""What a launcher and its libraries open beside the repository's files."""
CACHE = "__pycache__"

FAR = 4102444800
"""The year 2100, in seconds: the time of every model's folder, so that the server takes none for changed.

It would load a changed one as the files say, not as it was asked to, when an ensemble is loaded that asks it.
"""

FOLDER = "/"
"""What the name of a folder ends with in a listing."""

Listing = dict[str, tuple[int, int, int, int]]
"""By path in the repository: device, inode, and of files the time of change in ns and the size in bytes."""


class Changing(OSError):
    """The repository changed whenever it was looked at."""


class Snapshot:
    """The folder, and the files that are held open for it: `close` lets go of them."""

    def __init__(self, repository: Path, folder: Path, patience: float = PATIENCE_SECONDS) -> None:
        """Take it into `folder`, which is made. Raises OSError; Changing if for that many seconds nothing rests."""
        self.repository, self.folder = repository, folder
        self.entries: Listing = {}
        """What it has of the repository."""
        self._open: dict[str, int] = {}
        """By path in the repository."""
        deadline = time.monotonic() + patience
        while not self._taken():
            if time.monotonic() > deadline:
                raise Changing(f"{repository} changed all the time for {patience:.0f} s; what writes there?")
            time.sleep(PAUSE_SECONDS)

    def close(self) -> None:
        """Let go of the files. Any thread may, and more than once."""
        opened, self._open = self._open, {}
        close(opened)

    def copy(self, entries: Listing, folder: Path) -> dict[str, int]:
        """Copy entries of the repository to `folder`, which is made; the large files that are open now. Raises OSError.

        They are the caller's, to `adopt` or to close.
        """
        opened: dict[str, int] = {}
        try:
            _allow_files(len(self._open) + len(_large(entries)) + SPARE_FILES)
            _copy(self.repository, entries, folder, opened)
        except BaseException:
            close(opened)
            raise
        return opened

    def adopt(self, opened: dict[str, int]) -> None:
        """Hold these from here on; what was held under their names is let go."""
        before = {name: self._open.pop(name) for name in opened if name in self._open}
        self._open |= opened
        close(before)

    def let_go(self, folder: str) -> None:
        """Close the files of a folder of the repository."""
        close({name: self._open.pop(name) for name in list(self._open) if name.startswith(folder)})

    def _taken(self) -> bool:
        """Whether nothing changed meanwhile: only then is all of it of one moment, that between the two looks."""
        before = listing(self.repository)
        try:
            self._open = self.copy(before, self.folder)
        except FileNotFoundError:  # a build took it away between the two looks
            complete = False
        except BaseException:
            self._discard()
            raise
        else:
            complete = listing(self.repository) == before
        if not complete:
            self._discard()
        self.entries = before
        if complete:
            self.stamp(before)
        return complete

    def stamp(self, names: Iterable[str]) -> None:
        """Give the folders of the models that paths are in the time that they always have."""
        for model in {name.partition(FOLDER)[0] for name in names if FOLDER in name}:
            os.utime(self.folder / model, (FAR, FAR))

    def _discard(self) -> None:
        self.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def close(opened: dict[str, int]) -> None:
    for descriptor in opened.values():
        os.close(descriptor)


def _large(entries: Listing) -> set[str]:
    return {name for name, (*_, size) in entries.items() if size > COPIED_BYTES}


def _copy(repository: Path, entries: Listing, folder: Path, opened: dict[str, int]) -> None:
    folder.mkdir()
    large = _large(entries)
    for name in entries:
        source, target = repository / name, folder / name
        if name.endswith(FOLDER):
            target.mkdir(parents=True, exist_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if name not in large:
            shutil.copyfile(source, target)
            continue
        opened[name] = descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
        # Of any size at no cost, and across file systems, which a hard link would not lead to.
        target.symlink_to(f"/proc/{os.getpid()}/fd/{descriptor}")


def listing(repository: Path, units: Iterable[str] | None = None) -> Listing:
    """All that is below the repository, folders first; or of these files and folders of it alone.

    What goes while it looks is left out, as the next look shows.
    """
    found: Listing = {}
    entries = _entries(repository) if units is None else _entries_of(repository, units)
    for path, is_folder in entries:
        with suppress(OSError):  # it is gone, or a link that leads nowhere
            told, name = path.stat(), path.relative_to(repository).as_posix()
            if is_folder:
                found[name + FOLDER] = (told.st_dev, told.st_ino, 0, 0)
            elif stat.S_ISREG(told.st_mode):
                found[name] = (told.st_dev, told.st_ino, told.st_mtime_ns, told.st_size)
    return found


def _entries(folder: Path, above: frozenset[tuple[int, int]] = frozenset()) -> Iterator[tuple[Path, bool]]:
    """Every path, and whether it is a folder. Links are followed, of several models to one folder too, but no circles.

    `above` has the folders that this one is in, by device and inode. Raises OSError for a folder that cannot be read.
    """
    try:
        told, inside = folder.stat(), sorted(folder.iterdir())
    except FileNotFoundError:
        return
    within = above | {(told.st_dev, told.st_ino)}
    for path in inside:
        is_folder = path.is_dir()
        # Python writes its cache when somebody imports the code: that is no change of the repository.
        if path.name == CACHE or (is_folder and _is_in(path, within)):
            continue
        yield path, is_folder
        if is_folder:
            yield from _entries(path, within)


def _entries_of(repository: Path, units: Iterable[str]) -> Iterator[tuple[Path, bool]]:
    """The same as `_entries` gives for them. Raises OSError."""
    for unit in units:
        path, is_folder = repository / unit, unit.endswith(FOLDER)
        yield path, is_folder
        if is_folder:
            yield from _entries(path, frozenset(_identities([repository, path.parent])))


def _identities(folders: Iterable[Path]) -> Iterator[tuple[int, int]]:
    for folder in folders:
        with suppress(OSError):  # it is gone
            told = folder.stat()
            yield told.st_dev, told.st_ino


def _is_in(folder: Path, folders: frozenset[tuple[int, int]]) -> bool:
    """Whether it is one of them; also if it is gone."""
    try:
        told = folder.stat()
    except OSError:
        return True
    return (told.st_dev, told.st_ino) in folders


def _allow_files(number: int) -> None:
    """Let this process have so many files open. Raises OSError where the machine's hard limit is lower."""
    # The soft limit is often 1024, for programs that use select(2); a process may raise it up to the hard one.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= number:
        return
    if hard != resource.RLIM_INFINITY and hard < number:
        raise OSError(f"the repository needs {number} open files, and this process may have {hard}; raise ulimit -Hn")
    resource.setrlimit(resource.RLIMIT_NOFILE, (number, hard))
