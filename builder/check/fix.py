"""--fix: the edits that cannot be wrong, file by file; a kill leaves a file as it was, or as it is to be."""

from __future__ import annotations

import contextlib
import difflib
import io
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from builder.check import config, files
from builder.check.findings import Edit, Finding
from builder.errors import RepositoryError
from builder.repository import lock
from builder.repository.layout import CONFIG, PARTS, ROLE, SERVED_ROLES

ROLES = SERVED_ROLES | PARTS
NEWER_NS = 1_000_000_000
"""Triton ignores a model in which nothing is newer than it was; filesystems may count in seconds."""


class _Left(Exception):
    """Why a file is left as it is."""


def fixed(text: str, edits: Iterable[Edit]) -> str:
    """The text with edits that do not overlap, in whatever order."""
    for edit in sorted(set(edits), key=lambda edit: (edit.start, edit.end), reverse=True):
        text = text[: edit.start] + edit.text + text[edit.end :]
    return text


def diff(text: str, edits: Iterable[Edit], name: str = CONFIG) -> str:
    """What they change, as a unified diff; empty where that is nothing."""
    before, after = (list(io.StringIO(each, newline="\n")) for each in (text, fixed(text, edits)))
    lines = difflib.unified_diff(before, after, name, name, n=1)
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def apply(findings: Iterable[Finding]) -> Iterator[str]:
    """Makes the edits of findings that are safe, and tells of every file what became of it. It never raises."""
    by_file: dict[Path, list[Finding]] = {}
    for finding in findings:
        if finding.is_safe and finding.edits:
            by_file.setdefault(finding.path, []).append(finding)
    for path, found in by_file.items():
        try:
            yield f"{path}: {_mended(path, found)}"
        except _Left as reason:
            yield f"{path}: left as it is: {reason}"
        except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: links in a circle; ValueError: null bytes
            yield f"{path}: left as it is: {getattr(error, 'strerror', None) or error}"


def _mended(path: Path, findings: Sequence[Finding]) -> str:
    """Raises _Left, OSError."""
    file = _own(path)
    before = _content(file)
    text = before.decode(errors="surrogateescape")
    _require_foreign(path, text)
    chosen = _apart(findings)
    after = fixed(text, [edit for finding in chosen for edit in finding.edits])
    if after == text:
        raise _Left("the edits change nothing")
    written = after.encode(errors="surrogateescape")
    _require_config(written, file)
    _write(file, before, written)
    codes = ", ".join(dict.fromkeys(finding.rule.code for finding in chosen))
    later = len(findings) - len(chosen)
    return f"mended ({codes})" + (f"; {later} more at the same place, for another --fix" if later else "")


def _own(path: Path) -> Path:
    """The file itself, behind links. Raises _Left for one that is not in the repository, OSError."""
    if path.name != CONFIG:
        raise _Left("only configs are mended")
    file, repository = path.resolve(strict=True), _repository(path)
    if not file.is_relative_to(repository):
        raise _Left(f"it leads to {file}, which is outside of the repository; mend it there")
    return file


def _repository(path: Path) -> Path:
    return path.absolute().parent.parent.resolve()


def _content(file: Path) -> bytes:
    try:
        return files.content(file, config.LIMIT)
    except files.NotRead as reason:
        raise _Left(reason.message) from None


def _require_foreign(path: Path, text: str) -> None:
    """Raises _Left for what build-repo wrote: its lock knows every byte, and the next build would undo the mend."""
    read = config.parse(text, path, is_clean=False)
    try:
        recorded = path.absolute().parent.name in lock.read(_repository(path))
    except RepositoryError as error:
        raise _Left(str(error)) from None
    if recorded or (ROLE in read.message.parameters and read.message.parameters[ROLE].string_value in ROLES):
        raise _Left("build-repo wrote it; build the model again")


def _apart(findings: Sequence[Finding]) -> list[Finding]:
    """Those whose edits overlap with no other's before them."""
    taken: list[Edit] = []
    chosen = []
    for finding in findings:
        if all(edit in taken or not any(_overlap(edit, other) for other in taken) for edit in finding.edits):
            taken.extend(finding.edits)
            chosen.append(finding)
    return chosen


def _overlap(one: Edit, other: Edit) -> bool:
    return (one.start < other.end and other.start < one.end) or one.start == other.start


def _require_config(written: bytes, file: Path) -> None:
    read = config.of(written, file)
    if read.problems:
        raise _Left(f"something else is wrong, too, which must be mended first: {read.problems[0].message}")


def _write(file: Path, before: bytes, after: bytes) -> None:
    """Beside it, under a hidden name, until it is whole: the server takes no file in a model's folder for a version."""
    descriptor, name = tempfile.mkstemp(prefix=f".{CONFIG}-", dir=file.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as output:
            output.write(after)
            output.flush()
            _keep(file, temporary)
            os.fsync(output.fileno())
        if _content(file) != before:
            raise _Left("it changed while it was looked at; run the check again")
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)
    _sync(file.parent)


def _keep(file: Path, temporary: Path) -> None:
    """Owner and rights, and a time that is later."""
    told = file.stat()
    if (told.st_uid, told.st_gid) != (os.geteuid(), os.getegid()):
        os.chown(temporary, told.st_uid, told.st_gid)
    shutil.copystat(file, temporary)
    now = temporary.stat().st_ctime_ns
    os.utime(temporary, ns=(now, max(now, told.st_mtime_ns + NEWER_NS)))


def _sync(folder: Path) -> None:
    """Not every filesystem has this."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
