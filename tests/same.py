"""When two builds are the same: equal artifacts, and configs that differ only in what is of one build."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from builder import config, lock

OF_ONE_BUILD = ("built_at",)


def content(repository: Path) -> dict[str, Any]:
    """All of a repository's files, by path: digests, and configs as messages without the time of the build."""
    found: dict[str, Any] = {}
    for model in sorted(path for path in repository.iterdir() if path.is_dir()):
        for name, digest in lock.digests(model).items():
            found[f"{model.name}/{name}"] = _config(model / name) if name.endswith("config.pbtxt") else digest
    return found


def _config(path: Path) -> Any:
    message = config.read(path)
    for fact in OF_ONE_BUILD:
        message.parameters.pop(fact, None)
    return message
