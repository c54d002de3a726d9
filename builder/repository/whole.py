"""What a repository has published, and whether it is there, as far as can be told without reading the artifacts.

A thousand models are looked at in a fraction of a second: configs are compared by their digests, and not parsed.
`lock.problems` reads everything.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from builder.repository import layout
from builder.repository.layout import CONFIG
from builder.repository.lock import Lock, Model, Version
from builder.util import hashing

CALL = re.compile(r'\bmodel_name:\s*"([^"]+)"\s*model_version:\s*(\d+)')
"""A step of an ensemble, as our configs have it, rendered or merged."""


def current(folder: Path, model: Model) -> str | None:
    """The version that is published: the one whose own config lies beside the versions."""
    beside = _digest(folder / CONFIG)
    numbers = sorted((number for number in model.versions if number.isdecimal()), key=int, reverse=True)
    return next((number for number in numbers if beside and beside == _config(folder, model, number)), None)


def _config(folder: Path, model: Model, number: str) -> str:
    """The digest of a version's config; of one from before there was a lock, of its copy."""
    if not (folder / number).is_dir():
        return ""
    version = model.versions[number]
    return version.files.get(f"{number}/{CONFIG}", "") if version else _digest(folder / number / CONFIG)


def _digest(path: Path) -> str:
    try:
        return hashing.sha256(path)
    except OSError:
        return ""


def faults(repository: Path, lock: Lock, name: str, number: str) -> list[str]:
    """What a published version lacks, of its own and of what it asks: paths in the repository, and why."""
    return [*_missing(repository, name, lock[name].versions.get(number)), *_of_calls(repository, lock, name, number)]


def _missing(repository: Path, name: str, version: Version | None) -> Iterator[str]:
    for path in version.files if version else ():
        if not os.path.isfile(f"{repository}/{name}/{path}"):  # noqa: PTH113  ten thousand times
            yield f"{name}/{path} is missing"


def _of_calls(repository: Path, lock: Lock, name: str, number: str) -> Iterator[str]:
    for asked, version in calls(repository / name / number / CONFIG):
        model = lock.get(asked)
        if not (repository / asked / version).is_dir():
            yield f"{asked}/{version} is missing"
        elif model:
            yield from _missing(repository, asked, model.versions.get(version))
            yield from _of_config(repository / asked, model)


def _of_config(folder: Path, model: Model) -> Iterator[str]:
    known = {version.files.get(path) for version in model.versions.values() if version for path in _configs(version)}
    digest = _digest(folder / CONFIG)
    if not digest:
        yield f"{folder.name}/{CONFIG} is missing"
    elif all(model.versions.values()) and digest not in known | set(model.between):
        yield f"{folder.name}/{CONFIG} is that of none of its versions"


def _configs(version: Version) -> list[str]:
    return [path for path in version.files if path.rpartition("/")[2] == CONFIG]


def calls(config: Path) -> list[tuple[str, str]]:
    """The models that a version's config asks, with their versions; none for a network by itself."""
    try:
        return list(dict.fromkeys(CALL.findall(config.read_text(encoding="utf-8"))))
    except (OSError, UnicodeDecodeError):
        return []


def served(repository: Path, lock: Lock) -> list[str]:
    """The names that clients ask: of the lock, what says what it was built from; of the rest, what its config says."""
    if not repository.is_dir():
        return []
    recorded = {name for name, model in lock.items() if any(v and v.built_from for v in model.versions.values())}
    there = {folder.name for folder in repository.iterdir() if folder.is_dir()}
    others = (name for name in there - recorded if _may_be_served(lock.get(name)))
    return sorted((recorded & there).union(n for n in others if layout.role_of(repository / n) in layout.SERVED_ROLES))


def _may_be_served(model: Model | None) -> bool:
    """Networks and steps of a lock say nothing of what they were built from; nor does what was there before it."""
    return model is None or None in model.versions.values()
