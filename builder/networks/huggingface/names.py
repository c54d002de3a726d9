"""How snapshots are named, told without reading any."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from builder.errors import NetworkError
from builder.util.names import FOLDER, HUB, is_of_hub

FORM = f"{HUB}ORG/NAME, {HUB}ORG/NAME@REVISION, or {FOLDER}DIR"


@dataclass(frozen=True)
class Place:
    """Where a snapshot is: in a folder, or on the hub."""

    name: str
    """As the manifest has it."""
    folder: Path | None = None
    repository: str = ""
    """ORG/NAME on the hub."""
    revision: str | None = None
    """A branch, a tag or a commit; None: what the hub gives by itself, its main branch."""


def matches(name: str) -> bool:
    return name.startswith(FOLDER) or is_of_hub(name)


def parsed(name: str, base: Path) -> Place:
    """Folders are relative to `base`. Raises NetworkError for what names no snapshot."""
    if name.startswith(FOLDER):
        path = name.removeprefix(FOLDER)
        if not path:
            raise NetworkError(f"{name} names no folder; write {FORM}")
        return Place(name, folder=base / Path(path).expanduser())
    repository, _, revision = name.removeprefix(HUB).partition("@")
    if not re.fullmatch(r"[^/@]+/[^/@]+", repository) or ("@" in name and not revision):
        raise NetworkError(f"{name} names no repository of the hub; write {FORM}")
    return Place(name, repository=repository, revision=revision or None)
