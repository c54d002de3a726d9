"""A repository's folders, as the models that the server takes them for."""

from __future__ import annotations

from pathlib import Path

from builder.check import config
from builder.check.model import Model
from builder.check.target import Target


def is_model(folder: Path) -> bool:
    """Whether a folder is a model, and no repository of models."""
    return (folder / "config.pbtxt").exists()


def models_of(repository: Path, target: Target, strict: bool = False) -> list[Model]:
    """By name. It never raises for what is in them."""
    folders = sorted(path for path in repository.iterdir() if path.is_dir())
    return [model_of(folder, target, strict) for folder in folders]


def model_of(folder: Path, target: Target, strict: bool = False) -> Model:
    read = config.read(folder / "config.pbtxt")
    filled = type(read.message)()
    filled.CopyFrom(read.message)
    filled.name = filled.name or folder.name
    folders = {int(path.name): path for path in folder.iterdir() if path.is_dir() and path.name.isdecimal()}
    assert target.release or strict  # The core's fill takes both.
    return Model(folder.name, folder, read, filled, tuple(sorted(folders)), folders)
