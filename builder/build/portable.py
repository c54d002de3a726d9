"""An entry without the places of one machine: to be recorded, and to be built elsewhere."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from builder.build.entry import Entry
from builder.data import labels
from builder.manifest.models import ModelSpec
from builder.util.usercode import is_callable_name


def relative(text: str, base: Path) -> str:
    """A path of the manifest as it is seen from the manifest's folder, absolute ones and ~ included."""
    root = base.resolve()
    whole = os.path.normpath(root / Path(text).expanduser())
    return Path(os.path.relpath(whole, root)).as_posix()


def portable(entry: Entry) -> ModelSpec:
    """The entry with every path relative to the manifest's folder: the same on any machine."""
    spec, base = entry.spec, entry.manifest.path.parent
    weights = relative(entry.weights.name, base) if entry.weights.path else entry.weights.name
    changes: dict[str, Any] = {"network": _callable(spec.network, base), "weights": weights}
    if spec.labels_file:
        changes["labels"] = _file_of_labels(relative(str(spec.labels_file), base))
    for key in ("images", "calibration"):
        if images := getattr(spec, key):
            changes[key] = images.model_copy(update={"data": _data(images.data, base)})
    return spec.model_copy(update=changes)


def _file_of_labels(path: str) -> str:
    """A file that is called as a set is keeps the form that tells the two apart."""
    return f"./{path}" if path in labels.SETS else path


def names_callable(data: str, base: Path) -> bool:
    """Whether a set of images is a callable, as `pictures.find` tells it from a folder."""
    return is_callable_name(data) and not (base / data).exists()


def _data(data: str, base: Path) -> str:
    return _callable(data, base) if names_callable(data, base) else relative(data, base)


def _callable(name: str, base: Path) -> str:
    place, _, attribute = name.rpartition(":")
    return f"{relative(place, base)}:{attribute}" if is_callable_name(name) and place.endswith(".py") else name
