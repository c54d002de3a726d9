"""Whether what is to be rolled out is what was recorded of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from builder.errors import RepositoryError
from builder.repository import lock
from builder.repository.layout import CONFIG
from builder.repository.served import Part, Served
from builder.util import hints
from builder.util.hashing import hashed


def require(repository: Path, models: Sequence[Served]) -> None:
    """Of the versions that are published now. Raises RepositoryError; what has no record is not looked at."""
    parts = {(part.name, part.version): part for model in models for part in model.parts}
    recorded = lock.read(repository)
    expected = dict(file for part in parts.values() for file in _recorded(part, recorded))
    found = hashed(expected)
    differing = [path for path, digest in expected.items() if found[path] != digest]
    wrong = [f"  {path.relative_to(repository)} {_problem(found[path])}" for path in differing]
    if wrong:
        lines = "\n".join(wrong)
        names = [
            model.name
            for model in models
            if any(path.is_relative_to(part.model) for part in model.parts for path in differing)
        ]
        raise RepositoryError(
            f"{repository} is not what was built, so no server is touched:\n{lines}\nBring the files back, or build "
            f"them anew: {hints.command(repository, 'build', '--rebuild', *names)}"
        )


def _recorded(part: Part, recorded: lock.Lock) -> Iterator[tuple[Path, str]]:
    """Its files with the digests that they are to have."""
    model = recorded.get(part.name)
    version = model.versions.get(str(part.version)) if model else None
    for path, digest in (version.files if version else {}).items():
        if path != CONFIG:  # beside the versions, it is that of the newest
            yield part.model / path, digest


def _problem(digest: str) -> str:
    return f"differs from what was recorded: SHA-256 {digest[:12]}..." if digest else "is missing"
