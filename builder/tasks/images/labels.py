"""The labels of a network's classes: one a class, from the entry or from the weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from builder.data import labels
from builder.tasks.labelled import Labelled
from builder.tasks.task import Entry
from builder.types import Network
from builder.util import texts


def require_known(entry: Entry) -> None:
    """Raise ManifestError for a word that is no set: of files only a name without a suffix is looked for."""
    spec: Labelled = entry.spec
    file = spec.labels_file
    if file and labels.is_word(str(spec.labels)) and not (entry.base / file.expanduser()).exists():
        raise entry.error(labels.unknown(str(spec.labels)), "labels")


def resolve_labels(entry: Entry, network: Network, classes: int | None) -> tuple[str, ...] | None:
    """One label a class, or None where nothing names them; `classes` is None where nothing tells how many there are.

    Raises ManifestError.
    """
    given = _given(entry)
    found = given if given is not None else network.labels
    if entry.card and found != entry.card.labels:
        raise entry.error(contradiction(f"{len(entry.card.labels)} others"), "labels")
    if found is not None and classes is not None and len(found) != classes:
        whose = f"; {entry.spec.labels} is a set for other networks" if entry.spec.labels in labels.SETS else ""
        held = f"; so many {entry.spec.reference} gives, which the file is held to" if entry.spec.reference else ""
        message = f"there are {len(found)} labels for {classes} classes; give one a class{whose}{held}"
        raise entry.error(message, "labels")
    if found is not None and any("\n" in label or not label for label in found):
        raise entry.error("a label is one line of text and not empty", "labels")
    return found


def contradiction(trained: Any) -> str:
    return f"these weights were trained with {trained}; leave the key out, since their card says it"


def _given(entry: Entry) -> tuple[str, ...] | None:
    """What the entry itself says, read. Raises ManifestError."""
    said: str | tuple[str, ...] | None = entry.spec.labels
    if not isinstance(said, str):
        return said
    if said in labels.SETS:
        return labels.SETS[said]()
    try:
        return _read(entry.base / Path(said).expanduser())
    except (OSError, ValueError) as error:
        hint = "; the path is relative to the manifest" if isinstance(error, OSError) else ""
        raise entry.error(f"the labels cannot be read: {_file_error(error)}{hint}", "labels") from None


def _read(path: Path) -> tuple[str, ...]:
    """One a line. Raises OSError, ValueError."""
    text = texts.read(path)
    if "\0" in text:
        raise texts.NotUtf8(f"{path} has bytes of zero between its letters, as UTF-16 has; save it as UTF-8")
    return tuple(text.splitlines())


def _file_error(error: Exception) -> str:
    return f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)
