"""Names of networks that look like paths or callables, and are neither: told by how they begin."""

from __future__ import annotations

FOLDER = "hf:"
"""Before a folder that holds a snapshot of transformers."""
HUB = "hf/"
"""Before ORG/NAME of a repository of the hub, and perhaps @REVISION."""
OF_FILES = (".onnx", ".pt", ".pt2", ".xml", ".plan", ".py")


def is_of_hub(name: str) -> bool:
    """Whether it names a repository of the hub, rather than a file in a folder that is called hf."""
    return name.startswith(HUB) and ":" not in name and not name.endswith(OF_FILES)


def split(name: str) -> tuple[str, str]:
    """The mark that stands before a path, if one does, and the path."""
    return (FOLDER, name.removeprefix(FOLDER)) if name.startswith(FOLDER) else ("", name)
