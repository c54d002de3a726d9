"""A folder beside the repository, in which what is to be published is made whole."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from builder.errors import NoSpace, PublishError, full_or, is_full
from builder.machine import signals

OWNER_LOCK = ".lock"


@dataclass(frozen=True)
class StagedStep:
    """A complete model whose name says its content: published once, never changed."""

    name: str
    folder: Path
    role: str = "preprocess"
    """What its config says of it: preprocess before the network, postprocess behind it."""


@dataclass(frozen=True)
class StagedNetwork:
    """`folder` holds version/ and warmup/; `render(its name, version)` gives its config."""

    name: str
    folder: Path
    render: Callable[[str, int], str]
    built_from: dict[str, Any] = field(default_factory=dict)
    """For the lock, where it is served by itself: what JSON can hold."""


@dataclass(frozen=True)
class StagedEnsemble:
    """`folder` holds version/; `render(network's name, version)` gives its config."""

    name: str
    folder: Path
    render: Callable[[str, int], str]
    built_from: dict[str, Any] = field(default_factory=dict)
    """For the lock: what JSON can hold."""


def staging_root(repository: Path) -> Path:
    repository = repository.absolute()
    return repository.parent / f".{repository.name}.staging"


@contextmanager
def staging(repository: Path) -> Iterator[Path]:
    """A folder beside the repository, on its filesystem, that is gone afterwards.

    What killed builds left there is removed first: a folder whose lock nobody holds.
    """
    root = staging_root(repository)
    _require_utf_8(repository)
    try:
        repository.mkdir(parents=True, exist_ok=True)
        root.mkdir(exist_ok=True)
        with locked(repository):
            _sweep_staging(root)
            folder = Path(tempfile.mkdtemp(dir=root))
            lock = FileLock(folder / OWNER_LOCK)
            lock.acquire()
    except OSError as error:
        raise full_or(PublishError, error)(
            f"{repository} cannot be made or written to: {error.strerror}: {error.filename}; "
            "choose another folder with -r"
        ) from None
    try:
        _require_one_filesystem(folder, repository)
        yield folder
    except OSError as error:
        if not is_full(error):
            raise
        raise NoSpace(
            f"there is no room left for {repository}: {error}. It serves what it served before; make some, and run "
            "this again"
        ) from None
    finally:
        with signals.held():
            lock.release()
            shutil.rmtree(folder, ignore_errors=True)


def _require_utf_8(repository: Path) -> None:
    try:
        str(repository.absolute()).encode()
    except UnicodeEncodeError:
        raise PublishError(
            f"the path of {repository} is no UTF-8, and the formats' writers know no other; choose another with -r"
        ) from None


def _require_one_filesystem(folder: Path, repository: Path) -> None:
    if folder.stat().st_dev != repository.stat().st_dev:
        raise PublishError(
            f"{repository} is a filesystem of its own, so that nothing can be renamed into it from {folder.parent}; "
            f"use a folder inside it: -r {repository / 'models'}"
        )


def _sweep_staging(root: Path) -> None:
    for folder in root.iterdir():
        if folder.is_dir() and not _is_owned(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _is_owned(folder: Path) -> bool:
    """Whether the build that made the staging folder still lives."""
    if not (folder / OWNER_LOCK).exists():
        return False
    try:
        with FileLock(folder / OWNER_LOCK, timeout=0):
            return False
    except Timeout:
        return True


def locked(repository: Path) -> FileLock:
    """Only one build at a time changes the repository; the others wait the moment that takes."""
    return FileLock(staging_root(repository) / "lock")


def sync(path: Path) -> None:
    """Have the disk hold the files before a rename makes them count: power fails too."""
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    for file in files:
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
