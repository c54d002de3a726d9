"""When two builds are the same: all files but the configs to the last bit, configs and lock but for the time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from builder.repository import lock
from builder.triton import model_config
from builder.util import hashing

OF_ONE_BUILD = ("built_at",)


def content(repository: Path) -> dict[str, Any]:
    """All of a repository's files, by path: digests, and configs as messages without the time of the build."""
    found: dict[str, Any] = {}
    for folder in sorted(path for path in repository.iterdir() if path.is_dir()):
        for name, digest in hashing.digests(folder).items():
            found[f"{folder.name}/{name}"] = _config(folder / name) if name.endswith("config.pbtxt") else digest
    for name, model in lock.read(repository).items():
        for number, version in model.versions.items():
            origin = version.built_from if version else {}
            facts = {key: value for key, value in origin.get("facts", {}).items() if key not in OF_ONE_BUILD}
            found[f"lock of {name}/{number}"] = origin.get("entry"), facts, origin.get("inputs")
    return found


def _config(path: Path) -> Any:
    message = model_config.read(path)
    for fact in OF_ONE_BUILD:
        message.parameters.pop(fact, None)
    return message
