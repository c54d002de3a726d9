"""Files as people have them: there or not, whole or not, and what they are in truth."""

from __future__ import annotations

import zipfile
from pathlib import Path, PurePosixPath

from builder.errors import NetworkError
from builder.util import first_bytes

HEAD_BYTES = 64


def head_of(path: Path) -> bytes:
    """The first bytes of a file that may be an artifact. Raises NetworkError for what is none for certain."""
    if path.is_dir():
        raise NetworkError(f"{path} is a folder; name the file in it that holds the network")
    if not path.exists():
        raise NetworkError(f"{path} does not exist; correct the path, which is relative to the manifest")
    if not path.is_file():
        raise NetworkError(f"{path} is no regular file")
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        raise NetworkError(f"{path} cannot be read: {error.strerror}") from None
    if not head.strip(b"\0"):
        raise NetworkError(f"{path} is empty; save or download it again")
    if said := first_bytes.advice(head):
        raise NetworkError(f"{path} {said}")
    return head


def damaged(path: Path, kind: str, why: object = "") -> NetworkError:
    """That a file is cut short, or something else than its suffix says."""
    line = str(why).strip().split("\n", 1)[0]
    return NetworkError(
        f"{path} cannot be read as {kind}, or is damaged{f' ({line})' if line else ''}; "
        "save or download it again, or correct its suffix"
    )


def beside(path: Path, name: str, least: int) -> None:
    """Raise NetworkError unless the file `name`, of `least` bytes or more, lies with the artifact or below it."""
    pure = PurePosixPath(name.replace("\\", "/"))
    if not name or "\0" in name or pure.is_absolute() or ".." in pure.parts:
        raise NetworkError(
            f"{path} keeps weights in {name!r}, outside its own folder, which is not read; save it with its weights "
            "beside it"
        )
    file = path.parent / name
    if not file.is_file():
        raise NetworkError(f"{path} keeps weights in {name}, which is not beside it; put it there")
    size = file.stat().st_size
    if said := first_bytes.advice(_begin(file)):
        raise NetworkError(f"{file} {said}")
    if size < least:
        raise NetworkError(f"{file} has {size} bytes, and {path.name} needs {least} of it; copy or download it again")


def _begin(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(HEAD_BYTES)


def archive_names(path: Path) -> tuple[str, ...]:
    """Names in a zip archive of PyTorch's, without the folder that all are in. Raises NetworkError."""
    try:
        with zipfile.ZipFile(path) as archive:
            return tuple(name.partition("/")[2] for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise damaged(path, "an archive of PyTorch", error) from None
