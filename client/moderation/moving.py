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
from client.moderation.folders import held
from client.moderation.journal import Journal, Move
from client.moderation.places import names, spare
from client.moderation.watch import Found, look

Moved = Callable[[Move], None]
NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS)
NO_SUCH_NAMES = (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ)


def move(
    journal: Journal, found: Found, target: Path, record: str, moved: Moved, otherwise: Path | None = None
) -> bool:
    """To `target`, or beside it under a numbered name, or `otherwise` where there can be no such folder.

    False if the file has changed or gone meanwhile.

    `moved` is called when it is there, and before the journal forgets the move; again after a crash.
    Raises UnwritableFile, with the file where it was, or, if it cannot go back there, with the move in the journal.
    """
    target = _in_folder(target, otherwise)
    plan = Move(secrets.token_hex(8), found.path, target, record, found.content)
    with contextlib.ExitStack() as stack:
        folder = _entered(stack, plan)
        # Nor is what is not meant ever renamed, if the folder is another one now.
        if folder is None or not found.is_same_but_for_times(look(folder / plan.source.name)):
            return False
        taken = folder / plan.taken.name
        if not _take(journal, plan, taken):
            return False
        if not _is_as_judged(taken, plan):
            _give_back(journal, plan, taken)
            return False
        _finish(journal, plan, taken, moved)
    return True


def _entered(stack: contextlib.ExitStack, plan: Move) -> Path | None:
    """The folder that the file is in; None if it is gone. Raises UnwritableFile."""
    try:
        return stack.enter_context(held(plan.source.parent))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UnwritableFile(f"{plan.source} cannot be moved: {error.strerror}") from None


def _take(journal: Journal, plan: Move, taken: Path) -> bool:
    """False if it is gone. Raises UnwritableFile."""
    journal.begin(plan)
    try:
        taken.with_name(plan.source.name).rename(taken)
        return True
    except (FileNotFoundError, NotADirectoryError):
        journal.end(plan)
        return False
    except OSError as error:
        journal.end(plan)
        raise UnwritableFile(f"{plan.source} cannot be moved: {error.strerror}") from None


def _is_as_judged(taken: Path, plan: Move) -> bool:
    """By what is in it: who writes into a file in place may set its time back, and renaming changes the other one.

    What nobody has read is known by its time, unless it goes where nobody is served it: touching saves nothing.
    """
    found, record = look(taken), json.loads(plan.record)
    if found is None:
        return False
    if not record.get("sha256"):
        return record.get("action") == "quarantine" or plan.content in ((), found.content)
    try:
        return digest(taken) == str(record["sha256"])
    except OSError:
        return False


def recover(journal: Journal, moved: Moved) -> None:
    """Finish the moves that were cut off. Raises UnwritableFile."""
    for plan in journal.unfinished():
        with contextlib.ExitStack() as stack:
            folder = _entered(stack, plan)
            taken = folder / plan.taken.name if folder else None
            if taken is None or not os.path.lexists(taken):
                _conclude(journal, plan, moved)
            elif _is_as_judged(taken, plan):
                _finish(journal, plan, taken, moved, again=True)
            else:
                _give_back(journal, plan, taken)


def _conclude(journal: Journal, plan: Move, moved: Moved) -> None:
    """Of a file that is no longer on its way."""
    if _arrived(plan):
        moved(plan)
    journal.end(plan)


def _arrived(plan: Move) -> bool:
    """Whether it was moved, and only that was not recorded; else it had not begun, or its folder is called otherwise.

    A copy on another file system has the size and the time, and not the inode.
    """
    there, expected = look(plan.target), json.loads(plan.record).get("sha256")
    if there is None:
        return False
    if expected:
        with contextlib.suppress(FileNotFoundError):
            return digest(plan.target) == str(expected)
        return False
    inode, size, mtime_ns = plan.content or (0, -1, 0)
    return there.size == size and (there.inode == inode or there.mtime_ns == mtime_ns)


def _finish(journal: Journal, plan: Move, taken: Path, moved: Moved, again: bool = False) -> None:
    try:
        final = _placed(journal, plan, taken, again)
    except OSError as error:
        _give_back(journal, plan, taken)
        raise UnwritableFile(f"{plan.target} cannot be written: {error.strerror}") from None
    _sync_folder(final.target.parent)
    try:
        taken.unlink(missing_ok=True)
    except OSError as error:
        raise UnwritableFile(f"{final.taken} cannot be removed: {error.strerror}") from None
    _sync_folder(taken.parent)
    moved(final)
    journal.end(final)


def _placed(journal: Journal, plan: Move, taken: Path, again: bool) -> Move:
    """The plan with the name that the file got; `again` if it may have got it before a crash. Raises OSError."""
    try:
        return _placed_at(plan.target, journal, plan, taken, again)
    except OSError as error:
        if error.errno not in NO_SUCH_NAMES:
            raise
    return _placed_at(spare(plan.target.parent, Path(plan.target.name)), journal, plan, taken, again)


def _placed_at(target: Path, journal: Journal, plan: Move, taken: Path, again: bool) -> Move:
    for name in names(target):
        if os.path.lexists(name):
            if again and _same(taken, name):
                return _chosen(journal, plan, name)
            continue
        chosen = _chosen(journal, plan, name)
        with contextlib.suppress(FileExistsError):
            _put(taken, name)
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


def _give_back(journal: Journal, plan: Move, taken: Path) -> None:
    """Under its own name again, or beside what has come there since. Raises UnwritableFile, and the journal has it."""
    try:
        for name in names(taken.with_name(plan.source.name)):
            with contextlib.suppress(FileExistsError):
                _restore(taken, name)
                break
    except OSError as error:
        raise UnwritableFile(f"{plan.source} is left as {plan.taken.name}: {error.strerror}") from None
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


def _in_folder(target: Path, otherwise: Path | None) -> Path:
    """One of them, whose folder is there. Raises UnwritableFile."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if otherwise and error.errno in NO_SUCH_NAMES:
            return _in_folder(otherwise, None)
        raise UnwritableFile(f"{target.parent}: {error.strerror}") from None
    return target


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # not all file systems have it
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
