"""What a running server has loaded, as it tells it itself."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from builder.errors import RolloutError
from builder.repository import layout
from builder.triton.connection import Connection, Row

READY, UNLOADING, LOADING = "READY", "UNLOADING", "LOADING"
LATEST = -1
"""What an ensemble asks that names no version."""
PARTS = frozenset({layout.NETWORK, *layout.STEP_ROLES})
"""Roles of what nobody asks but ensembles of ours."""


@dataclass(frozen=True)
class Seen:
    """A server at one moment."""

    rows: tuple[Row, ...]
    configs: dict[str, Any]
    """Of each model that answers, the ModelConfig with which it was loaded."""
    triton: str

    def versions(self, name: str) -> set[int]:
        """Those that answer."""
        return {row.version for row in self.rows if row.name == name and row.state == READY and row.version is not None}

    def served(self, name: str) -> int | None:
        """The version that requests get which name none."""
        return max(self.versions(name), default=None)

    def state(self, name: str, version: int) -> Row | None:
        return next((row for row in self.rows if (row.name, row.version) == (name, version)), None)

    def role(self, name: str) -> str:
        return role_of(self.configs.get(name))

    def pins(self, but: str = "") -> dict[str, set[int]]:
        """By model, the versions that loaded ensembles ask; of all but one."""
        found: dict[str, set[int]] = defaultdict(set)
        for ensemble, name, version in self._calls():
            if ensemble != but:
                found[name] |= {self.served(name) or 0} if version == LATEST else {version}
        return found

    def floating(self, name: str) -> list[str]:
        """The ensembles that ask whatever version of it is the newest."""
        return sorted({ensemble for ensemble, asked, version in self._calls() if (asked, version) == (name, LATEST)})

    def orphans(self) -> dict[str, set[int]]:
        """By name, versions of networks and steps of ours that no loaded ensemble asks."""
        pins = self.pins()
        found = {name: self.versions(name) - pins.get(name, set()) for name in self.configs if self.role(name) in PARTS}
        return {name: versions for name, versions in found.items() if versions}

    def _calls(self) -> Iterator[tuple[str, str, int]]:
        for ensemble, config in self.configs.items():
            for step in config.ensemble_scheduling.step:
                yield ensemble, step.model_name, step.model_version


def look(connection: Connection) -> Seen:
    """Raises ServerAway, ServerOdd."""
    triton = connection.server_version()
    rows = connection.repository_index()
    found = {name: _config(connection, name) for name in sorted({row.name for row in rows if row.state == READY})}
    gone = {name for name, config in found.items() if config is None}
    configs = {name: config for name, config in found.items() if config is not None}
    return Seen(tuple(row for row in rows if row.name not in gone), configs, triton)


def _config(connection: Connection, name: str) -> Any:
    """None for what was unloaded since the index told of it."""
    try:
        return connection.model_config(name)
    except RolloutError as error:
        if type(error) is not RolloutError:
            raise
        return None


def role_of(config: Any) -> str:
    """What a loaded model is of a pipeline; nothing for what build-repo did not make."""
    return str(config.parameters[layout.ROLE].string_value) if config and layout.ROLE in config.parameters else ""


def facts(config: Any) -> dict[str, str]:
    return {key: value.string_value for key, value in config.parameters.items()}


def is_alike(loaded: Any, published: Any) -> bool:
    """Whether a loaded model is the one of that config, by what is recorded of its build and by what it asks."""
    return (facts(loaded), calls(loaded)) == (facts(published), calls(published))


def calls(config: Any) -> list[tuple[str, int]]:
    """What an ensemble asks."""
    return [(step.model_name, step.model_version) for step in config.ensemble_scheduling.step]
