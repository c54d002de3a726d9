"""What a repository on this machine has, as a far side's record tells it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from builder.errors import ConfigError, RepositoryError, StoreError
from builder.repository import layout, lock, served
from builder.repository.layout import CONFIG
from builder.stores.record import Model, Pin, Record, Version
from builder.triton import model_config


def read(repository: Path, names: Iterable[str], every: bool) -> Record:
    """The models, or those of these names, as they are served; with `every`, all their versions.

    Raises RepositoryError where the repository is not what its lock says, and StoreError.
    """
    models = served.read_intact(repository)
    recorded = lock.read(repository)  # after what is served, which was recorded before it came
    record = _all(repository, models, recorded)
    chosen = record.asked(names, str(repository))
    return _only(record, record.every(chosen) if every else record.current(chosen))


def _all(repository: Path, models: list[served.Served], recorded: lock.Lock) -> Record:
    found = {}
    for part in {part.name: part for model in models for part in model.parts}.values():
        found[part.name] = _model(repository, part, recorded)
    for name in recorded:  # what only former versions ask
        if name not in found and (role := layout.role_of(repository / name)) and recorded[name].versions:
            found[name] = Model(role, _newest(recorded[name]), _versions(repository, name, recorded))
    return Record(found)


def _model(repository: Path, part: served.Part, recorded: lock.Lock) -> Model:
    versions = _versions(repository, part.name, recorded)
    if str(part.version) not in versions:
        raise StoreError(
            f"version {part.version} of {part.name} in {repository} was published before anything was recorded; build "
            "it again, or wait until the build that is at work is done"
        )
    number = str(part.version)
    if part.role in layout.SERVED_ROLES:
        versions |= {number: replace(versions[number], was_published=True)}
    return Model(part.role, number, versions)


def _newest(model: lock.Model) -> str:
    return max(model.versions, key=int)


def _versions(repository: Path, name: str, recorded: lock.Lock) -> dict[str, Version]:
    """Those that are recorded, and there."""
    known = recorded[name].versions if name in recorded else {}
    return {
        number: Version(version.files, version.built_from, _calls(repository / name / number), version.was_published)
        for number, version in known.items()
        if version and (repository / name / number).is_dir()
    }


def _calls(version: Path) -> dict[str, str]:
    """What an ensemble of that version asks."""
    try:
        config: Any = model_config.read(version / CONFIG)
    except FileNotFoundError:
        return {}  # a step's
    except (OSError, ConfigError) as error:
        raise RepositoryError(f"{version / CONFIG} cannot be read: {error}") from None
    return {call.model_name: str(call.model_version) for call in config.ensemble_scheduling.step}


def _only(record: Record, pins: list[Pin]) -> Record:
    kept: dict[str, Model] = {}
    for name, number in pins:
        model = record.models[name]
        versions = kept[name].versions if name in kept else {}
        current = model.current if model.current in versions or model.current == number else number
        kept[name] = Model(model.role, current, versions | {number: model.versions[number]})
    return Record(kept)
