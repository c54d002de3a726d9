"""What publishing, going back and pruning do to a repository, each one rename: a kill finds it before or after."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from builder.errors import ConfigError
from builder.repository import lock
from builder.repository.layout import CONFIG
from builder.repository.staging import staging_root, sync
from builder.triton import model_config
from builder.util import hashing

NEWER_NS = 1_000_000_000
"""Filesystems may count in seconds."""


def rename(source: Path, target: Path) -> None:
    """The one call by which the repository changes: atomic, and seen by tests that kill a build here."""
    source.replace(target)


def take_away(repository: Path, path: Path) -> None:
    """Gone at once; deleting takes its time."""
    trash = Path(tempfile.mkdtemp(dir=staging_root(repository)))
    rename(path, trash / path.name)
    shutil.rmtree(trash, ignore_errors=True)


def write_lock(repository: Path, recorded: lock.Lock) -> None:
    if recorded != lock.read(repository):
        temporary = staging_root(repository) / lock.FILENAME
        temporary.write_text(lock.to_text(recorded), encoding="utf-8")
        sync(temporary)
        rename(temporary, repository / lock.FILENAME)


def replace_config(staged: Path, model: Path, text: str) -> None:
    """Unless it is there already, which a server would load once more. `staged` is a folder on the same filesystem."""
    if (model / CONFIG).exists() and (model / CONFIG).read_bytes() == text.encode():
        return
    temporary = staged / CONFIG
    temporary.write_text(text, encoding="utf-8")
    _make_newer(temporary, model)
    sync(temporary)
    rename(temporary, model / CONFIG)


def _make_newer(file: Path, model: Path) -> None:
    """Triton ignores a model in which nothing is newer than it was, and a clock may have gone back."""
    newest = max((path.stat().st_mtime_ns for path in hashing.files(model)), default=0)
    told = file.stat()
    if told.st_mtime_ns <= newest:
        os.utime(file, ns=(told.st_atime_ns, newest + NEWER_NS))


def serving_both(before: Any, after: str) -> str:
    """A network's config for the moment in which the old and the new ensemble may call it."""
    both = model_config.parse(after, "the new config")
    both.max_batch_size = max(before.max_batch_size, both.max_batch_size)
    versions = sorted({*before.version_policy.specific.versions, *both.version_policy.specific.versions})
    both.version_policy.specific.versions[:] = versions
    return model_config.to_text(both)


def config_or_none(model: Path) -> Any:
    """None where there is none, or what is there is none."""
    try:
        found = model_config.read(model / CONFIG)
    except (FileNotFoundError, ConfigError):
        return None
    return found if found.ListFields() else None
