"""The versions of what clients ask: which are there, what each consists of, and whether it could be served."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from builder.errors import ConfigError, RepositoryError
from builder.repository import layout, lock
from builder.repository.layout import CONFIG
from builder.repository.names import Pin, called
from builder.triton import model_config
from builder.util import hashing

NO_CONFIG = "has no config.pbtxt that can be read"


def asked(repository: Path) -> list[str]:
    """Names of what clients ask; also of one that has lost its config, and has those of its versions."""
    if not repository.is_dir():
        raise RepositoryError(f"{repository} is no repository; give the folder that build-repo wrote with -r")
    return [folder.name for folder in sorted(repository.iterdir()) if _is_asked(folder)]


def _is_asked(folder: Path) -> bool:
    if (folder / CONFIG).exists():
        return layout.role_of(folder) in layout.SERVED_ROLES
    return any(layout.role_of(folder / str(number)) in layout.SERVED_ROLES for number in numbers(folder))


def require(repository: Path, name: str) -> None:
    """Raise RepositoryError unless clients can ask for it."""
    there = asked(repository)
    if name not in there:
        known = f"it has {', '.join(there)}" if there else "it has no models of build-repo"
        raise RepositoryError(f"{repository} has no model {name!r}; {known}")


def numbers(model: Path) -> list[int]:
    """Of the versions that are there, ascending."""
    if not model.is_dir():
        return []
    # Triton reads 01 as 1, and so it is none of ours.
    found = [entry.name for entry in model.iterdir() if entry.name.isdecimal() and entry.name[0] != "0"]
    return sorted(map(int, found))


def listed(model: Path) -> list[int]:
    """The versions that its config has a server load; none where that cannot be read."""
    try:
        return list(model_config.read(model / CONFIG).version_policy.specific.versions)
    except (OSError, ConfigError):
        return []


def current(model: Path) -> int | None:
    return max(listed(model), default=None)


def published(model: Path, recorded: lock.Lock) -> list[int]:
    """Those that clients got at some time, ascending: not what a build that was killed left.

    Of the time before that was recorded, all: what is below the first of which it is.
    """
    there, told = numbers(model), recorded.get(model.name)
    found = [number for number in there if told and (one := told.versions.get(str(number))) and one.was_published]
    return [number for number in there if not found or number < found[0] or number in found]


def pins(repository: Path, name: str, number: int) -> tuple[Pin, ...]:
    """All that the version consists of: itself, and what it calls if it is an ensemble."""
    return (Pin(name, number), *dict.fromkeys(called(repository / name / str(number) / CONFIG)))


def config_of(repository: Path, pin: Pin) -> Any:
    """The version's own, to which one returns; of a step, which has one version, that of the model. Raises OSError."""
    own = repository / pin.name / str(pin.version) / CONFIG
    return model_config.read(own if own.exists() else repository / pin.name / CONFIG)


def network_of(repository: Path, name: str, number: int) -> Pin | None:
    """Of an ensemble's version; None where a network is asked by itself."""
    for pin in pins(repository, name, number)[1:]:
        if layout.role_of(repository / pin.name) not in layout.STEP_ROLES:
            return pin
    return None


def damage(repository: Path, name: str, number: int, recorded: lock.Lock, read: bool = True) -> str:
    """Why the version cannot be served; nothing where it can. Without `read`, files are only looked for."""
    own = repository / name / str(number)
    if not own.is_dir():
        return f"{name}/{number} is gone"
    try:
        config = model_config.read(own / CONFIG)
    except (OSError, ConfigError):
        return f"{name}/{number} {NO_CONFIG}"
    found = (config.name, list(config.version_policy.specific.versions), layout.role_of(own) in layout.SERVED_ROLES)
    if found != (name, [number], True):
        return f"{name}/{number}/{CONFIG} is not that of this version"
    problems = [
        problem for pin in pins(repository, name, number) for problem in _problems(repository, pin, recorded, read)
    ]
    more = f", and {len(problems) - 1} files more" if len(problems) > 1 else ""
    return f"{problems[0]}{more}" if problems else ""


def _problems(repository: Path, pin: Pin, recorded: lock.Lock, read: bool) -> Iterator[str]:
    folder = repository / pin.name / str(pin.version)
    if not folder.is_dir():
        yield f"{pin.name}/{pin.version} is gone"
        return
    try:
        config = config_of(repository, pin)
    except (OSError, ConfigError):
        yield f"{pin.name}/{pin.version} {NO_CONFIG}"
        return
    model = recorded.get(pin.name)
    version = model and model.versions.get(str(pin.version))
    if version:
        yield from _differences(repository / pin.name, pin.version, version, read)
    else:
        yield from _absent(folder, config)


def _differences(model: Path, number: int, version: lock.Version, read: bool) -> Iterator[str]:
    expected = {path: digest for path, digest in version.files.items() if _is_own(path, number, version)}
    there = {path for path in expected if (model / path).is_file()}
    digests = hashing.hashed(model / path for path in there) if read else {}
    for path, digest in expected.items():
        if path not in there:
            yield f"{model.name}/{path} is missing"
        elif read and digests[model / path] != digest:
            yield f"{model.name}/{path} differs from what was recorded"
    for file in hashing.files(model / str(number)):
        if file.relative_to(model).as_posix() not in expected:
            yield f"{model.name}/{file.relative_to(model).as_posix()} is not recorded"


def _is_own(path: str, number: int, version: lock.Version) -> bool:
    """The config beside the versions is of the current one; a step's is of its one version."""
    return path != CONFIG or f"{number}/{CONFIG}" not in version.files


def _absent(folder: Path, config: Any) -> Iterator[str]:
    """Of a version that was published before anything was recorded."""
    named = {config.default_model_filename, *config.cc_model_filenames.values()} - {"", layout.NO_PLAN}
    for file in sorted(named):
        if not (folder / file).is_file():
            yield f"{folder.parent.name}/{folder.name}/{file} is missing"
