"""Versions that were built elsewhere, under their own numbers, into a repository: as `publish.py` does with new ones.

The lock records what is to come before the first rename, and forgets what is gone after the last. Content comes first,
then the configs: the network's that serves the old and the new, the ensemble's, which is the switch, and the network's.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from builder.errors import PublishError, RepositoryError, full_or
from builder.repository import layout, lock, names, switching
from builder.repository.layout import CONFIG, STEP_ROLES
from builder.repository.staging import locked, staging_root, sync
from builder.util import hashing

SIGNED = "signed"
"""Of a lock's document: what a far side's lock had, for `serve --verify`. Whoever changes the lock drops it."""


@dataclass(frozen=True)
class Arrival:
    """A version of a model."""

    name: str
    number: str
    role: str
    version: lock.Version
    config: str | None
    """SHA-256 of the config to lie beside the versions, where this one is to be current."""

    @property
    def content(self) -> dict[str, str]:
        """SHA-256 by path in the model's folder, without the config beside the versions."""
        return {path: digest for path, digest in self.version.files.items() if path != CONFIG}

    @property
    def key(self) -> tuple[str, str]:
        return self.name, self.number


@dataclass(frozen=True)
class _Bringing:
    repository: Path
    content: Path
    """A folder with files by their SHA-256, on the repository's filesystem."""
    staged: Path
    arrivals: Sequence[Arrival]

    def of(self, *roles: str) -> list[Arrival]:
        return [arrival for arrival in self.arrivals if arrival.role in roles]

    def text(self, digest: str) -> str:
        return (self.content / digest).read_text(encoding="utf-8")


def lacking(repository: Path, arrivals: Sequence[Arrival]) -> dict[str, str]:
    """SHA-256 by path in the repository, of what it has not, or has damaged.

    Raises RepositoryError where it has another version of the same number, which is not overwritten.
    """
    recorded = lock.read(repository)
    wanted = {f"{each.name}/{path}": digest for each in arrivals for path, digest in each.content.items()}
    paths = {key: repository / key for key in wanted}
    found = hashing.hashed(path for path in paths.values() if path.is_file())
    for arrival in arrivals:
        _refuse_other(repository, arrival, recorded.get(arrival.name), found)
    return {key: digest for key, digest in wanted.items() if found.get(paths[key]) != digest}


def _refuse_other(repository: Path, arrival: Arrival, known: lock.Model | None, found: dict[Path, str]) -> None:
    folder = repository / arrival.name / arrival.number
    version = known.versions.get(arrival.number) if known else None
    if version is None:  # from before there was a lock, or not there at all
        own = {path: repository / arrival.name / path for path in arrival.content}
        is_other = folder.exists() and any(found.get(own[path]) != digest for path, digest in arrival.content.items())
    else:
        is_other = version.files != arrival.version.files and folder.exists()
    if is_other:
        raise RepositoryError(
            f"{folder} is another version {arrival.number} of {arrival.name} than the one that is to come: it was "
            "built here, and that elsewhere. Pull into another folder (-r), or take the model's folder away first"
        )


def bring(repository: Path, arrivals: Sequence[Arrival], content: Path, signed: dict[str, Any] | None) -> None:
    """Into the repository, and current what is to be. `content` has the files that lack, by their SHA-256.

    Raises PublishError and RepositoryError; until the last moment what was served before is served unchanged.
    """
    with locked(repository):
        try:
            _refuse_names(repository, arrivals)
            staged = content / "staged"
            shutil.rmtree(staged, ignore_errors=True)
            staged.mkdir()
            _bring(_Bringing(repository, content, staged, arrivals), signed)
        except OSError as error:
            raise full_or(PublishError, error)(
                f"what was pulled cannot be published in {repository}: {error}. The repository serves what it served "
                "before; mend the cause and pull again"
            ) from None


def _refuse_names(repository: Path, arrivals: Sequence[Arrival]) -> None:
    known = lock.read(repository)
    names.refuse_foreign(repository, [each.name for each in arrivals if each.name not in known])
    served = [each for each in arrivals if each.role in layout.SERVED_ROLES]
    for arrival in served:
        names.refuse_others(repository, arrival.name, {arrival.name: arrival.role})
    for arrival in arrivals:
        existing = layout.role_of(repository / arrival.name)
        if existing and not layout.same_kind(arrival.role, existing):
            raise PublishError(
                f"{arrival.name!r} is in {repository} the {existing}, and {arrival.role} of what is to come; pull into "
                "another folder (-r)"
            )


def _bring(job: _Bringing, signed: dict[str, Any] | None) -> None:
    configs = {each.name: job.text(each.config) for each in job.arrivals if each.config}
    both = {each.name: _both(job, each.name, configs[each.name]) for each in job.of(layout.NETWORK) if each.config}
    _write_lock(job, _recorded(job, both), _signed_now(job.repository))
    for arrival in job.of(*STEP_ROLES):
        _add(job, arrival)
        _switch(job, arrival, configs)
    for arrival in job.of(layout.NETWORK):
        _add(job, arrival)
        _switch(job, arrival, both)
    for arrival in job.of(*layout.SERVED_ROLES):
        _add(job, arrival)
        _switch(job, arrival, configs)
    for arrival in job.of(layout.NETWORK):
        _switch(job, arrival, configs)
    for model in names.orphans(job.repository):
        switching.take_away(job.repository, model)
    _write_lock(job, _published(job), signed)


def _both(job: _Bringing, name: str, after: str) -> str:
    before = switching.config_or_none(job.repository / name)
    return after if before is None else switching.serving_both(before, after)


def _recorded(job: _Bringing, both: dict[str, str]) -> lock.Lock:
    recorded = lock.read(job.repository)
    for each in job.arrivals:
        between = both.get(each.name) if each.config and (job.repository / each.name).exists() else None
        version = _with_past(each.version, recorded.get(each.name), each.number)
        recorded = lock.with_version(recorded, job.repository, each.name, each.number, version, between)
    return recorded


def _with_past(version: lock.Version, known: lock.Model | None, number: str) -> lock.Version:
    """What clients got here before stays what one may go back to."""
    before = known.versions.get(number) if known else None
    return replace(version, was_published=bool(before and before.was_published))


def _published(job: _Bringing) -> lock.Lock:
    """The lock once what has come is what clients get."""
    recorded = lock.read(job.repository)
    for each in job.of(*layout.SERVED_ROLES):
        if each.config or each.version.was_published:
            recorded = lock.with_published(recorded, each.name, each.number)
    return lock.pruned(recorded, job.repository)


def _signed_now(repository: Path) -> dict[str, Any] | None:
    """What a pull before brought, which is true until this one's switch."""
    try:
        found: dict[str, Any] | None = json.loads((repository / lock.FILENAME).read_bytes()).get(SIGNED)
    except FileNotFoundError:
        return None
    return found


def _write_lock(job: _Bringing, recorded: lock.Lock, signed: dict[str, Any] | None) -> None:
    document = json.loads(lock.to_text(recorded)) | ({SIGNED: signed} if signed else {})
    text = json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    path = job.repository / lock.FILENAME
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        temporary = staging_root(job.repository) / lock.FILENAME
        temporary.write_text(text, encoding="utf-8")
        sync(temporary)
        switching.rename(temporary, path)


def _add(job: _Bringing, arrival: Arrival) -> None:
    """The version's folder by one rename; what a damaged one lacks, file by file."""
    model = job.repository / arrival.name
    lacks = {path: digest for path, digest in arrival.content.items() if _lacks(model / path, digest)}
    staged = job.staged / arrival.name
    for path, digest in lacks.items():
        (staged / path).parent.mkdir(parents=True, exist_ok=True)
        _link(job.content / digest, staged / path)
    if not model.exists():
        _add_model(job, arrival, staged)
        return
    whole = f"{arrival.number}/"
    if lacks and not (model / arrival.number).exists():
        for path in lacks:
            if not path.startswith(whole):
                _move(staged / path, model / path)
        switching.rename(staged / arrival.number, model / arrival.number)
        return
    for path in lacks:
        _move(staged / path, model / path)


def _add_model(job: _Bringing, arrival: Arrival, staged: Path) -> None:
    """With its config, without which its folder is none of a model. What is not current comes behind."""
    config = arrival.config or arrival.version.files.get(f"{arrival.number}/{CONFIG}", "")
    (staged / CONFIG).write_text(job.text(config), encoding="utf-8")
    sync(staged)
    switching.rename(staged, job.repository / arrival.name)


def _lacks(path: Path, digest: str) -> bool:
    return hashing.sha256_if_there(path) != digest


def _link(source: Path, target: Path) -> None:
    """Several files may have one content, and the source stays until the end, for a pull that is cut off."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _move(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    sync(source)
    switching.rename(source, target)


def _switch(job: _Bringing, arrival: Arrival, texts: dict[str, str]) -> None:
    if not arrival.config:
        return
    staged = job.staged / arrival.name
    staged.mkdir(exist_ok=True)
    switching.replace_config(staged, job.repository / arrival.name, texts[arrival.name])
