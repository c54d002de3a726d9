"""What clients ask a running server, in which version, and whether that is what a repository publishes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.errors import ConfigError, RolloutError
from builder.lifecycle.state import Seen, is_alike, look, role_of
from builder.repository import layout
from builder.triton import model_config
from builder.triton.connection import Access, connected


@dataclass(frozen=True)
class Serving:
    """One model on one server."""

    version: int
    is_published: bool
    """Not only by its number, which a repository that was made anew gives again."""


def serving(access: Access) -> dict[str, int]:
    """The version by the name of each model of ours that clients ask. Raises ServerAway, ServerOdd."""
    return _versions(_seen(access))


def compared(repository: Path, access: Access) -> dict[str, Serving]:
    """The same, held against the repository. Raises ServerAway, ServerOdd."""
    seen = _seen(access)
    return {
        name: Serving(version, _is_published(repository, name, version, seen.configs[name]))
        for name, version in _versions(seen).items()
    }


def has_published(repository: Path, access: Access, name: str, version: int) -> bool:
    """Whether a model of which the server has that version is what the repository publishes, to ask for one alone.

    Raises ServerAway, ServerOdd.
    """
    connection = connected(access)
    try:
        loaded = connection.model_config(name)
    except RolloutError as error:
        if type(error) is not RolloutError:
            raise
        return False  # it was unloaded meanwhile
    finally:
        connection.close()
    return _is_published(repository, name, version, loaded)


def _seen(access: Access) -> Seen:
    connection = connected(access)
    try:
        return look(connection)
    finally:
        connection.close()


def _versions(seen: Seen) -> dict[str, int]:
    asked = [name for name, config in seen.configs.items() if role_of(config) in layout.SERVED_ROLES]
    return {name: version for name in asked if (version := seen.served(name)) is not None}


def _is_published(repository: Path, name: str, version: int, loaded: Any) -> bool:
    try:
        published = model_config.read(repository / name / layout.CONFIG)
    except (OSError, ConfigError):
        return False
    return version in published.version_policy.specific.versions and is_alike(loaded, published)
