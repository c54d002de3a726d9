"""What is to be checked: which folders, and what stands beside them on their server."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from builder.check import order, reader
from builder.check.model import Model
from builder.errors import UnusableError

Reader = Callable[[Path], Model]
"""Of a model's folder."""


@dataclass(frozen=True)
class Server:
    """The models that one server would have."""

    models: Mapping[str, Model]
    asked: tuple[Model, ...]
    """Of them, what findings are wanted of."""
    twice: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    """Names that more than one repository has, and where."""


def servers(paths: Sequence[Path], read: Reader) -> Iterator[Server]:
    """One of all the repositories; and one for each repository of which single models are asked.

    Raises UnusableError for a path that is neither.
    """
    repositories, alone = _told_apart(paths)
    if repositories:
        yield _of_repositories(repositories, read)
    for repository, folders in alone.items():
        yield _of_folders(repository, folders, read)


def _told_apart(paths: Sequence[Path]) -> tuple[list[Path], dict[Path, list[Path]]]:
    whole: dict[Path, Path] = {}
    alone: dict[Path, dict[Path, Path]] = {}
    for path in paths:
        absolute = _folder(path)
        if reader.is_model(path):
            alone.setdefault(absolute.parent, {}).setdefault(absolute, path)
        else:
            whole.setdefault(absolute.resolve(), path)
    single = {parent: list(found.values()) for parent, found in alone.items() if parent not in whole}
    return list(whole.values()), single


def _folder(path: Path) -> Path:
    """Where it is; a link has the name, and the neighbours, that it has itself. Raises UnusableError."""
    try:
        if not path.is_dir():
            wrong = "it is no folder, and no config.pbtxt" if path.exists() else "there is no such folder"
            raise UnusableError(f"{path}: {wrong}; name a model repository, or the folder of a model")
        if not any(path.iterdir()):
            raise UnusableError(f"{path}: there is nothing in it; name a model repository, or the folder of a model")
        return path.resolve() if path.name in ("", "..") else path.parent.resolve() / path.name
    except (OSError, RuntimeError, ValueError) as error:
        raise UnusableError(f"{path}: it cannot be read: {error}") from error


def _of_repositories(repositories: Sequence[Path], read: Reader) -> Server:
    models: dict[str, Model] = {}
    places: dict[str, list[Path]] = {}
    for repository in repositories:
        for model in map(read, reader.folders_of(repository)):
            models.setdefault(model.name, model)
            places.setdefault(model.name, []).append(model.folder)
    twice = {name: tuple(folders) for name, folders in places.items() if len(folders) > 1}
    return Server(models, tuple(models.values()), twice)


def _of_folders(repository: Path, folders: Sequence[Path], read: Reader) -> Server:
    asked = tuple(map(read, folders))
    models = {model.name: model for model in asked}
    waiting = list(asked)
    while waiting:
        for name in order.steps(waiting.pop()):
            if name not in models and _is_folder_in(repository, name):
                models[name] = read(repository / name)
                waiting.append(models[name])
    return Server(models, asked)


def _is_folder_in(repository: Path, name: str) -> bool:
    """Whether a step's model is there; its name may be anything."""
    try:
        return name not in ("", ".", "..") and "/" not in name and (repository / name).is_dir()
    except (OSError, ValueError):
        return False
