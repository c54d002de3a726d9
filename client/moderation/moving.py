"""Moves that lose and overwrite nothing, across file systems too, however they are cut off.

The file is first renamed to a name of its own in its folder: from then on nobody else writes or serves it, and
nothing that arrives under the old name is touched. The journal knows of it before, so that the next start
finishes what a crash left.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from client.errors import UnwritableFile
from client.moderation.journal import Journal, Move
from client.moderation.places import names
from client.moderation.watch import Found, look

Moved = Callable[[Move], None]
NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS)


def move(journal: Journal, found: Found, target: Path, record: str, moved: Moved) -> bool:
    """To `target`, or beside it under a numbered name. False if the file has changed or gone meanwhile.

    `moved` is called when it is there, and before the journal forgets the move; again after a crash.
    Raises UnwritableFile, with the file where it was.
    """
    plan = Move(secrets.token_hex(8), found.path, target, record)
    _make_folder(target.parent)
    journal.begin(plan)
    try:
        plan.source.rename(plan.taken)
    except (FileNotFoundError, NotADirectoryError):
        journal.end(plan)
        return False
    except OSError as error:
        journal.end(plan)
        raise UnwritableFile(f"{plan.source} cannot be moved: {error.strerror}") from None
    taken = look(plan.taken)
    if taken is None or taken.content != found.content or not _is_as_judged(taken, record):
        _give_back(journal, plan)
        return False
    _finish(journal, plan, moved)
    return True


def _is_as_judged(taken: Found, record: str) -> bool:
    """By what is in it: who writes into a file in place may set its time back, and renaming changes the other one."""
    judged = json.loads(record).get("sha256")
    try:
        return not judged or digest(taken.path) == judged
    except OSError:
        return False


def recover(journal: Journal, moved: Moved) -> None:
    """Finish the moves that were cut off."""
    for plan in journal.unfinished():
        taken = look(plan.taken)
        if taken and _is_as_judged(taken, plan.record):
            _finish(journal, plan, moved)
        elif os.path.lexists(plan.taken):
            _give_back(journal, plan)
        else:
            if _arrived(plan):
                moved(plan)
            journal.end(plan)


def _arrived(plan: Move) -> bool:
    """Whether it was moved, and only that was not recorded; else it had not begun."""
    expected = json.loads(plan.record).get("sha256")
    return os.path.isfile(plan.target) and digest(plan.target) == expected


def _finish(journal: Journal, plan: Move, moved: Moved) -> None:
    try:
        final = _placed(journal, plan)
    except OSError as error:
        _give_back(journal, plan)
        raise UnwritableFile(f"{plan.target} cannot be written: {error.strerror}") from None
    _sync_folder(final.target.parent)
    with contextlib.suppress(FileNotFoundError):
        plan.taken.unlink()
    _sync_folder(plan.taken.parent)
    moved(final)
    journal.end(final)


def _placed(journal: Journal, plan: Move) -> Move:
    """The plan with the name that the file got."""
    for name in names(plan.target):
        if os.path.lexists(name):
            if _same(plan.taken, name):  # this very file, from before a crash
                return _chosen(journal, plan, name)
            continue
        chosen = _chosen(journal, plan, name)
        with contextlib.suppress(FileExistsError):
            _put(plan.taken, name)
            return chosen
    raise AssertionError("names never end")


def _chosen(journal: Journal, plan: Move, name: Path) -> Move:
    chosen = replace(plan, target=name)
    journal.begin(chosen)
    return chosen


def _put(source: Path, target: Path) -> None:
    """The file under one more name, which must be free. Raises OSError, FileExistsError."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno == errno.EXDEV or error.errno in NO_LINKS:
            _copy(source, target)
        else:
            raise


def _copy(source: Path, target: Path) -> None:
    """Complete or not at all."""
    staged = target.with_name(f".moderate-{secrets.token_hex(8)}")
    try:
        shutil.copy2(source, staged, follow_symlinks=False)
        with staged.open("rb") as file:
            os.fsync(file.fileno())
        try:
            os.link(staged, target)
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            os.close(os.open(target, os.O_CREAT | os.O_EXCL))  # a file system without links: claim the name first
            staged.replace(target)
    finally:
        with contextlib.suppress(FileNotFoundError):
            staged.unlink()


def _give_back(journal: Journal, plan: Move) -> None:
    """Under its own name again, or beside what has come there since."""
    for name in names(plan.source):
        with contextlib.suppress(FileExistsError):
            _restore(plan.taken, name)
            break
    journal.end(plan)


def _restore(taken: Path, name: Path) -> None:
    """Raises FileExistsError."""
    if os.path.lexists(name):
        raise FileExistsError
    if taken.is_dir() and not taken.is_symlink():  # came in the file's place; a folder cannot have a second name
        taken.rename(name)
        return
    _put(taken, name)
    taken.unlink()


def _same(one: Path, other: Path) -> bool:
    if not os.path.isfile(other) or other.is_symlink():
        return False
    return one.samefile(other) or (one.stat().st_size == other.stat().st_size and digest(one) == digest(other))


def digest(path: Path) -> str:
    """SHA-256 in hexadecimal. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnwritableFile(f"{folder}: {error.strerror}") from None


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # not all file systems have it
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
