"""Running servers, one after the other, to what a repository has published. See docs/rollout.md."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from builder.errors import RepositoryError
from builder.lifecycle import exclusive, intact, queue, server
from builder.repository.served import Served, read_repository
from builder.triton.connection import Access, Connection, connected
from builder.types import Report


@dataclass(frozen=True)
class RolloutOptions:
    models: tuple[str, ...] = ()
    """Names that clients ask; none: all that are published."""
    max_slowdown: float | None = None
    """How many times as long as the old version's the new version's answers may take; None: not looked at."""
    trial: str = "server"
    """Where a candidate is tried: `server`, beside what serves; `process`, a server of its own on this machine."""
    timeout: float = 300.0
    """Seconds for each load."""
    keep_loaded: bool = False
    """Whether the old version stays loaded, for a rollback at once."""
    parallel: int = 1
    """Servers at a time."""
    patience: float = 0.0
    """Seconds for which another rollout to the same server is waited for."""
    warn: Report | None = field(default=None, compare=False)
    """Called with what is to be looked at, though nothing failed; None: `report` is."""


@dataclass(frozen=True)
class Change:
    """One model on one server."""

    model: str
    before: int | None
    """The version that served; None: none did."""
    after: int
    seconds: float


@dataclass(frozen=True)
class Result:
    """What became of one server."""

    url: str
    changes: tuple[Change, ...] = field(default=())
    """Empty: it served what is published already."""


Connect = Callable[[Access], Connection]


def roll_out(
    repository: Path,
    servers: Sequence[Access],
    options: RolloutOptions,
    report: Report = lambda _: None,
    connect: Connect = connected,
) -> list[Result]:
    """Bring the servers to what the repository has published. Raises RolloutError, RepositoryError.

    The first failure ends it; that server serves what it served before, and the servers after it are not touched.
    """
    models = _published(repository, options.models)
    intact.require(repository, models)

    def bring(access: Access, guard: queue.Guard) -> Result:
        def alone() -> Result:
            with exclusive.on_this_machine(repository, access):
                return server.bring(models, access, options, report, connect, guard)

        return exclusive.patiently(alone, options.patience, guard)

    return queue.one_after_the_other(servers, bring, options.parallel)


def _published(repository: Path, names: Sequence[str]) -> list[Served]:
    """What clients ask. Raises RepositoryError."""
    models = {model.name: model for model in read_repository(repository)}
    if unknown := [name for name in names if name not in models]:
        raise RepositoryError(f"{repository} has no {', '.join(unknown)}; it has {', '.join(models)}")
    return [models[name] for name in dict.fromkeys(names)] if names else list(models.values())
