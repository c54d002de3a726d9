"""Where a backend finds the artifact of each version, and whether there is a file at all that it could read."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from builder.check.files import is_folder, is_there
from builder.check.findings import Finding, Level, Rule
from builder.check.model import Model
from builder.util import first_bytes

MISSING = Rule(
    "TMR701",
    "artifact-missing",
    Level.ERROR,
    "A version's folder has no file that its backend could load.",
    "The backend looks for `default_model_filename`, or for the name that is its default, and finds nothing.",
    "Put the file there, or name the one that is there in `default_model_filename`.",
    "each backend's LoadModel; python_backend: src/pb_stub.cc",
)
NO_FILE = Rule(
    "TMR702",
    "artifact-is-no-file",
    Level.ERROR,
    "What stands under the artifact's name is a folder, or no regular file.",
    "The backend reads one file.",
    "Put the file itself there, or name it in `default_model_filename`.",
    "each backend's LoadModel",
)
DAMAGED = Rule(
    "TMR801",
    "artifact-damaged",
    Level.ERROR,
    "The artifact is certainly not of its backend's format.",
    "It is empty, cut short, or something else, such as a pointer of Git LFS or a web page.",
    "Save or download it again.",
    "each backend's LoadModel",
)
CAPABILITY = Rule(
    "TMR831",
    "key-no-compute-capability",
    Level.WARNING,
    "A key of `cc_model_filenames` is no compute capability, so that no GPU ever has it.",
    "The server compares it with major.minor, such as 8.6, and falls back to the default file without a word.",
    "Write major.minor of the GPU.",
    "backend: src/backend_model_instance.cc",
)
NO_PLAN = Rule(
    "TMR832",
    "artifact-for-gpu-missing",
    Level.WARNING,
    "`cc_model_filenames` names a file that is not there.",
    "The model does not load on a GPU of that compute capability.",
    "Put the file there, or take the key away.",
    "backend: src/backend_model_instance.cc",
)
RULES: tuple[Rule, ...] = (MISSING, NO_FILE, DAMAGED, CAPABILITY, NO_PLAN)
HEAD_BYTES = 64
SHOWN = 3
CAPABILITIES = re.compile(r"[1-9][0-9]*\.[0-9]")


@dataclass(frozen=True)
class Artifact:
    """A file of a version that is there, and that its backend would open."""

    version: int
    path: Path


def is_foreign(model: Model) -> bool:
    """Whether something else than the backend of that name decides: an agent that unpacks, a library of its own."""
    filled = model.filled
    if filled.model_repository_agents.agents or filled.runtime:
        return True
    library = f"libtriton_{filled.backend}.so"
    folders = [model.folder, *(model.version_folders[version] for version in _served(model))]
    return any(is_there(folder / library) for folder in folders)


def names(model: Model, *defaults: str) -> tuple[str, ...]:
    """That are looked for in a version's folder: the config's, else the backend's own; then those for single GPUs."""
    named = model.filled.default_model_filename
    return ((named,) if named else defaults) + tuple(model.filled.cc_model_filenames.values())


def artifacts(model: Model, *defaults: str, within: str = "") -> Iterator[Artifact]:
    """Regular files of the served versions. `within`: the file's name where the artifact may be a folder."""
    for version in _served(model):
        for name in names(model, *defaults):
            path = _inner(model.version_folders[version] / name, within)
            if _kind(path) == stat.S_IFREG:
                yield Artifact(version, path)


def check(
    model: Model,
    *defaults: str,
    within: str = "",
    server: str = "unable to find '",
    other: str = "",
    instead: tuple[str, ...] = (),
) -> Iterator[Finding]:
    """MISSING and NO_FILE, of each version that is served; what the server says of each.

    `instead`: names that are looked for as well, whatever the config names.
    """
    for version in _served(model):
        folder, wanted = model.version_folders[version], (*names(model, *defaults), *instead)
        kinds = {name: _kind(_inner(folder / name, within)) for name in wanted}
        if not any(kinds.values()):
            message = f"version {version} has no {' or '.join(wanted)}{_instead(folder)}"
            yield model.finding_at(MISSING, folder, message, server)
            continue
        for name, kind in kinds.items():
            if kind not in (0, stat.S_IFREG):
                message = f"{name} of version {version} is {_said(kind)}"
                yield model.finding_at(NO_FILE, folder / name, message, other)


def for_gpus(model: Model) -> Iterator[Finding]:
    """What would not be chosen, or not be found, on some GPU."""
    for key, name in model.filled.cc_model_filenames.items():
        if not CAPABILITIES.fullmatch(key):
            message = f"no GPU has the compute capability {key!r}, so that {name} is never chosen"
            yield model.finding(CAPABILITY, message, "cc_model_filenames", key)
            continue
        for version in _served(model):
            if not _kind(model.version_folders[version] / name):
                message = f"version {version} has no {name}, which GPUs of compute capability {key} load"
                yield model.finding(NO_PLAN, message, "cc_model_filenames", key)


def damaged(model: Model, path: Path, why: str) -> Finding:
    return model.finding_at(DAMAGED, path, f"{path.name} cannot be read: {why}")


def foreign(path: Path) -> str:
    """What a file certainly is instead of an artifact; empty where its first bytes do not say so. Raises OSError."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    return first_bytes.advice(head) if head else "is empty"


def _served(model: Model) -> tuple[int, ...]:
    return tuple(version for version in model.served if version in model.version_folders)


def _inner(path: Path, within: str) -> Path:
    return path / within if within and is_folder(path) else path


def _kind(path: Path) -> int:
    """Of file, as stat has it; 0: there is nothing."""
    try:
        return stat.S_IFMT(path.stat().st_mode)
    except (OSError, ValueError):
        return 0


def _instead(folder: Path) -> str:
    """What it has: often it is the artifact, under another name."""
    try:
        with os.scandir(folder) as entries:
            files = sorted((entry.name for entry in entries if entry.is_file()), key=os.fsencode)
    except OSError:
        return ""
    more = ", ..." if len(files) > SHOWN else ""
    return f"; it has {', '.join(map(repr, files[:SHOWN]))}{more}" if files else ""


def _said(kind: int) -> str:
    return "a folder" if kind == stat.S_IFDIR else "no regular file"
