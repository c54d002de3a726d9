"""Arrays -> NAME.npy in a folder, or one .npz: complete when they appear, and all of them or none."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from client.errors import UnwritableFile

if TYPE_CHECKING:
    from client.types import Array

PLAIN = " !#$&'()+,;=@[]^{}~:"
"""What names of files are given as well as names of outputs, beside letters, digits and ._-"""


def file_name(output: str) -> str:
    """The server names outputs, perhaps with a /, which is written %2F, so that no file lies elsewhere."""
    text = quote(output.encode("utf-8", "surrogateescape"), safe=PLAIN)
    return f"{'%2E' + text[1:] if text.startswith('.') else text}.npy"


def refuse_existing(paths: Iterable[Path]) -> None:
    for path in paths:
        if os.path.lexists(path):
            raise UnwritableFile(f"{path} exists already; name another place, or give --force to replace it")


def write_folder(folder: Path, arrays: Mapping[str, Array], force: bool) -> list[Path]:
    """The files' paths, in the order of the arrays. Raises UnwritableFile.

    A folder that is new appears with all of them; one that is there gets them one after the other, or gets none.
    """
    contents = {file_name(name): _npy(name, array) for name, array in arrays.items()}
    paths = [folder / name for name in contents]
    is_there = folder.is_dir()
    with _telling(folder), _staged(folder if is_there else folder.absolute().parent) as staging:
        inner = staging / "files"
        inner.mkdir()
        for name, content in contents.items():
            _write(inner / name, content)
        if not force:
            refuse_existing(paths)
        if is_there:
            _place(inner, staging, folder, list(contents))
        else:
            inner.rename(folder)
    return paths


def write_npz(path: Path, arrays: Mapping[str, Array], force: bool) -> None:
    """Raises UnwritableFile."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, array in arrays.items():  # not np.savez, for which an output of the name `file` is no array
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), _npy(name, array))
    with _telling(path), _staged(path.absolute().parent) as staging:
        _write(staging / "file", file.getbuffer())
        if not force:
            refuse_existing([path])
        (staging / "file").replace(path)


def _place(inner: Path, staging: Path, folder: Path, names: Iterable[str]) -> None:
    """What was in a file's place comes back where one of them cannot be placed."""
    kept, placed = staging / "kept", []
    kept.mkdir()
    try:
        for name in names:
            if os.path.lexists(folder / name):
                _refuse_folder(folder / name)
                (folder / name).rename(kept / name)
            placed.append(name)
            (inner / name).rename(folder / name)
    except BaseException:
        for name in placed:
            (folder / name).unlink(missing_ok=True)
        for path in kept.iterdir():
            path.rename(folder / path.name)
        raise


def _refuse_folder(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        raise UnwritableFile(f"{path} is a folder, which no array replaces")


@contextlib.contextmanager
def _staged(parent: Path) -> Iterator[Path]:
    """A folder on the same file system, which is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix=".repo-client-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _telling(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UnwritableFile(f"{path}: {error.strerror or error}") from None


def _write(path: Path, content: Any) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _npy(name: str, array: Array) -> bytes:
    """BYTES as text of a fixed width (S), which NumPy reads without running anything. Raises UnwritableFile."""
    import numpy as np

    if array.dtype == np.object_:
        if any(element.endswith(b"\0") for element in array.flat):
            raise UnwritableFile(f"{name} has bytes that end in NUL, which .npy does not keep; see them with --json")
        array = array.astype(np.bytes_)
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()
