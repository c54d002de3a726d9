"""An entry without the places of one machine: to be recorded, and to be built elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

from builder.build.entry import Entry
from builder.data import labels
from builder.tasks.spec import ModelSpec
from builder.util.usercode import is_callable_name


def relative(text: str, base: Path) -> str:
    """A path of the manifest as it is seen from the manifest's folder, absolute ones and ~ included."""
    root = base.resolve()
    whole = os.path.normpath(root / Path(text).expanduser())
    return Path(os.path.relpath(whole, root)).as_posix()


def portable(entry: Entry) -> ModelSpec:
    """The entry with every path relative to the manifest's folder: the same on any machine."""
    spec: ModelSpec = entry.spec
    weights = relative(entry.weights.name, entry.base) if entry.weights.path else entry.weights.name
    moved = {keys: _moved(value, entry.base) for keys, value in spec.files().items()}
    return spec.with_files(moved).model_copy(update={} if entry.artifact else {"weights": weights})


def names_callable(data: str, base: Path) -> bool:
    """Whether a value names a callable: a file of that name goes before it."""
    return is_callable_name(data) and not (base / data).exists()


def _moved(value: str, base: Path) -> str:
    if names_callable(value, base):
        return _callable(value, base)
    path = relative(value, base)
    # A file that is called as a set of labels is keeps the form that tells the two apart.
    return f"./{path}" if path in labels.SETS else path


def _callable(name: str, base: Path) -> str:
    place, _, attribute = name.rpartition(":")
    return f"{relative(place, base)}:{attribute}" if place.endswith(".py") else name
