"""What a repository consists of, and what it was built from: `build-repo.lock.json` in its root.

Of each published version, by model: the SHA-256 of every file, and for served models the manifest's entry. Triton
ignores plain files there. `publish.py` writes it, what is to come before it comes, and takes out what is gone
afterwards; so it never lies, wherever a build is killed:

- a version counts once its folder is there;
- a model's config beside the versions is that of one of them, or the one that both the old and the new answer to
  while one replaces the other (`between`);
- versions that were there before anything was recorded (null) are not looked at, nor are models without a record.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from builder.errors import RepositoryError
from builder.repository.layout import CONFIG, WARMUP_FOLDER
from builder.util.hashing import files, hashed, sha256_if_there

FILENAME = "build-repo.lock.json"
FORM = 1
"""Of the file. Another one is another program's."""


@dataclass(frozen=True)
class Version:
    files: dict[str, str]
    """SHA-256 by path in the model's folder, which is also where warm-up data and a step's config are."""
    built_from: dict[str, Any] = field(default_factory=dict)
    """Of what clients ask: `entry`, `facts`, and `inputs`, which tell whether another build would be the same."""
    was_published: bool = False
    """Of what clients ask: whether it was what they got, at some time. One that is not now was rolled back, or was
    followed by another; one that never was belongs to a build that was killed."""


@dataclass(frozen=True)
class Model:
    versions: dict[str, Version | None]
    between: tuple[str, ...] = ()
    """Digests of configs that the model has only while a version replaces another."""


Lock = dict[str, Model]
"""By the model's name."""


def read(repository: Path) -> Lock:
    """What is recorded of the repository; nothing if it has no lock. Raises RepositoryError."""
    path = repository / FILENAME
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["lock"] != FORM:
            raise RepositoryError(f"{path} has form {document['lock']}, this build-repo reads {FORM}; use a newer one")
        return {_folder(name): _model(record) for name, record in document["models"].items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RepositoryError(
            f"{path} cannot be read ({type(error).__name__}: {error}); bring it back, or remove it, so that models "
            "are recorded again as they are built"
        ) from None


def _folder(name: str) -> str:
    """Raises ValueError for what is not the name of one folder in the repository."""
    if Path(name).name != name:
        raise ValueError(f"{name!r} is no model")
    return name


def _model(record: dict[str, Any]) -> Model:
    versions = {
        number: version
        and Version(dict(version["files"]), dict(version.get("built_from", {})), bool(version.get("published", False)))
        for number, version in record["versions"].items()
    }
    return Model(versions, tuple(record.get("between", ())))


def to_text(lock: Lock) -> str:
    models = {name: _record(model) for name, model in lock.items()}
    return json.dumps({"lock": FORM, "models": models}, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _record(model: Model) -> dict[str, Any]:
    versions = {
        number: version
        and {"files": version.files}
        | ({"built_from": version.built_from} if version.built_from else {})
        | ({"published": True} if version.was_published else {})
        for number, version in model.versions.items()
    }
    return {"versions": versions} | ({"between": sorted(set(model.between))} if model.between else {})


def with_version(
    lock: Lock, repository: Path, name: str, number: str, version: Version, between: str | None = None
) -> Lock:
    """The lock with one version more. `between`: text of the config while it replaces another."""
    lock = lock if between is None else with_passing(lock, repository, name, between)
    model = lock.get(name) or _unrecorded(repository / name)
    return lock | {name: replace(model, versions=model.versions | {number: version})}


def with_passing(lock: Lock, repository: Path, name: str, config: str) -> Lock:
    """The lock with a config that the model has only while one version replaces another."""
    model = lock.get(name) or _unrecorded(repository / name)
    return lock | {name: replace(model, between=(*model.between, hashlib.sha256(config.encode()).hexdigest()))}


def _unrecorded(folder: Path) -> Model:
    """A model as it was before there was a lock, or before it was there."""
    return Model(dict.fromkeys(_numbered(folder)), tuple(filter(None, [sha256_if_there(folder / CONFIG)])))


def with_published(lock: Lock, name: str, number: int | str | None) -> Lock:
    """The lock after the version has become what clients get; the same for one of which nothing is recorded."""
    model = lock.get(name)
    version = model and model.versions.get(str(number))
    if not model or not version:
        return lock
    return lock | {name: replace(model, versions=model.versions | {str(number): replace(version, was_published=True)})}


def pruned(lock: Lock, repository: Path) -> Lock:
    """The lock without what is gone from the repository, or was only passing."""
    kept: Lock = {}
    for name, model in lock.items():
        there = _numbered(repository / name)
        versions = {number: version for number, version in model.versions.items() if number in there}
        if versions:
            passing = {sha256_if_there(repository / name / CONFIG)} - _configs(versions)
            kept[name] = replace(model, versions=versions, between=tuple(passing.intersection(model.between)))
    return kept


def _configs(versions: Mapping[str, Version | None]) -> set[str]:
    """Digests of the configs that the versions recorded."""
    return {
        version.files[path]
        for number, version in versions.items()
        if version
        for path in (CONFIG, f"{number}/{CONFIG}")
        if path in version.files
    }


def _numbered(model: Path) -> list[str]:
    """The model's version folders."""
    return [entry.name for entry in model.iterdir() if entry.name.isdecimal()] if model.is_dir() else []


def require_intact(folder: Path, repository: Path | None = None) -> None:
    """Raise RepositoryError if what is in the folder, a repository or a copy of one, is not what was recorded of it."""
    repository = repository or folder
    found = problems(folder)
    if found:
        lines = "\n".join(f"  {problem}" for problem in found)
        raise RepositoryError(
            f"{repository} is not what was built:\n{lines}\nBring the files back; or remove the folders of what is "
            f"damaged (a version's, or a whole step's) and build again: build-repo -r {repository}"
        )


def problems(repository: Path) -> list[str]:
    """What differs from the lock, a line each; nothing where there is none. Raises RepositoryError.

    A build may publish at the same moment, so what is wrong must be so twice.
    """
    try:
        found = list(_problems(repository))
        again = set(_problems(repository)) if found else set()
    except OSError as error:
        raise RepositoryError(f"{repository} cannot be read: {error}") from None
    return [problem for problem in found if problem in again]


def _problems(repository: Path) -> Iterator[str]:
    lock = {name: model for name, model in read(repository).items() if (repository / name).is_dir()}
    found: dict[str, dict[str, str]] = {name: {} for name in lock}
    for path, digest in hashed(path for name in lock for path in files(repository / name)).items():
        name, *parts = path.relative_to(repository).parts
        found[name]["/".join(parts)] = digest
    for name in sorted(lock):
        for file, problem in sorted(_model_problems(repository / name, lock[name], found[name])):
            yield f"{name}/{file} {problem}"


def _model_problems(folder: Path, model: Model, found: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    there = {number: model.versions.get(number) for number in _numbered(folder)}
    counting = [version for version in there.values() if version]
    recorded = {path: digest for version in counting for path, digest in version.files.items() if path != CONFIG}
    for path, digest in recorded.items():
        if path not in found:
            yield path, "is missing"
        elif found[path] != digest:
            yield path, f"differs from what was recorded: SHA-256 {found[path][:12]}..., recorded {digest[:12]}..."
    yield from ((path, "is not recorded") for path in found.keys() - recorded.keys() if not _is_free(path, model))
    if not _is_own_config(found, model, there):
        yield CONFIG, "is that of none of its versions" if CONFIG in found else "is missing"


def _is_free(path: str, model: Model) -> bool:
    """Whether a file may be there unrecorded.

    Warm-up data that no config names is left by builds that were killed and versions that were taken away.
    """
    head, separator, _ = path.partition("/")
    before = [number for number, version in model.versions.items() if version is None]
    if not separator:
        return path == CONFIG or bool(before)
    return head == WARMUP_FOLDER or head in before


def _is_own_config(found: Mapping[str, str], model: Model, there: Mapping[str, Version | None]) -> bool:
    before = [number for number in there if number in model.versions and model.versions[number] is None]
    copies = {found[copy] for number in before if (copy := f"{number}/{CONFIG}") in found}
    return found.get(CONFIG) in _configs(there) | copies | set(model.between)
