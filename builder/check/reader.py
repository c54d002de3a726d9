"""A repository's folders, as the server takes them for models."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from builder.check import backends
from builder.check import config as configs
from builder.check import listing as listings
from builder.check.files import is_there
from builder.check.fill import filled
from builder.check.findings import Problem
from builder.check.listing import Listing
from builder.check.model import Model
from builder.check.target import EMBEDDED, Target

CONFIG = "config.pbtxt"
NAMED_CONFIGS = "configs"
NOT_JUDGED = "TMR699"
VERSION = re.compile(r"[1-9][0-9]{0,17}")


def models_of(
    path: Path,
    target: Target = EMBEDDED,
    strict: bool = False,
    config_name: str = "",
    gpus: int | None = None,
) -> list[Model]:
    """Of a repository, or of one model's folder: every folder that the server would take for a model, by name.

    `config_name` is tritonserver's --model-config-name. Raises OSError where the folder itself cannot be read.
    """
    folders = [path] if is_model(path) else list(folders_of(path))
    return [model_of(folder, target, strict, config_name, gpus) for folder in folders]


def folders_of(repository: Path) -> Iterator[Path]:
    """Every folder in it, links to some and hidden ones included. What is no folder is of no interest to the server."""
    with os.scandir(repository) as entries:
        names = sorted((entry.name for entry in entries if _is_folder(entry)), key=os.fsencode)
    for name in names:
        yield repository / name


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def is_model(folder: Path) -> bool:
    """Whether a path that somebody gives is one model, and no repository.

    A model has a config, or files in a folder with a number; such a folder of a repository has a config of its own.
    """
    if os.path.lexists(folder / CONFIG):
        return True
    found = listings.listing_of(folder)
    numbers = [name for name in found.folders if VERSION.fullmatch(name)]
    if not numbers or any(os.path.lexists(folder / name / CONFIG) for name in found.folders):
        return False
    return NAMED_CONFIGS in found.folders or any(_has_artifact(folder / name) for name in numbers)


def _has_artifact(version: Path) -> bool:
    try:
        return any(file.name.startswith("model.") for file in version.iterdir())
    except OSError:
        return False


def model_of(
    folder: Path, target: Target = EMBEDDED, strict: bool = False, config_name: str = "", gpus: int | None = None
) -> Model:
    """Of a folder, whatever is in it; where reading it fails, the config counts as unread, and ends no other's."""
    try:
        return _read(folder, target, strict, config_name, gpus)
    except Exception as error:
        return _failed(folder, error)


def _failed(folder: Path, error: Exception) -> Model:
    problem = Problem(NOT_JUDGED, f"{type(error).__name__}: {error}")
    config = configs.Config(folder / CONFIG, "", configs.schema().ModelConfig(), problems=(problem,))
    return Model(_name(folder), folder, config, config.message, ())


def _read(folder: Path, target: Target, strict: bool, config_name: str, gpus: int | None) -> Model:
    name = _name(folder)
    found = listings.listing_of(folder)
    config = configs.read(_config_file(folder, config_name))
    versions = _versions(folder, found)
    # Where there must be a config and is none, the server fills in nothing.
    is_refused = strict and not config.exists
    model = Model(
        name=name,
        folder=folder,
        config=config,
        filled=config.message if is_refused else filled(name, config.message, found, target, gpus),
        versions=tuple(sorted(versions)),
        version_folders=versions,
        listing=found,
    )
    if config.is_readable and not strict:
        backends.fill(model)
    return model


def _name(folder: Path) -> str:
    name = folder.absolute().name
    return folder.resolve().name if name in ("", "..") else name


def _config_file(folder: Path, config_name: str) -> Path:
    named = folder / NAMED_CONFIGS / f"{config_name}.pbtxt"
    return named if config_name and is_there(named) else folder / CONFIG


def _versions(folder: Path, found: Listing) -> dict[int, Path]:
    """By number; the folder with the plain name where several have one number, which is where the server looks."""
    versions: dict[int, Path] = {}
    for name in found.folders:
        number = listings.version(name)
        if number is not None and not listings.is_too_large(number) and (number not in versions or name == str(number)):
            versions[number] = folder / name
    return versions
