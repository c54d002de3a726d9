"""What was published of a model, when, from what and with which figures, and to which of it one can go back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from builder.errors import ConfigError
from builder.repository import disk, lock, versions
from builder.repository.names import Pin

ORIGIN = ("network", "weights", "weights_sha256", "weights_license", "format", "precision")
FIGURES = ("_error", "_agreement", "_accuracy")
BUILT_AT = "built_at"


@dataclass(frozen=True)
class Release:
    """One version of what clients ask."""

    version: int
    is_current: bool
    was_published: bool
    """Whether clients got it at some time; one that they never got was left by a build that was killed."""
    built_at: str | None
    """ISO 8601; of a merged model, the last build of its plans. None where it was not recorded."""
    origin: dict[str, str]
    figures: dict[str, str]
    bytes: int
    """Of the disk, with the network and the steps, which other versions may share."""
    problem: str
    """Why one cannot go back to it; nothing where one can."""


def history(repository: Path, model: str, read: bool = True) -> list[Release]:
    """The newest first. Without `read`, files are looked for, and not compared with what was recorded.

    Raises RepositoryError.
    """
    versions.require(repository, model)
    recorded, current = lock.read(repository), versions.current(repository / model)
    found = reversed(versions.numbers(repository / model))
    return [_release(repository, Pin(model, number), number == current, recorded, read) for number in found]


def _release(repository: Path, pin: Pin, is_current: bool, recorded: lock.Lock, read: bool) -> Release:
    told = facts(repository, pin, recorded)
    consists_of = versions.pins(repository, *pin)
    return Release(
        pin.version,
        is_current,
        is_current or pin.version in versions.published(repository / pin.name, recorded),
        built_at(told),
        {key: value for key, value in told.items() if _is_one_of(key, ORIGIN)},
        {key: value for key, value in told.items() if key.partition(".")[0].rstrip("0123456789_").endswith(FIGURES)},
        disk.used(folder for part in consists_of if (folder := repository / part.name / str(part.version)).is_dir()),
        versions.damage(repository, pin.name, pin.version, recorded, read),
    )


def facts(repository: Path, pin: Pin, recorded: lock.Lock) -> dict[str, str]:
    """What its config records of how it was built; or the lock, where the config is lost."""
    try:
        config = versions.config_of(repository, pin)
        return {key: value.string_value for key, value in config.parameters.items()}
    except (OSError, ConfigError):
        model = recorded.get(pin.name)
        version = model and model.versions.get(str(pin.version))
        told = version.built_from.get("facts", {}) if version else {}
        return {str(key): str(value) for key, value in told.items()}


def built_at(told: dict[str, str]) -> str | None:
    times = [value for key, value in told.items() if _is_one_of(key, (BUILT_AT,)) and seconds(value) is not None]
    return max(times, key=lambda time: seconds(time) or 0, default=None)


def seconds(time: str | None) -> float | None:
    """Since 1970; None for what is no time."""
    try:
        return None if time is None else datetime.fromisoformat(time).timestamp()
    except ValueError:
        return None


def _is_one_of(key: str, names: Iterable[str]) -> bool:
    """Also as a merged config has it, `built_at_9.0`: one for each plan."""
    head, _, tail = key.rpartition("_")
    return key in names or (head in names and tail.replace(".", "", 1).isdecimal())
