"""A far side's models into a repository on this machine, which a server may serve meanwhile.

Its lock is the truth. What lacks here comes into a folder beside the repository, is held to its SHA-256, and counts
from the last rename on. That folder keeps what has come already for a pull after one that was cut off.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from builder.errors import RepositoryError, StoreError, full_or, is_full
from builder.repository import arrivals, lock, staging
from builder.repository.arrivals import Arrival
from builder.stores import faults, record, signing, transfers
from builder.stores.far import Far, Told
from builder.stores.record import Pin, Record
from builder.stores.transfers import Unwatched, Watch
from builder.util import hashing

FOLDER = "pull"
ATTEMPTS = 3
"""Where a push changes the far side under way."""
ROOM = 1.01
"""Filesystems take a little more than files have."""


@dataclass(frozen=True)
class PullOptions:
    models: tuple[str, ...] = ()
    """Names that clients ask; none: all."""
    every: bool = False
    """Every version that is there, not only the current ones."""
    verify: Path | None = None
    """An Ed25519 public key in PEM, with which it must be signed."""


@dataclass(frozen=True)
class Pulled:
    models: dict[str, int]
    """The versions that are current now, by what clients ask."""
    files: int
    """That came."""
    bytes: int


class _Vanished(Exception):
    """An object that the lock tells of is not there."""


def pull(repository: Path, far: Far, options: PullOptions, watch: Watch | None = None) -> Pulled:
    """Raises StoreError, SignatureError, RepositoryError, PublishError."""
    key = signing.verifier(options.verify) if options.verify else None
    for _ in range(ATTEMPTS):
        seen = far.read(lock.FILENAME)
        if seen is None:
            raise StoreError(
                f"{far.uri} has no {lock.FILENAME}: nothing was pushed there; see that the address is right"
            )
        theirs = record.parse(seen, far.uri)
        names, pins = _chosen(theirs, options, far.uri)
        if key is not None:
            signing.require_signed(theirs, pins, key, far.uri)
        try:
            return _pull(repository, far, theirs, names, pins, watch or Unwatched())
        except _Vanished as vanished:
            if far.read(lock.FILENAME) == seen:
                raise StoreError(
                    f"{far.uri}/{vanished} is missing, and its lock tells of it; push again from where it was built, "
                    "which sends what lacks"
                ) from None
    raise StoreError(f"{far.uri} changes again and again while it is pulled; run the same command again")


def _chosen(theirs: Record, options: PullOptions, uri: str) -> tuple[list[str], list[Pin]]:
    names = theirs.asked(options.models, uri)
    if not names:
        raise StoreError(f"{uri} has no models that build-repo pushed there; push some: build-repo push {uri}")
    return names, theirs.every(names) if options.every else theirs.current(names)


def _pull(repository: Path, far: Far, theirs: Record, names: list[str], pins: list[Pin], watch: Watch) -> Pulled:
    coming = [_arrival(theirs, pin) for pin in pins]
    with _folder(repository) as content:
        wanted = arrivals.lacking(repository, coming)
        wanted |= _configs(repository, coming, theirs, content)
        size = _fetch(far, wanted, content, watch)
        arrivals.bring(repository, coming, content, theirs.signed)
        shutil.rmtree(content, ignore_errors=True)
    return Pulled({name: int(theirs.models[name].current) for name in names}, len(wanted), size)


def _arrival(theirs: Record, pin: Pin) -> Arrival:
    name, number = pin
    model = theirs.models[name]
    told = model.versions[number]
    version = lock.Version(told.files, told.built_from, told.was_published)
    return Arrival(name, number, model.role, version, model.config if number == model.current else None)


def _configs(repository: Path, coming: Sequence[Arrival], theirs: Record, content: Path) -> dict[str, str]:
    """The configs to lie beside the versions, copies of versions' own; what is here already is not fetched."""
    lacking = {}
    for arrival in coming:
        if arrival.config:
            key = f"{arrival.name}/{theirs.models[arrival.name].config_of(arrival.number)}"
            if hashing.sha256_if_there(repository / key) == arrival.config:
                _copy(repository / key, content / arrival.config)
            else:
                lacking[key] = arrival.config
    return lacking


def _copy(source: Path, target: Path) -> None:
    """Which may be the same file already, after a pull that was cut off."""
    if not (target.exists() and target.samefile(source)):
        shutil.copyfile(source, target)


@contextmanager
def _folder(repository: Path) -> Iterator[Path]:
    """Beside the repository, this process's alone."""
    folder = staging.staging_root(repository) / FOLDER
    try:
        repository.mkdir(parents=True, exist_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        alone = FileLock(folder / staging.OWNER_LOCK, timeout=0)
        alone.acquire()
    except Timeout:
        raise StoreError(f"another pull into {repository} is at work; wait for it, or end it") from None
    except OSError as error:
        raise full_or(RepositoryError, error)(
            f"{repository} cannot be made or written to: {error}; choose another folder with -r"
        ) from None
    try:
        yield folder
    except OSError as error:
        if not is_full(error):
            raise
        raise faults.full(str(repository), str(error)) from None
    finally:
        alone.release()


def _fetch(far: Far, wanted: dict[str, str], content: Path, watch: Watch) -> int:
    """Into the folder, each content once, under its SHA-256; how many bytes came."""
    _sweep(content)
    had = hashing.hashed(content / digest for digest in wanted.values())
    keys = {digest: key for key, digest in wanted.items() if had[content / digest] != digest}
    there = far.files() if keys else {}
    for key in keys.values():
        if key not in there:
            raise _Vanished(key)
    size = sum(there[key].size for key in keys.values())
    _require_room(content, size)
    watch.begin(f"fetching {len(keys)} files", size)
    try:
        transfers.each(sorted(keys, key=lambda d: -there[keys[d]].size), _fetching(far, keys, content), watch)
    except FileNotFoundError as error:
        raise _Vanished(_named(error, keys.values())) from None
    return size


def _named(error: FileNotFoundError, keys: Iterable[str]) -> str:
    return next((key for key in keys if key in str(error)), str(error))


def _fetching(far: Far, keys: dict[str, str], content: Path) -> transfers.Act[str]:
    def fetch(digest: str, told: Told) -> None:
        partial = content / f"{digest}.part"
        for _ in range(2):  # a network may have changed it on the way
            try:
                far.fetch(keys[digest], partial, told)
            except OSError as error:
                if isinstance(error, FileNotFoundError):
                    raise
                raise faults.told(far.uri, "cannot be read", error) from None
            if hashing.sha256(partial) == digest:
                staging.sync(partial)
                partial.replace(content / digest)
                return
        raise StoreError(
            f"{far.uri}/{keys[digest]} is not what its lock tells of: its SHA-256 is another one; it is damaged. "
            "Delete it, and push again from where it was built"
        )

    return fetch


def _sweep(content: Path) -> None:
    """What was cut off in the middle."""
    for file in content.glob("*.part"):
        file.unlink(missing_ok=True)


def _require_room(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if size * ROOM > free:
        raise faults.full(str(folder), f"{size} bytes are to come, and {free} are free")
