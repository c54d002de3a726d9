"""Commands that messages name, as a shell takes them."""

from __future__ import annotations

import shlex
from pathlib import Path

DEFAULT_REPOSITORY = Path("model_repository")
"""Where commands look that name none."""


def command(repository: Path, *words: str) -> str:
    """`build-repo` with these words, and with the repository unless it is the default."""
    where = [] if repository.absolute() == DEFAULT_REPOSITORY.absolute() else ["-r", str(repository)]
    return shlex.join(["build-repo", *words, *where])
