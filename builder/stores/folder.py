"""A far side in a folder of this machine, or of one that is mounted: file:///PATH."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from filelock import FileLock

from builder.errors import NoSpace, PublishError, StoreError, full_or
from builder.repository import staging
from builder.stores import faults
from builder.stores.far import Found, Told, changed, persistently
from builder.util import hashing

CHUNK = 4 * 1024 * 1024


@dataclass(frozen=True)
class Folder:
    """Files are made whole beside it, on its filesystem, and renamed into it."""

    root: Path
    uri: str
    staged: Path | None
    """Where that is; None where nothing is to be written."""

    def files(self) -> dict[str, Found]:
        return persistently(self.uri, "cannot be listed", self._files)

    def _files(self) -> dict[str, Found]:
        if not self.root.exists():
            return {}
        return {path.relative_to(self.root).as_posix(): Found(path.stat().st_size) for path in hashing.files(self.root)}

    def read(self, key: str) -> bytes | None:
        with suppress(FileNotFoundError, NotADirectoryError):
            return persistently(f"{self.uri}/{key}", "cannot be read", (self.root / key).read_bytes)
        return None

    def write(self, data: bytes, key: str) -> None:
        self._put(key, lambda file: file.write_bytes(data))

    def replace(self, data: bytes, key: str, before: bytes | None) -> None:
        with self._alone():
            if self.read(key) != before:
                raise changed(self.uri)
            self.write(data, key)

    def _alone(self) -> FileLock | nullcontext[None]:
        """Builds over the same folder, and other pushes, wait meanwhile."""
        return staging.locked(self.root) if self.staged else nullcontext()

    def send(self, path: Path, key: str, told: Told) -> None:
        self._put(key, lambda file: _copy(path, file, told))

    def _put(self, key: str, make: Callable[[Path], object]) -> None:
        def put() -> None:
            assert self.staged is not None
            temporary = Path(tempfile.mkdtemp(dir=self.staged)) / "file"
            make(temporary)
            staging.sync(temporary)
            (self.root / key).parent.mkdir(parents=True, exist_ok=True)
            temporary.replace(self.root / key)
            temporary.parent.rmdir()

        try:
            persistently(f"{self.uri}/{key}", "cannot be written", put)
        except FileNotFoundError as error:
            raise faults.told(f"{self.uri}/{key}", "cannot be written", error) from None

    def fetch(self, key: str, path: Path, told: Told) -> None:
        persistently(f"{self.uri}/{key}", "cannot be read", lambda: _copy(self.root / key, path, told))

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            file = self.root / key
            persistently(f"{self.uri}/{key}", "cannot be deleted", partial(file.unlink, missing_ok=True))
            for folder in file.parents:
                if folder == self.root or not _removed(folder):
                    break

    def holds(self, found: Found, key: str, path: Path) -> bool:
        return found.size == path.stat().st_size and hashing.sha256_if_there(self.root / key) == hashing.sha256(path)


@contextmanager
def opened(root: Path, uri: str, writing: bool) -> Iterator[Folder]:
    """Raises StoreError where it is to be written to, and cannot be made."""
    uri = uri.rstrip("/")
    if not writing:
        yield Folder(root, uri, None)
        return
    with _staging(root, uri) as staged:
        yield Folder(root, uri, staged)


@contextmanager
def _staging(root: Path, uri: str) -> Iterator[Path]:
    beside = staging.staging(root)
    try:
        staged = beside.__enter__()
    except (PublishError, NoSpace, OSError) as error:
        raise full_or(StoreError, error)(f"{uri} cannot be written to: {error}") from None
    try:
        yield staged
    finally:
        beside.__exit__(None, None, None)


def _copy(source: Path, target: Path, told: Told) -> None:
    """Not shutil's, which tells nothing of where it is."""
    with source.open("rb") as reader, target.open("wb") as writer:
        while chunk := reader.read(CHUNK):
            writer.write(chunk)
            told(len(chunk))
    shutil.copymode(source, target)


def _removed(folder: Path) -> bool:
    """Whether it was empty, and so is gone."""
    with suppress(OSError):
        folder.rmdir()
        return True
    return False
