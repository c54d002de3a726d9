"""A far side in an object store, by fsspec. Objects appear there whole or not at all, and are not renamed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from builder.stores import faults
from builder.stores.far import Found, Told, changed, persistently

MIB = 1024 * 1024
PART = 16 * MIB
"""Of an upload in parts; S3's ETag is of the parts, so that it tells content only where their size is known."""
MOST_PARTS = 9000
PARTS_AT_ONCE = 4
S3_OPTIONS: dict[str, Any] = {
    "config_kwargs": {"connect_timeout": 10, "read_timeout": 60, "retries": {"total_max_attempts": 1}}
}
"""s3fs tries again, and so does `far.persistently`: three that do so would multiply to a quarter of a minute."""
CANNOT = ("NotImplemented", "InvalidArgument")
"""What stores answer that know no conditions."""
STALE = ("PreconditionFailed", "ConditionalRequestConflict", "(412)")


@dataclass(frozen=True)
class Bucket:
    fs: Any
    """fsspec's."""
    root: str
    """Without the scheme."""
    uri: str

    @classmethod
    def at(cls, scheme: str, rest: str, uri: str) -> Bucket:
        def make() -> Any:
            import fsspec

            options = S3_OPTIONS if scheme == "s3" else {}
            own = {"skip_instance_cache": True} if scheme != "memory" else {}
            return fsspec.filesystem(scheme, use_listings_cache=False, **own, **options)

        root = rest.strip("/")
        fs = persistently(uri, "cannot be reached", make)
        return cls(fs, f"/{root}" if scheme == "memory" else root, uri.rstrip("/"))

    @property
    def _is_s3(self) -> bool:
        return self.uri.startswith("s3://")

    def _at(self, key: str) -> str:
        return f"{self.root}/{key}"

    def files(self) -> dict[str, Found]:
        listed = persistently(self.uri, "cannot be listed", self._list)
        below = len(self.root) + 1
        return {path[below:]: _found(told) for path, told in listed.items() if told.get("type") == "file"}

    def _list(self) -> dict[str, Any]:
        try:
            listed: dict[str, Any] = self.fs.find(self.root, detail=True)
        except FileNotFoundError as error:
            if faults.is_no_bucket(error):
                raise faults.told(self.uri, "cannot be listed", error) from None
            return {}
        return listed

    def read(self, key: str) -> bytes | None:
        try:
            data: bytes = persistently(f"{self.uri}/{key}", "cannot be read", lambda: self.fs.cat_file(self._at(key)))
        except FileNotFoundError as error:
            if faults.is_no_bucket(error):
                raise faults.told(self.uri, "cannot be read", error) from None
            return None
        return data

    def write(self, data: bytes, key: str) -> None:
        self._put(key, lambda: self.fs.pipe_file(self._at(key), data))

    def replace(self, data: bytes, key: str, before: bytes | None) -> None:
        """By the store's own condition where it is S3; others, and stores that heed none, are read right before."""
        condition = self._condition(key)
        if self.read(key) != before:
            raise changed(self.uri)
        self._put(key, lambda: self._replace(data, key, condition))

    def _replace(self, data: bytes, key: str, condition: dict[str, str]) -> None:
        try:
            self.fs.pipe_file(self._at(key), data, **condition)
        except Exception as error:
            text = f"{error!r} {error.__cause__!r}"
            if any(word in text for word in STALE):
                if self.read(key) != data:  # or an attempt whose answer was lost had come through
                    raise changed(self.uri) from None
            elif condition and any(word in text for word in CANNOT):
                self.fs.pipe_file(self._at(key), data)
            else:
                raise

    def _condition(self, key: str) -> dict[str, str]:
        """That the object is still the one which is there now; it is read after that."""
        if not self._is_s3:
            return {}
        with suppress(FileNotFoundError):
            told = persistently(f"{self.uri}/{key}", "cannot be read", lambda: self.fs.info(self._at(key)))
            return {"IfMatch": told["ETag"]} if told.get("ETag") else {}
        return {"IfNoneMatch": "*"}

    def send(self, path: Path, key: str, told: Told) -> None:
        options = {"chunksize": _part(path.stat().st_size), "max_concurrency": PARTS_AT_ONCE} if self._is_s3 else {}
        self._put(key, lambda: self.fs.put_file(str(path), self._at(key), callback=_callback(told), **options))

    def _put(self, key: str, act: Any) -> None:
        try:
            persistently(f"{self.uri}/{key}", "cannot be written", act)
        except FileNotFoundError as error:
            raise faults.told(f"{self.uri}/{key}", "cannot be written", error) from None

    def fetch(self, key: str, path: Path, told: Told) -> None:
        options = {"chunksize": PART, "max_concurrency": PARTS_AT_ONCE} if self._is_s3 else {}
        persistently(
            f"{self.uri}/{key}",
            "cannot be read",
            lambda: self.fs.get_file(self._at(key), str(path), callback=_callback(told), **options),
        )

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            with suppress(FileNotFoundError):
                persistently(f"{self.uri}/{key}", "cannot be deleted", partial(self.fs.rm_file, self._at(key)))

    def holds(self, found: Found, key: str, path: Path) -> bool:
        del key
        size = path.stat().st_size
        return bool(found.tag) and found.size == size and found.tag in (_md5(path), _md5_of_parts(path, _part(size)))


def _found(told: dict[str, Any]) -> Found:
    return Found(int(told["size"]), str(told.get("ETag") or told.get("etag") or "").strip('"'))


def _part(size: int) -> int:
    return max(PART, -(-size // MOST_PARTS))


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _md5_of_parts(path: Path, part: int) -> str:
    """S3's ETag of what came in parts."""
    digests = []
    with path.open("rb") as file:
        while chunk := file.read(part):
            digests.append(hashlib.md5(chunk, usedforsecurity=False).digest())
    return f"{hashlib.md5(b''.join(digests), usedforsecurity=False).hexdigest()}-{len(digests)}"


def _callback(told: Told) -> Any:
    from fsspec.callbacks import Callback

    class Telling(Callback):  # type: ignore[misc]
        def relative_update(self, inc: int = 1) -> None:
            told(inc)

    return Telling()
